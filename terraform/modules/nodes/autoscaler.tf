# The GPU group stands at zero nodes until somebody scales it: Cluster Autoscaler, where it is
# installed as kube-system/cluster-autoscaler, or a person. EKS tags the group's Auto Scaling group
# for the autoscaler to find, which reads labels and taints of an empty group from EKS.

locals {
  autoscaler = var.gpu_group == null ? {} : { gpu = aws_eks_node_group.this["gpu"] }
}

resource "aws_iam_role" "autoscaler" {
  for_each = local.autoscaler

  name                 = "${var.name}-cluster-autoscaler"
  description          = "Scales the GPU group of the EKS cluster ${var.cluster_name}: kube-system/cluster-autoscaler."
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-arn"            = local.cluster_arn
          "aws:RequestTag/kubernetes-namespace"       = "kube-system"
          "aws:RequestTag/kubernetes-service-account" = "cluster-autoscaler"
        }
      }
    }]
  })
}

resource "aws_eks_pod_identity_association" "autoscaler" {
  for_each = local.autoscaler

  cluster_name    = var.cluster_name
  namespace       = "kube-system"
  service_account = "cluster-autoscaler"
  role_arn        = aws_iam_role.autoscaler[each.key].arn
}

resource "aws_iam_role_policy" "autoscaler" {
  for_each = local.autoscaler

  name = "scale"
  role = aws_iam_role.autoscaler[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ScaleTheGroup"
        Effect   = "Allow"
        Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
        Resource = "arn:${local.partition}:autoscaling:${local.region}:${local.account}:autoScalingGroup:*"
        Condition = {
          StringEquals = {
            "aws:ResourceTag/eks:cluster-name"   = var.cluster_name
            "aws:ResourceTag/eks:nodegroup-name" = each.value.node_group_name
          }
        }
      },
      {
        Sid      = "WhatItsNodesWillBe"
        Effect   = "Allow"
        Action   = "eks:DescribeNodegroup"
        Resource = "arn:${local.partition}:eks:${local.region}:${local.account}:nodegroup/${var.cluster_name}/*"
      },
      {
        # Both services describe everything or nothing.
        Sid    = "WhatThereIs"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeAutoScalingInstances",
          "autoscaling:DescribeLaunchConfigurations",
          "autoscaling:DescribeScalingActivities",
          "autoscaling:DescribeTags",
          "ec2:DescribeImages",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeLaunchTemplateVersions",
          "ec2:GetInstanceTypesFromInstanceRequirements",
        ]
        Resource = "*"
        Condition = {
          StringEquals = { "aws:RequestedRegion" = local.region }
        }
      },
    ]
  })
}
