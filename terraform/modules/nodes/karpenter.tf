# Karpenter's role. It buys nodes for deployments/kubernetes/aws/nodes.yaml; what it makes carries the
# cluster's tag, and what does not carry it, it may neither change nor end.

locals {
  owned = "kubernetes.io/cluster/${var.cluster_name}"
  ec2   = "arn:${local.partition}:ec2:${local.region}"

  # What a launch makes.
  launched = [
    for kind in ["fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume"] :
    "${local.ec2}:*:${kind}/*"
  ]

  instance_profiles = "arn:${local.partition}:iam::${local.account}:instance-profile/*"
}

resource "aws_iam_role" "karpenter" {
  name                 = "${var.name}-karpenter"
  description          = "Karpenter in the EKS cluster ${var.cluster_name}: kube-system/karpenter."
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
          "aws:RequestTag/kubernetes-service-account" = "karpenter"
        }
      }
    }]
  })
}

resource "aws_eks_pod_identity_association" "karpenter" {
  cluster_name    = var.cluster_name
  namespace       = "kube-system"
  service_account = "karpenter"
  role_arn        = aws_iam_role.karpenter.arn
}

# AWS' own role, by which EC2 buys spot capacity: an account that never did so lacks it, and Karpenter
# may not make it.
resource "aws_iam_service_linked_role" "spot" {
  count = var.spot_service_role ? 1 : 0

  aws_service_name = "spot.amazonaws.com"
}

resource "aws_iam_role_policy" "karpenter_nodes" {
  name = "nodes"
  role = aws_iam_role.karpenter.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "LaunchFrom"
        Effect   = "Allow"
        Action   = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*", "${local.ec2}:*:security-group/*", "${local.ec2}:*:subnet/*"]
      },
      {
        Sid      = "LaunchFromItsTemplates"
        Effect   = "Allow"
        Action   = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource = "${local.ec2}:*:launch-template/*"
        Condition = {
          StringEquals = { "aws:ResourceTag/${local.owned}" = "owned" }
          StringLike   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "LaunchTagged"
        Effect   = "Allow"
        Action   = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances"]
        Resource = local.launched
        Condition = {
          StringEquals = {
            "aws:RequestTag/${local.owned}"       = "owned"
            "aws:RequestTag/eks:eks-cluster-name" = var.cluster_name
          }
          StringLike = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "TagAtLaunch"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = local.launched
        Condition = {
          StringEquals = {
            "aws:RequestTag/${local.owned}"       = "owned"
            "aws:RequestTag/eks:eks-cluster-name" = var.cluster_name
            "ec2:CreateAction"                    = ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]
          }
          StringLike = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "NameItsInstances"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = "${local.ec2}:*:instance/*"
        Condition = {
          StringEquals                = { "aws:ResourceTag/${local.owned}" = "owned" }
          StringLike                  = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
          StringEqualsIfExists        = { "aws:RequestTag/eks:eks-cluster-name" = var.cluster_name }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"] }
        }
      },
      {
        Sid      = "EndItsOwn"
        Effect   = "Allow"
        Action   = ["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"]
        Resource = ["${local.ec2}:*:instance/*", "${local.ec2}:*:launch-template/*"]
        Condition = {
          StringEquals = { "aws:ResourceTag/${local.owned}" = "owned" }
          StringLike   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "PassTheNodesRole"
        Effect   = "Allow"
        Action   = "iam:PassRole"
        Resource = aws_iam_role.node.arn
        Condition = {
          StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" }
        }
      },
    ]
  })
}

# EC2NodeClass objects name a role, and Karpenter makes the instance profiles that hold it: one a class,
# gone with it.
resource "aws_iam_role_policy" "karpenter_instance_profiles" {
  name = "instance-profiles"
  role = aws_iam_role.karpenter.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "MakeTagged"
        Effect   = "Allow"
        Action   = "iam:CreateInstanceProfile"
        Resource = local.instance_profiles
        Condition = {
          StringEquals = {
            "aws:RequestTag/${local.owned}"                = "owned"
            "aws:RequestTag/eks:eks-cluster-name"          = var.cluster_name
            "aws:RequestTag/topology.kubernetes.io/region" = local.region
          }
          StringLike = { "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
        }
      },
      {
        Sid      = "TagItsOwn"
        Effect   = "Allow"
        Action   = "iam:TagInstanceProfile"
        Resource = local.instance_profiles
        Condition = {
          StringEquals = {
            "aws:ResourceTag/${local.owned}"                = "owned"
            "aws:ResourceTag/topology.kubernetes.io/region" = local.region
            "aws:RequestTag/${local.owned}"                 = "owned"
            "aws:RequestTag/eks:eks-cluster-name"           = var.cluster_name
            "aws:RequestTag/topology.kubernetes.io/region"  = local.region
          }
          StringLike = {
            "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*"
            "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass"  = "*"
          }
        }
      },
      {
        Sid      = "ChangeItsOwn"
        Effect   = "Allow"
        Action   = ["iam:AddRoleToInstanceProfile", "iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile"]
        Resource = local.instance_profiles
        Condition = {
          StringEquals = {
            "aws:ResourceTag/${local.owned}"                = "owned"
            "aws:ResourceTag/topology.kubernetes.io/region" = local.region
          }
          StringLike = { "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
        }
      },
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = "iam:GetInstanceProfile"
        Resource = local.instance_profiles
      },
      {
        # IAM lists them all or none.
        Sid      = "List"
        Effect   = "Allow"
        Action   = "iam:ListInstanceProfiles"
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_role_policy" "karpenter_reads" {
  name = "reads"
  role = aws_iam_role.karpenter.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # EC2 describes everything or nothing.
        Sid    = "WhatCanBeBought"
        Effect = "Allow"
        Action = [
          "ec2:DescribeCapacityReservations",
          "ec2:DescribeImages",
          "ec2:DescribeInstanceStatus",
          "ec2:DescribeInstanceTypeOfferings",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeInstances",
          "ec2:DescribeLaunchTemplates",
          "ec2:DescribePlacementGroups",
          "ec2:DescribeSecurityGroups",
          "ec2:DescribeSpotPriceHistory",
          "ec2:DescribeSubnets",
        ]
        Resource = "*"
        Condition = {
          StringEquals = { "aws:RequestedRegion" = local.region }
        }
      },
      {
        # Prices have no ARN.
        Sid      = "WhatItCosts"
        Effect   = "Allow"
        Action   = "pricing:GetProducts"
        Resource = "*"
      },
      {
        Sid      = "ImagesByAlias"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = "arn:${local.partition}:ssm:${local.region}::parameter/aws/service/*"
      },
      {
        Sid      = "WhereTheApiIs"
        Effect   = "Allow"
        Action   = "eks:DescribeCluster"
        Resource = local.cluster_arn
      },
      {
        Sid      = "Interruptions"
        Effect   = "Allow"
        Action   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
        Resource = aws_sqs_queue.interruptions.arn
      },
    ]
  })
}
