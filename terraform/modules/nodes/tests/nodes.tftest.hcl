mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:123456789012:mlops-test-interruptions" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:us-east-1:123456789012:rule/mlops-test-interruptions-mocked" }
  }
}

override_resource {
  target = aws_iam_role.node
  values = { arn = "arn:aws:iam::123456789012:role/mlops-node" }
}

override_resource {
  target = aws_iam_role.karpenter
  values = { arn = "arn:aws:iam::123456789012:role/mlops-test-karpenter" }
}

override_resource {
  target = aws_iam_role.autoscaler
  values = { arn = "arn:aws:iam::123456789012:role/mlops-test-cluster-autoscaler" }
}

variables {
  name               = "mlops-test"
  cluster_name       = "mlops-test"
  kubernetes_version = "1.35"
  subnet_ids         = ["subnet-0a", "subnet-0b", "subnet-0c"]
  security_group_id  = "sg-0123456789abcdef0"
  gpu_group          = { instance_types = ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"], max_size = 4 }
  tags = {
    owner       = "ml-platform"
    team        = "platform"
    use_case    = "shared"
    environment = "test"
    cost_centre = "1234"
  }
}

run "gpus_are_spot_and_the_system_is_not" {
  assert {
    condition     = aws_eks_node_group.this["gpu"].capacity_type == "SPOT" && aws_eks_node_group.this["system"].capacity_type == "ON_DEMAND"
    error_message = "All of the GPU group is spot, nothing of the system group."
  }
  assert {
    condition     = length(distinct(aws_eks_node_group.this["gpu"].instance_types)) == 3 && aws_eks_node_group.this["gpu"].ami_type == "AL2023_x86_64_NVIDIA"
    error_message = "Several types, and an image with the driver."
  }
  assert {
    condition     = aws_eks_node_group.this["gpu"].scaling_config[0].min_size == 0 && aws_eks_node_group.this["gpu"].scaling_config[0].desired_size == 0 && aws_eks_node_group.this["gpu"].scaling_config[0].max_size == 4
    error_message = "From zero."
  }
  assert {
    condition     = aws_eks_node_group.this["system"].scaling_config[0].min_size == 2
    error_message = "Karpenter's two replicas on two nodes."
  }
}

run "gpu_nodes_are_what_gpu_spot_selects_and_tolerates" {
  assert {
    condition     = aws_eks_node_group.this["gpu"].labels == tomap({ "karpenter.sh/capacity-type" = "spot", "nvidia.com/gpu.present" = "true" })
    error_message = "The profile's node selector."
  }
  assert {
    condition     = [for taint in aws_eks_node_group.this["gpu"].taint : [taint.key, taint.value, taint.effect]] == [["nvidia.com/gpu", "true", "NO_SCHEDULE"]]
    error_message = "The taint that the profile tolerates."
  }
  assert {
    condition     = output.gpu_taints[0].effect == "NoSchedule" && output.gpu_taints[0].key == "nvidia.com/gpu"
    error_message = "Outputs are in Kubernetes' words."
  }
}

run "the_platforms_pods_do_not_land_on_the_system_group" {
  assert {
    condition     = length(aws_eks_node_group.this["system"].taint) == 0 && !can(aws_eks_node_group.this["system"].labels["karpenter.sh/capacity-type"])
    error_message = "No taint for operators, and not the label that the platform's pods select."
  }
}

run "instances_are_closed_encrypted_and_tagged" {
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "IMDSv2, one hop."
  }
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      template.block_device_mappings[0].ebs[0].encrypted == "true" && template.block_device_mappings[0].ebs[0].volume_type == "gp3"
    ])
    error_message = "Encrypted gp3."
  }
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      toset(template.tag_specifications[*].resource_type) == toset(["instance", "volume", "network-interface"])
      && alltrue([for each in template.tag_specifications : each.tags["cost_centre"] == "1234" && each.tags["team"] == "platform"])
    ])
    error_message = "What the bill is told apart by is on instances, volumes and interfaces."
  }
}

run "spot_capacity_can_be_bought_in_an_empty_account" {
  assert {
    condition     = aws_iam_service_linked_role.spot[0].aws_service_name == "spot.amazonaws.com"
    error_message = "EC2 has its role for it."
  }
}

run "a_role_that_is_there_is_left_alone" {
  variables {
    spot_service_role = false
  }
  assert {
    condition     = length(aws_iam_service_linked_role.spot) == 0
    error_message = "AWS has one an account."
  }
}

run "without_a_gpu_group_there_is_nothing_to_scale" {
  variables {
    gpu_group = null
  }
  assert {
    condition     = keys(aws_eks_node_group.this) == ["system"] && length(aws_iam_role.autoscaler) == 0
    error_message = "One group, and no autoscaler's role."
  }
  assert {
    condition     = output.gpu_group_name == null && output.autoscaler_role_arn == null
    error_message = "Outputs say so."
  }
}

run "nodes_may_join_and_pull_images" {
  assert {
    condition     = aws_iam_role.node.name == "mlops-node" && aws_eks_access_entry.node.type == "EC2_LINUX" && aws_eks_access_entry.node.principal_arn == aws_iam_role.node.arn
    error_message = "The role that EC2NodeClass objects name, with an entry of its own."
  }
  assert {
    condition = toset([for attachment in aws_iam_role_policy_attachment.node : attachment.policy_arn]) == toset([
      "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
      "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
    ])
    error_message = "And nothing else."
  }
}

run "karpenter_changes_only_what_is_the_clusters" {
  # What makes, changes or ends something asks for the cluster's tag, on the request or on the resource;
  # what a launch starts from is read, and passing a role names the one role.
  assert {
    condition = alltrue([
      for statement in concat(
        jsondecode(aws_iam_role_policy.karpenter_nodes.policy).Statement,
        jsondecode(aws_iam_role_policy.karpenter_instance_profiles.policy).Statement,
      ) :
      anytrue([
        for key in keys(try(statement.Condition.StringEquals, {})) : endswith(key, "Tag/kubernetes.io/cluster/mlops-test")
      ]) if !contains(["LaunchFrom", "PassTheNodesRole", "Read", "List"], statement.Sid)
    ])
    error_message = "Each of them is bound to the cluster's tag."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.karpenter_nodes.policy).Statement :
      statement.Resource == "arn:aws:iam::123456789012:role/mlops-node" && statement.Condition.StringEquals["iam:PassedToService"] == "ec2.amazonaws.com"
      if statement.Sid == "PassTheNodesRole"
    ])
    error_message = "It hands on the nodes' role, to EC2."
  }
  assert {
    condition = alltrue([
      for action in flatten([
        for policy in [aws_iam_role_policy.karpenter_nodes.policy, aws_iam_role_policy.karpenter_instance_profiles.policy, aws_iam_role_policy.karpenter_reads.policy] :
        [for statement in jsondecode(policy).Statement : statement.Action]
      ]) : !strcontains(action, "*")
    ])
    error_message = "No action by wildcard."
  }
  assert {
    condition = alltrue([
      for action in flatten([
        for policy in [aws_iam_role_policy.karpenter_nodes.policy, aws_iam_role_policy.karpenter_instance_profiles.policy, aws_iam_role_policy.karpenter_reads.policy] :
        [for statement in jsondecode(policy).Statement : statement.Action if contains(flatten([statement.Resource]), "*")]
      ]) : can(regex("^(ec2:Describe|pricing:Get|iam:List)", action))
    ])
    error_message = "On all resources it only reads."
  }
  # IAM's limit for the inline policies of a role.
  assert {
    condition     = length(join("", [aws_iam_role_policy.karpenter_nodes.policy, aws_iam_role_policy.karpenter_instance_profiles.policy, aws_iam_role_policy.karpenter_reads.policy])) < 10240
    error_message = "The role's policies fit."
  }
  assert {
    condition     = aws_eks_pod_identity_association.karpenter.namespace == "kube-system" && aws_eks_pod_identity_association.karpenter.service_account == "karpenter"
    error_message = "One service account has it."
  }
}

run "interruptions_reach_karpenter_and_nobody_else_writes" {
  assert {
    condition     = toset(keys(aws_cloudwatch_event_rule.interruptions)) == toset(["spot", "rebalance", "state", "health"])
    error_message = "Interruptions, recommendations, changes of state, events of health."
  }
  assert {
    condition     = alltrue([for target in aws_cloudwatch_event_target.interruptions : target.arn == aws_sqs_queue.interruptions.arn])
    error_message = "All go to the queue."
  }
  assert {
    condition     = aws_sqs_queue.interruptions.sqs_managed_sse_enabled && output.karpenter_queue_name == "mlops-test-interruptions"
    error_message = "Encrypted."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_sqs_queue_policy.interruptions.policy).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
    ])
    error_message = "TLS only."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_sqs_queue_policy.interruptions.policy).Statement :
      can(statement.Condition.ArnEquals["aws:SourceArn"]) if statement.Effect == "Allow"
    ])
    error_message = "Only these rules write."
  }
}

run "the_autoscaler_scales_the_gpu_group_alone" {
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.autoscaler["gpu"].policy).Statement :
      statement.Condition.StringEquals["aws:ResourceTag/eks:nodegroup-name"] == aws_eks_node_group.this["gpu"].node_group_name
      if statement.Sid == "ScaleTheGroup"
    ])
    error_message = "By the tag that EKS puts on the group."
  }
}

# -- refused ---------------------------------------------------------------------------------------
#
# Several variables a run: each that is expected to be refused has to be.

run "a_gpu_group_without_gpus__one_system_node" {
  command = plan
  variables {
    name         = "MLOps Production"
    gpu_group    = { instance_types = ["g4dn.xlarge", "m6i.xlarge"], max_size = 4 }
    system_group = { min = 1 }
    subnet_ids   = ["subnet-0a"]
    tags         = { owner = "ml-platform" }
  }
  expect_failures = [var.name, var.gpu_group, var.system_group, var.subnet_ids, var.tags]
}

run "an_arm_gpu__a_system_group_with_less_than_its_least" {
  command = plan
  variables {
    gpu_group    = { instance_types = ["g5.xlarge", "g5g.xlarge"], max_size = 4 }
    system_group = { min = 3, max = 2 }
  }
  expect_failures = [var.gpu_group, var.system_group]
}

run "several_gpus_in_a_node__system_nodes_of_another_architecture" {
  command = plan
  variables {
    gpu_group    = { instance_types = ["g4dn.xlarge", "g4dn.12xlarge"], max_size = 4 }
    system_group = { instance_types = ["m7g.large"] }
  }
  expect_failures = [var.gpu_group, var.system_group]
}

run "one_instance_type_on_spot__a_system_disk_too_small" {
  command = plan
  variables {
    gpu_group    = { instance_types = ["g4dn.xlarge"], max_size = 4 }
    system_group = { disk_gib = 8 }
  }
  expect_failures = [var.gpu_group, var.system_group]
}

run "one_instance_type_twice" {
  command = plan
  variables {
    gpu_group = { instance_types = ["g4dn.xlarge", "g4dn.xlarge"], max_size = 4 }
  }
  expect_failures = [var.gpu_group]
}

run "a_gpu_group_that_may_have_no_node" {
  command = plan
  variables {
    gpu_group = { instance_types = ["g4dn.xlarge", "g5.xlarge"], max_size = 0 }
  }
  expect_failures = [var.gpu_group]
}

run "a_disk_that_the_training_image_fills" {
  command = plan
  variables {
    gpu_group = { instance_types = ["g4dn.xlarge", "g5.xlarge"], max_size = 1, disk_gib = 30 }
  }
  expect_failures = [var.gpu_group]
}
