# What every cluster needs, kept current by EKS's add-ons. No EBS driver: no workload of deployments/
# has a volume that outlives its pod.

locals {
  # DaemonSets: there before the first node, so that a node is ready when it comes.
  agents = {
    # Network policies are deployments/kubernetes/guards; without this they are accepted and ignored.
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
    kube-proxy             = null
    eks-pod-identity-agent = null
  }

  # Deployments: ready once a node is.
  services = {
    coredns = null
    # HorizontalPodAutoscalers of endpoints ask it.
    metrics-server = null
  }
}

resource "aws_eks_addon" "agents" {
  for_each = local.agents

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, null)
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  dynamic "pod_identity_association" {
    for_each = each.key == "vpc-cni" ? [aws_iam_role.vpc_cni.arn] : []
    content {
      role_arn        = pod_identity_association.value
      service_account = "aws-node"
    }
  }

  depends_on = [aws_iam_role_policy_attachment.vpc_cni]
}

# Made while the nodes are, which depend on the agents alone: EKS calls an add-on active when its pods
# run, and waits for them.
resource "aws_eks_addon" "services" {
  for_each = local.services

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, null)
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [aws_eks_addon.agents]
}

# The network plugin's rights are its own and not its node's: whoever is on a node does not get them.
resource "aws_iam_role" "vpc_cni" {
  name                 = "${var.name}-vpc-cni"
  description          = "Pods' network interfaces in the EKS cluster ${var.name}: kube-system/aws-node."
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = local.arn
          "aws:RequestTag/kubernetes-namespace"       = "kube-system"
          "aws:RequestTag/kubernetes-service-account" = "aws-node"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "vpc_cni" {
  role       = aws_iam_role.vpc_cni.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonEKS_CNI_Policy"
}
