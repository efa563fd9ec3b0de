# What apply may do to identities, so that it cannot make itself, or anything, mightier than it is:
# roles exist with one of two permissions boundaries or not at all, and CI's own are out of reach.

locals {
  boundaries = [
    "${local.arns}:iam::${local.account}:policy/mlops/${var.name}-workloads",
    "${local.arns}:iam::${local.account}:policy${local.path}${var.name}-infrastructure",
  ]

  apply_identities = [
    {
      Sid       = "MakeBoundedRoles"
      Effect    = "Allow"
      Action    = ["iam:CreateRole", "iam:PutRolePermissionsBoundary"]
      Resource  = local.named.roles
      Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundaries } }
    },
    {
      Sid       = "GiveBoundedRolesRights"
      Effect    = "Allow"
      Action    = ["iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:PutRolePolicy"]
      Resource  = local.named.roles
      Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundaries } }
    },
    {
      Sid      = "AttachKnownPolicies"
      Effect   = "Allow"
      Action   = ["iam:AttachRolePolicy"]
      Resource = local.named.roles
      Condition = {
        StringEquals = { "iam:PermissionsBoundary" = local.boundaries }
        ArnLike = {
          "iam:PolicyARN" = concat(local.named.role_policies, [
            "${local.arns}:iam::aws:policy/AmazonEKS*",
            "${local.arns}:iam::aws:policy/AmazonEC2ContainerRegistry*",
            "${local.arns}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole",
          ])
        }
      }
    },
    {
      Sid    = "ChangeRoles"
      Effect = "Allow"
      Action = [
        "iam:DeleteRole",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
        "iam:UpdateRoleDescription",
      ]
      Resource = local.named.roles
    },
    {
      Sid    = "ChangePolicies"
      Effect = "Allow"
      Action = [
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion",
        "iam:DeletePolicy",
        "iam:DeletePolicyVersion",
        "iam:TagPolicy",
        "iam:UntagPolicy",
      ]
      Resource = local.named.role_policies
    },
    {
      Sid    = "ChangeInstanceProfiles"
      Effect = "Allow"
      Action = [
        "iam:AddRoleToInstanceProfile",
        "iam:CreateInstanceProfile",
        "iam:DeleteInstanceProfile",
        "iam:RemoveRoleFromInstanceProfile",
        "iam:TagInstanceProfile",
      ]
      Resource = local.named.profiles
    },
    {
      Sid      = "GiveServicesTheirRoles"
      Effect   = "Allow"
      Action   = ["iam:PassRole"]
      Resource = local.named.roles
      Condition = {
        StringEquals = {
          "iam:PassedToService" = [
            "cloudtrail.amazonaws.com",
            "config.amazonaws.com",
            "ec2.amazonaws.com",
            "eks.amazonaws.com",
            "monitoring.rds.amazonaws.com",
            "pods.eks.amazonaws.com",
            "s3.amazonaws.com",
            "vpc-flow-logs.amazonaws.com",
          ]
        }
      }
    },
    {
      # Roles that AWS' services make for themselves, with AWS' own policy.
      Sid      = "LetServicesMakeTheirRoles"
      Effect   = "Allow"
      Action   = ["iam:CreateServiceLinkedRole"]
      Resource = ["${local.arns}:iam::${local.account}:role/aws-service-role/*"]
      Condition = {
        StringEquals = {
          "iam:AWSServiceName" = [
            "access-analyzer.amazonaws.com",
            "autoscaling.amazonaws.com",
            "config.amazonaws.com",
            "eks-nodegroup.amazonaws.com",
            "eks.amazonaws.com",
            "rds.amazonaws.com",
            "spot.amazonaws.com",
          ]
        }
      }
    },
    {
      Sid      = "LeaveBoundaries"
      Effect   = "Deny"
      Action   = ["iam:CreatePolicy*", "iam:DeletePolicy*", "iam:SetDefaultPolicyVersion"]
      Resource = local.boundaries
    },
    {
      Sid      = "KeepBounded"
      Effect   = "Deny"
      Action   = ["iam:DeleteRolePermissionsBoundary"]
      Resource = ["${local.arns}:iam::${local.account}:role/*"]
    },
    {
      Sid    = "LeaveCi"
      Effect = "Deny"
      Action = [
        "iam:Add*", "iam:Attach*", "iam:Create*", "iam:Delete*", "iam:Detach*", "iam:PassRole",
        "iam:Put*", "iam:Remove*", "iam:Set*", "iam:Tag*", "iam:Untag*", "iam:Update*",
      ]
      Resource = concat(local.named.ci, ["${local.arns}:iam::${local.account}:oidc-provider/*"])
    },
  ]
}

# What no role of the infrastructure may exceed: the cluster's, nodes', Karpenter's, flow logs', the
# trail's, replication's. A boundary gives no right; it bounds AWS' own policies, which take every
# resource.
resource "aws_iam_policy" "infrastructure" {
  #checkov:skip=CKV_AWS_355:a boundary gives no right
  #checkov:skip=CKV_AWS_288:a boundary gives no right
  #checkov:skip=CKV_AWS_289:a boundary gives no right
  #checkov:skip=CKV_AWS_290:a boundary gives no right
  #checkov:skip=CKV_AWS_287:a boundary gives no right
  name        = "${var.name}-infrastructure"
  path        = local.path
  description = "Permissions boundary: what no role of the infrastructure may exceed"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Machines"
        Effect = "Allow"
        Action = [
          "autoscaling:Describe*",
          "autoscaling:SetDesiredCapacity",
          "autoscaling:TerminateInstanceInAutoScalingGroup",
          "autoscaling:UpdateAutoScalingGroup",
          "ec2:As*",
          "ec2:Attach*",
          "ec2:AuthorizeSecurityGroup*",
          "ec2:Create*",
          "ec2:Delete*",
          "ec2:Describe*",
          "ec2:Detach*",
          "ec2:Get*",
          "ec2:Modify*",
          "ec2:RevokeSecurityGroup*",
          "ec2:RunInstances",
          "ec2:TerminateInstances",
          "ec2:Unassign*",
          "eks-auth:AssumeRoleForPodIdentity",
          "eks:Describe*",
          "elasticloadbalancing:Describe*",
          "pricing:GetProducts",
          "ssm:GetParameter",
        ]
        Resource = ["*"]
      },
      {
        Sid    = "Images"
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:BatchGetImage",
          "ecr:GetAuthorizationToken",
          "ecr:GetDownloadUrlForLayer",
        ]
        Resource = ["*"]
      },
      {
        Sid    = "LogsAndMessages"
        Effect = "Allow"
        Action = [
          "cloudwatch:PutMetricData",
          "logs:Create*",
          "logs:Describe*",
          "logs:GetLogEvents",
          "logs:PutLogEvents",
          "logs:PutRetentionPolicy",
          "sqs:DeleteMessage",
          "sqs:GetQueueAttributes",
          "sqs:GetQueueUrl",
          "sqs:ReceiveMessage",
          "sqs:SendMessage",
        ]
        Resource = ["*"]
      },
      {
        Sid    = "Replication"
        Effect = "Allow"
        Action = [
          "s3:GetObjectLegalHold",
          "s3:GetObjectRetention",
          "s3:GetObjectVersion*",
          "s3:GetReplicationConfiguration",
          "s3:ListBucket",
          "s3:Replicate*",
        ]
        Resource = local.named.s3
      },
      {
        Sid    = "Keys"
        Effect = "Allow"
        Action = [
          "kms:CreateGrant",
          "kms:Decrypt",
          "kms:DescribeKey",
          "kms:Encrypt",
          "kms:GenerateDataKey*",
          "kms:ListGrants",
          "kms:ReEncrypt*",
        ]
        Resource = local.named.keys
      },
      {
        # Karpenter makes the profile of the nodes' role.
        Sid    = "NodeProfiles"
        Effect = "Allow"
        Action = [
          "iam:AddRoleToInstanceProfile",
          "iam:CreateInstanceProfile",
          "iam:DeleteInstanceProfile",
          "iam:GetInstanceProfile",
          "iam:ListInstanceProfiles",
          "iam:RemoveRoleFromInstanceProfile",
          "iam:TagInstanceProfile",
        ]
        Resource = ["${local.arns}:iam::${local.account}:instance-profile/*"]
      },
      {
        Sid       = "NodeRole"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = local.named.roles
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
    ]
  })
}
