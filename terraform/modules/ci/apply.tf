# What apply changes, beside what it reads: the resources of terraform/modules, by name where they
# have one. Nothing of what is stored: it reads no secret, no object but the state, no item.

locals {
  here = { StringEquals = { "aws:RequestedRegion" = local.region } }

  apply = {
    state = [
      local.list_states,
      {
        Sid      = "KeepState"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = [local.state_object]
      },
      {
        Sid      = "Lock"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        Resource = ["${local.state_object}.tflock"]
      },
      merge(local.read_state_key, { Sid = "UseStateKey", Action = ["kms:Decrypt", "kms:GenerateDataKey"] }),
    ]

    network = [
      {
        # Ids of networks are given when they are made: a policy cannot name them before.
        Sid    = "ChangeNetwork"
        Effect = "Allow"
        Action = [
          "ec2:AllocateAddress",
          "ec2:AssociateRouteTable",
          "ec2:AttachInternetGateway",
          "ec2:AuthorizeSecurityGroupEgress",
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:CreateFlowLogs",
          "ec2:CreateInternetGateway",
          "ec2:CreateLaunchTemplate",
          "ec2:CreateLaunchTemplateVersion",
          "ec2:CreateNatGateway",
          "ec2:CreateRoute",
          "ec2:CreateRouteTable",
          "ec2:CreateSecurityGroup",
          "ec2:CreateSubnet",
          "ec2:CreateTags",
          "ec2:CreateVpc",
          "ec2:CreateVpcEndpoint",
          "ec2:DeleteFlowLogs",
          "ec2:DeleteInternetGateway",
          "ec2:DeleteLaunchTemplate",
          "ec2:DeleteLaunchTemplateVersions",
          "ec2:DeleteNatGateway",
          "ec2:DeleteRoute",
          "ec2:DeleteRouteTable",
          "ec2:DeleteSecurityGroup",
          "ec2:DeleteSubnet",
          "ec2:DeleteTags",
          "ec2:DeleteVpc",
          "ec2:DeleteVpcEndpoints",
          "ec2:DetachInternetGateway",
          "ec2:DisassociateAddress",
          "ec2:DisassociateRouteTable",
          "ec2:ModifyLaunchTemplate",
          "ec2:ModifySecurityGroupRules",
          "ec2:ModifySubnetAttribute",
          "ec2:ModifyVpcAttribute",
          "ec2:ModifyVpcEndpoint",
          "ec2:ReleaseAddress",
          "ec2:ReplaceRoute",
          "ec2:RevokeSecurityGroupEgress",
          "ec2:RevokeSecurityGroupIngress",
          # EKS tries a group's launch template with the rights of who makes the group.
          "ec2:RunInstances",
          "ec2:UpdateSecurityGroupRuleDescriptionsEgress",
          "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
          "logs:CreateLogDelivery",
          "logs:DeleteLogDelivery",
        ]
        Resource  = ["*"]
        Condition = local.here
      },
    ]

    stores = [
      {
        Sid    = "ChangeBuckets"
        Effect = "Allow"
        Action = [
          "s3:CreateBucket",
          "s3:DeleteBucketPolicy",
          "s3:PutBucket*",
          "s3:PutEncryptionConfiguration",
          "s3:PutLifecycleConfiguration",
          "s3:PutReplicationConfiguration",
        ]
        Resource = local.named.s3
      },
      {
        # The state's bucket is called like the others, and is the bootstrap's.
        Sid      = "LeaveStates"
        Effect   = "Deny"
        Action   = ["s3:DeleteBucket*", "s3:PutBucket*", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration"]
        Resource = [var.state.bucket_arn]
      },
      {
        Sid    = "ChangeTables"
        Effect = "Allow"
        Action = [
          "dynamodb:CreateTable",
          "dynamodb:TagResource",
          "dynamodb:UntagResource",
          "dynamodb:UpdateContinuousBackups",
          "dynamodb:UpdateTable",
          "dynamodb:UpdateTimeToLive",
        ]
        Resource = local.named.dynamodb
      },
      {
        Sid    = "ChangeDatabases"
        Effect = "Allow"
        Action = [
          "rds:AddTagsToResource",
          "rds:CreateDBInstance",
          "rds:CreateDBParameterGroup",
          "rds:CreateDBSubnetGroup",
          "rds:DeleteDBParameterGroup",
          "rds:DeleteDBSubnetGroup",
          "rds:ModifyDBInstance",
          "rds:ModifyDBParameterGroup",
          "rds:ModifyDBSubnetGroup",
          "rds:RebootDBInstance",
          "rds:RemoveTagsFromResource",
          "rds:ResetDBParameterGroup",
        ]
        Resource = local.named.databases
      },
      {
        # RDS makes the master user's secret with the rights of who makes the database.
        Sid      = "LetRdsKeepSecret"
        Effect   = "Allow"
        Action   = ["secretsmanager:CreateSecret", "secretsmanager:TagResource"]
        Resource = ["${local.arns}:secretsmanager:${local.region}:${local.account}:secret:rds!*"]
      },
      {
        Sid    = "ChangeSecretsSettings"
        Effect = "Allow"
        Action = [
          "secretsmanager:CreateSecret",
          "secretsmanager:DeleteResourcePolicy",
          "secretsmanager:PutResourcePolicy",
          "secretsmanager:RestoreSecret",
          "secretsmanager:TagResource",
          "secretsmanager:UntagResource",
          "secretsmanager:UpdateSecret",
          "secretsmanager:ValidateResourcePolicy",
        ]
        Resource = local.named.secrets
      },
      {
        # A new key has no name and no tag to go by; what it is for stands in its policy.
        Sid       = "MakeKeys"
        Effect    = "Allow"
        Action    = ["kms:CreateKey"]
        Resource  = ["*"]
        Condition = { Bool = { "kms:BypassPolicyLockoutSafetyCheck" = "false" } }
      },
      {
        # Settings of keys; what they encrypt is for workloads alone.
        Sid    = "ChangeKeys"
        Effect = "Allow"
        Action = [
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:EnableKeyRotation",
          "kms:PutKeyPolicy",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Resource = concat(local.named.keys, local.named.aliases)
      },
      {
        # RDS, DynamoDB and EKS use a key by a grant that they ask for in the name of who makes the
        # resource.
        Sid       = "LetServicesUseKeys"
        Effect    = "Allow"
        Action    = ["kms:CreateGrant"]
        Resource  = local.named.keys
        Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
      },
      {
        # The master user's secret and the table are encrypted in the name of who makes them. Neither
        # the secret nor an item can be read with that alone.
        Sid      = "LetRdsEncryptSecret"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = local.named.keys
        Condition = {
          StringEquals = { "kms:ViaService" = "secretsmanager.${local.region}.amazonaws.com" }
          StringLike = {
            "kms:EncryptionContext:SecretARN" = "${local.arns}:secretsmanager:${local.region}:${local.account}:secret:rds!*"
          }
        }
      },
      {
        Sid      = "LetDynamoEncryptTables"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = local.named.keys
        Condition = {
          StringEquals = { "kms:ViaService" = "dynamodb.${local.region}.amazonaws.com" }
          StringLike   = { "kms:EncryptionContext:aws:dynamodb:tableName" = "${var.name}-*" }
        }
      },
    ]

    cluster = [
      {
        Sid    = "ChangeCluster"
        Effect = "Allow"
        Action = [
          "eks:AssociateAccessPolicy",
          "eks:AssociateEncryptionConfig",
          "eks:CreateAccessEntry",
          "eks:CreateAddon",
          "eks:CreateCluster",
          "eks:CreateNodegroup",
          "eks:CreatePodIdentityAssociation",
          "eks:DeleteAccessEntry",
          "eks:DeleteAddon",
          "eks:DeleteNodegroup",
          "eks:DeletePodIdentityAssociation",
          "eks:DisassociateAccessPolicy",
          "eks:TagResource",
          "eks:UntagResource",
          "eks:UpdateAccessEntry",
          "eks:UpdateAddon",
          "eks:UpdateClusterConfig",
          "eks:UpdateClusterVersion",
          "eks:UpdateNodegroupConfig",
          "eks:UpdateNodegroupVersion",
          "eks:UpdatePodIdentityAssociation",
        ]
        Resource = local.named.clusters
      },
      {
        Sid    = "ChangeRepositories"
        Effect = "Allow"
        Action = [
          "ecr:CreateRepository",
          "ecr:DeleteLifecyclePolicy",
          "ecr:DeleteRepositoryPolicy",
          "ecr:PutImageScanningConfiguration",
          "ecr:PutImageTagMutability",
          "ecr:PutLifecyclePolicy",
          "ecr:SetRepositoryPolicy",
          "ecr:TagResource",
          "ecr:UntagResource",
        ]
        Resource = local.named.images
      },
      {
        Sid    = "ChangeQueuesAndTopics"
        Effect = "Allow"
        Action = [
          "sns:CreateTopic",
          "sns:DeleteTopic",
          "sns:SetTopicAttributes",
          "sns:Subscribe",
          "sns:TagResource",
          "sns:Unsubscribe",
          "sns:UntagResource",
          "sqs:CreateQueue",
          "sqs:DeleteQueue",
          "sqs:SetQueueAttributes",
          "sqs:TagQueue",
          "sqs:UntagQueue",
        ]
        Resource = concat(local.named.queues, local.named.topics)
      },
    ]

    watches = [
      {
        Sid    = "ChangeWatches"
        Effect = "Allow"
        Action = [
          "budgets:ModifyBudget",
          "budgets:TagResource",
          "budgets:UntagResource",
          "cloudtrail:AddTags",
          "cloudtrail:CreateTrail",
          "cloudtrail:PutEventSelectors",
          "cloudtrail:RemoveTags",
          "cloudtrail:StartLogging",
          "cloudtrail:UpdateTrail",
          "cloudwatch:DeleteAlarms",
          "cloudwatch:PutMetricAlarm",
          "cloudwatch:TagResource",
          "cloudwatch:UntagResource",
          "events:DeleteRule",
          "events:PutRule",
          "events:PutTargets",
          "events:RemoveTargets",
          "events:TagResource",
          "events:UntagResource",
          "logs:AssociateKmsKey",
          "logs:CreateLogGroup",
          "logs:DeleteMetricFilter",
          "logs:PutMetricFilter",
          "logs:PutRetentionPolicy",
          "logs:TagResource",
          "logs:UntagResource",
        ]
        Resource = concat(local.named.trails, local.named.alarms, local.named.rules, local.named.budgets, local.named.logs)
      },
      {
        # These take no resource, or one with an id that is given when it is made.
        Sid    = "ChangeAccountWatches"
        Effect = "Allow"
        Action = [
          "access-analyzer:CreateAnalyzer",
          "access-analyzer:TagResource",
          "access-analyzer:UntagResource",
          "ce:CreateAnomalyMonitor",
          "ce:CreateAnomalySubscription",
          "ce:TagResource",
          "ce:UntagResource",
          "ce:UpdateAnomalyMonitor",
          "ce:UpdateAnomalySubscription",
          "config:PutConfigurationRecorder",
          "config:PutDeliveryChannel",
          "config:StartConfigurationRecorder",
          "logs:PutResourcePolicy",
        ]
        Resource = ["*"]
      },
    ]

    identities = local.apply_identities
  }
}
