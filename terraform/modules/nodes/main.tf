data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name

  cluster_arn = "arn:${local.partition}:eks:${local.region}:${local.account}:cluster/${var.cluster_name}"

  # One agreement with the profile gpu_spot (mlops_assets/compute.yaml) and Karpenter's pool gpu-spot
  # (deployments/kubernetes/aws/nodes.yaml).
  gpu_labels = { "karpenter.sh/capacity-type" = "spot", "nvidia.com/gpu.present" = "true" }
  gpu_taints = [{ key = "nvidia.com/gpu", value = "true", effect = "NoSchedule" }]

  groups = {
    for name, group in {
      # No taint: add-ons and operators tolerate none. No label that the platform's pods select either
      # (karpenter.sh/capacity-type), so that these stay on Karpenter's nodes.
      system = {
        capacity_type   = "ON_DEMAND"
        ami_type        = "AL2023_x86_64_STANDARD"
        release_version = var.system_group.release_version
        instance_types  = var.system_group.instance_types
        min             = var.system_group.min
        max             = var.system_group.max
        disk_gib        = var.system_group.disk_gib
        labels          = {}
        taints          = []
      }
      gpu = var.gpu_group == null ? null : {
        capacity_type = "SPOT"
        # With NVIDIA's driver.
        ami_type        = "AL2023_x86_64_NVIDIA"
        release_version = var.gpu_group.release_version
        instance_types  = var.gpu_group.instance_types
        min             = 0
        max             = var.gpu_group.max_size
        disk_gib        = var.gpu_group.disk_gib
        labels          = local.gpu_labels
        taints          = local.gpu_taints
      }
    } : name => group if group != null
  }

  # The EKS API's words for Kubernetes' own.
  taint_effects = { NoSchedule = "NO_SCHEDULE" }
}

resource "aws_launch_template" "this" {
  for_each = local.groups

  name                   = "${var.name}-${each.key}"
  description            = "Nodes of the group ${each.key} of the EKS cluster ${var.cluster_name}."
  update_default_version = true
  vpc_security_group_ids = [var.security_group_id]

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # One hop: pods do not reach their node's credentials.
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = each.value.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  # The provider's default tags reach the template, and not what is made from it.
  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = "${var.name}-${each.key}" })
    }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = local.groups

  cluster_name           = var.cluster_name
  node_group_name_prefix = "${each.key}-"
  node_role_arn          = aws_iam_role.node.arn
  subnet_ids             = var.subnet_ids

  # The control plane's version first, then the nodes': never the other way.
  version         = var.kubernetes_version
  release_version = each.value.release_version
  ami_type        = each.value.ami_type
  capacity_type   = each.value.capacity_type
  instance_types  = each.value.instance_types
  labels          = each.value.labels

  launch_template {
    id      = aws_launch_template.this[each.key].id
    version = aws_launch_template.this[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.min
    desired_size = each.value.min
    max_size     = each.value.max
  }

  update_config {
    max_unavailable = 1
  }

  node_repair_config {
    enabled = true
  }

  dynamic "taint" {
    for_each = each.value.taints
    content {
      key    = taint.value.key
      value  = taint.value.value
      effect = local.taint_effects[taint.value.effect]
    }
  }

  lifecycle {
    # Another instance type means another group: the new one stands before the old one goes.
    create_before_destroy = true
    # Whoever scales the group decides how many.
    ignore_changes = [scaling_config[0].desired_size]
  }

  # EKS makes an access entry for a group's role where there is none, and Terraform could not make its
  # own any more. Without the policies a node never joins.
  depends_on = [aws_eks_access_entry.node, aws_iam_role_policy_attachment.node]
}

# -- the role of every node, of these groups and of Karpenter's -------------------------------------

resource "aws_iam_role" "node" {
  name                 = var.node_role_name
  description          = "Nodes of the EKS cluster ${var.cluster_name}."
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

# Join the cluster and pull images; the network plugin and everything else has a role of its own.
resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.key}"
}

resource "aws_eks_access_entry" "node" {
  cluster_name  = var.cluster_name
  principal_arn = aws_iam_role.node.arn
  type          = "EC2_LINUX"
}
