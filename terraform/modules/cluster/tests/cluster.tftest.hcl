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
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mlops-test-mocked" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn                   = "arn:aws:eks:us-east-1:123456789012:cluster/mlops-test"
      endpoint              = "https://mlops-test.example.com"
      certificate_authority = [{ data = "bWxvcHM=" }]
      vpc_config            = { cluster_security_group_id = "sg-0123456789abcdef0" }
    }
  }
}

variables {
  name               = "mlops-test"
  kubernetes_version = "1.35"
  subnet_ids         = ["subnet-0a", "subnet-0b", "subnet-0c"]
  access_entries = {
    platform = {
      principal_arn = "arn:aws:iam::123456789012:role/platform-engineer"
      policy        = "AmazonEKSClusterAdminPolicy"
    }
  }
}

run "the_api_is_private" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Reached from inside the VPC alone."
  }
}

run "the_api_is_open_to_named_addresses" {
  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && tolist(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == tolist(["203.0.113.0/24"])
    error_message = "To those, and to nobody else."
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "Nodes stay on the private endpoint."
  }
}

run "secrets_and_logs_are_encrypted_and_kept" {
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn && contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets")
    error_message = "Secrets, with the module's key."
  }
  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key rotates, and cannot be lost in less than 30 days."
  }
  assert {
    condition     = toset(aws_eks_cluster.this.enabled_cluster_log_types) == toset(["api", "audit", "authenticator", "controllerManager", "scheduler"])
    error_message = "All five kinds of logs."
  }
  assert {
    condition     = aws_cloudwatch_log_group.control_plane.name == "/aws/eks/mlops-test/cluster" && aws_cloudwatch_log_group.control_plane.retention_in_days == 365 && aws_cloudwatch_log_group.control_plane.kms_key_id == aws_kms_key.this.arn
    error_message = "In the group that EKS writes to, for a year, encrypted."
  }
}

run "only_access_entries_let_anyone_in" {
  variables {
    access_entries = {
      platform = {
        principal_arn = "arn:aws:iam::123456789012:role/platform-engineer"
        policy        = "AmazonEKSClusterAdminPolicy"
      }
      team = {
        principal_arn = "arn:aws:iam::123456789012:role/team"
        namespaces    = ["mlops-runs"]
      }
    }
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "No aws-auth, and nothing for whoever applied first."
  }
  assert {
    condition     = aws_eks_access_policy_association.this["team"].access_scope[0].type == "namespace" && aws_eks_access_policy_association.this["team"].policy_arn == "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    error_message = "A team sees its namespaces, unless more is said."
  }
  assert {
    condition     = aws_eks_access_policy_association.this["platform"].access_scope[0].type == "cluster"
    error_message = "An entry without namespaces holds everywhere."
  }
}

run "add_ons_are_ours" {
  variables {
    addon_versions = { coredns = "v1.12.4-eksbuild.1" }
  }
  assert {
    condition     = !aws_eks_cluster.this.bootstrap_self_managed_addons && aws_eks_cluster.this.upgrade_policy[0].support_type == "STANDARD"
    error_message = "None that EKS installs once and forgets, and no extended support."
  }
  assert {
    condition     = toset(concat(keys(aws_eks_addon.agents), keys(aws_eks_addon.services))) == toset(["vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns", "metrics-server"])
    error_message = "What deployments/ needs, and nothing else."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.agents["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies are enforced."
  }
  assert {
    condition     = aws_eks_addon.services["coredns"].addon_version == "v1.12.4-eksbuild.1"
    error_message = "A version that is named is taken."
  }
  assert {
    condition     = one(aws_eks_addon.agents["vpc-cni"].pod_identity_association).service_account == "aws-node"
    error_message = "The network plugin has a role of its own, and nodes have none of its rights."
  }
}

run "karpenter_finds_the_security_group" {
  assert {
    condition     = aws_ec2_tag.discovery.key == "karpenter.sh/discovery" && aws_ec2_tag.discovery.value == "mlops" && aws_ec2_tag.discovery.resource_id == output.security_group_id
    error_message = "EKS's own group carries the tag that node classes select by."
  }
}

run "roles_are_taken_by_who_they_are_for" {
  assert {
    condition     = jsondecode(aws_iam_role.cluster.assume_role_policy).Statement[0].Condition.ArnLike["aws:SourceArn"] == "arn:aws:eks:us-east-1:123456789012:cluster/mlops-test"
    error_message = "EKS takes the control plane's role for this cluster only."
  }
  assert {
    condition     = jsondecode(aws_iam_role.vpc_cni.assume_role_policy).Statement[0].Condition.StringEquals["aws:RequestTag/kubernetes-service-account"] == "aws-node"
    error_message = "One service account takes the network plugin's role."
  }
}

# -- refused ---------------------------------------------------------------------------------------
#
# Several variables a run: each that is expected to be refused has to be.

run "the_world__one_subnet__a_patch__nobody_who_administers" {
  command = plan
  variables {
    name                = "MLOps Production"
    public_access_cidrs = ["0.0.0.0/0"]
    subnet_ids          = ["subnet-0a"]
    kubernetes_version  = "1.35.2"
    access_entries      = { team = { principal_arn = "arn:aws:iam::123456789012:role/team" } }
    addon_versions      = { aws-ebs-csi-driver = "v1.44.0-eksbuild.1" }
    log_retention_days  = 7
  }
  expect_failures = [var.name, var.public_access_cidrs, var.subnet_ids, var.kubernetes_version, var.access_entries, var.addon_versions, var.log_retention_days]
}

run "the_world_in_two_halves__one_subnet_twice__a_version_out_of_support__an_administrator_of_one_namespace" {
  command = plan
  variables {
    public_access_cidrs = ["0.0.0.0/1", "128.0.0.0/1"]
    subnet_ids          = ["subnet-0a", "subnet-0a"]
    kubernetes_version  = "1.29"
    addon_versions      = { coredns = "1.12" }
    access_entries = {
      team = { principal_arn = "arn:aws:iam::123456789012:role/team", policy = "AmazonEKSClusterAdminPolicy", namespaces = ["mlops-runs"] }
    }
  }
  expect_failures = [var.public_access_cidrs, var.subnet_ids, var.kubernetes_version, var.addon_versions, var.access_entries]
}

run "an_address_that_is_no_range__a_session_in_place_of_a_role" {
  command = plan
  variables {
    public_access_cidrs = ["203.0.113.7"]
    access_entries = {
      me = { principal_arn = "arn:aws:sts::123456789012:assumed-role/platform-engineer/me", policy = "AmazonEKSClusterAdminPolicy" }
    }
  }
  expect_failures = [var.public_access_cidrs, var.access_entries]
}

run "one_principal_twice" {
  command = plan
  variables {
    access_entries = {
      platform = { principal_arn = "arn:aws:iam::123456789012:role/platform-engineer", policy = "AmazonEKSClusterAdminPolicy" }
      again    = { principal_arn = "arn:aws:iam::123456789012:role/platform-engineer" }
    }
  }
  expect_failures = [var.access_entries]
}

run "a_policy_that_eks_has_not" {
  command = plan
  variables {
    access_entries = {
      platform = { principal_arn = "arn:aws:iam::123456789012:role/platform-engineer", policy = "AmazonEKSClusterAdminPolicy" }
      team     = { principal_arn = "arn:aws:iam::123456789012:role/team", policy = "AdministratorAccess" }
    }
  }
  expect_failures = [var.access_entries]
}
