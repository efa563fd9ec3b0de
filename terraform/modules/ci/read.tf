# What a plan reads: how things are set, never what is in them. No object of a bucket, no secret, no
# item, no message, no log line; of the state alone what is in it.

locals {
  # By name where the service names things so.
  named = {
    s3       = ["${local.arns}:s3:::${var.name}-*"]
    dynamodb = ["${local.arns}:dynamodb:*:${local.account}:table/${var.name}-*"]
    secrets  = ["${local.arns}:secretsmanager:${local.region}:${local.account}:secret:mlops/*"]
    queues   = ["${local.arns}:sqs:${local.region}:${local.account}:${var.name}-*"]
    topics   = ["${local.arns}:sns:${local.region}:${local.account}:${var.name}-*"]
    rules    = ["${local.arns}:events:${local.region}:${local.account}:rule/${var.name}-*"]
    trails   = ["${local.arns}:cloudtrail:*:${local.account}:trail/${var.name}*"]
    alarms   = ["${local.arns}:cloudwatch:${local.region}:${local.account}:alarm:${var.name}-*"]
    images   = ["${local.arns}:ecr:${local.region}:${local.account}:repository/*"]
    clusters = [
      "${local.arns}:eks:${local.region}:${local.account}:cluster/${var.name}",
      "${local.arns}:eks:${local.region}:${local.account}:*/${var.name}/*",
    ]
    databases = [
      for kind in ["db", "subgrp", "pg", "og", "snapshot", "secgrp"] :
      "${local.arns}:rds:${local.region}:${local.account}:${kind}:${var.name}*"
    ]
    logs = [
      for prefix in ["/${var.name}", "/aws/containerinsights/${var.name}", "/aws/eks/${var.name}", "/aws/rds/instance/${var.name}", "/aws/vpc/${var.name}"] :
      "${local.arns}:logs:${local.region}:${local.account}:log-group:${prefix}/*"
    ]
    budgets = ["${local.arns}:budgets::${local.account}:budget/${var.name}*"]
    keys    = ["${local.arns}:kms:*:${local.account}:key/*"]
    aliases = ["${local.arns}:kms:*:${local.account}:alias/${var.name}-*"]
    roles = [
      "${local.arns}:iam::${local.account}:role/${var.name}-*",
      "${local.arns}:iam::${local.account}:role/mlops/${var.name}-*",
      "${local.arns}:iam::${local.account}:role/mlops-node",
    ]
    role_policies = [
      "${local.arns}:iam::${local.account}:policy/${var.name}-*",
      "${local.arns}:iam::${local.account}:policy/mlops/${var.name}-*",
    ]
    profiles = ["${local.arns}:iam::${local.account}:instance-profile/${var.name}-*"]
    ci = [
      "${local.arns}:iam::${local.account}:role${local.path}*",
      "${local.arns}:iam::${local.account}:policy${local.path}*",
    ]
  }

  read = {
    read = [
      {
        Sid    = "ReadBuckets"
        Effect = "Allow"
        # GetBucket* is of settings alone. ListBucket is how the provider asks whether a bucket is there.
        Action = [
          "s3:GetAccelerateConfiguration",
          "s3:GetBucket*",
          "s3:GetEncryptionConfiguration",
          "s3:GetIntelligentTieringConfiguration",
          "s3:GetInventoryConfiguration",
          "s3:GetLifecycleConfiguration",
          "s3:GetMetricsConfiguration",
          "s3:GetReplicationConfiguration",
          "s3:ListBucket",
        ]
        Resource = local.named.s3
      },
      {
        Sid    = "ReadTables"
        Effect = "Allow"
        Action = [
          "dynamodb:DescribeContinuousBackups",
          "dynamodb:DescribeTable",
          "dynamodb:DescribeTimeToLive",
          "dynamodb:GetResourcePolicy",
          "dynamodb:ListTagsOfResource",
        ]
        Resource = local.named.dynamodb
      },
      {
        Sid      = "ReadSecretsSettings"
        Effect   = "Allow"
        Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy"]
        Resource = local.named.secrets
      },
      {
        Sid      = "ReadQueuesAndTopics"
        Effect   = "Allow"
        Action   = ["sns:GetTopicAttributes", "sns:ListTagsForResource", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags"]
        Resource = concat(local.named.queues, local.named.topics)
      },
      {
        Sid    = "ReadWatches"
        Effect = "Allow"
        Action = [
          "cloudtrail:GetEventSelectors",
          "cloudtrail:GetInsightSelectors",
          "cloudtrail:GetTrail",
          "cloudtrail:GetTrailStatus",
          "cloudtrail:ListTags",
          "cloudwatch:ListTagsForResource",
          "events:DescribeRule",
          "events:ListTagsForResource",
          "events:ListTargetsByRule",
          "budgets:ListTagsForResource",
          "budgets:ViewBudget",
          "logs:ListTagsForResource",
        ]
        Resource = concat(local.named.trails, local.named.alarms, local.named.rules, local.named.budgets, local.named.logs)
      },
      {
        Sid    = "ReadImages"
        Effect = "Allow"
        Action = [
          "ecr:DescribeRepositories",
          "ecr:GetLifecyclePolicy",
          "ecr:GetRepositoryPolicy",
          "ecr:ListTagsForResource",
        ]
        Resource = local.named.images
      },
    ]

    read-machines = [
      {
        Sid      = "ReadClusters"
        Effect   = "Allow"
        Action   = ["eks:Describe*", "eks:List*"]
        Resource = local.named.clusters
      },
      {
        Sid      = "ReadKeys"
        Effect   = "Allow"
        Action   = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags"]
        Resource = local.named.keys
      },
      {
        Sid    = "ReadIdentities"
        Effect = "Allow"
        Action = [
          "iam:GetInstanceProfile",
          "iam:GetPolicy",
          "iam:GetPolicyVersion",
          "iam:GetRole",
          "iam:GetRolePolicy",
          "iam:ListAttachedRolePolicies",
          "iam:ListInstanceProfilesForRole",
          "iam:ListPolicyVersions",
          "iam:ListRolePolicies",
        ]
        Resource = concat(
          local.named.roles, local.named.role_policies, local.named.profiles, local.named.ci,
          # AWS' own policies, and the roles that its services make for themselves.
          ["${local.arns}:iam::aws:policy/*", "${local.arns}:iam::${local.account}:role/aws-service-role/*"],
        )
      },
      {
        Sid      = "ReadProvider"
        Effect   = "Allow"
        Action   = ["iam:GetOpenIDConnectProvider"]
        Resource = ["${local.arns}:iam::${local.account}:oidc-provider/${local.issuer}"]
      },
      {
        # These take no resource, or list what there is: none of them tells more than settings.
        Sid    = "ListSettings"
        Effect = "Allow"
        Action = [
          "access-analyzer:GetAnalyzer",
          "access-analyzer:ListArchiveRules",
          "access-analyzer:ListTagsForResource",
          "autoscaling:DescribeAutoScalingGroups",
          "ce:GetAnomalyMonitors",
          "ce:GetAnomalySubscriptions",
          "ce:ListTagsForResource",
          "cloudtrail:DescribeTrails",
          "cloudwatch:DescribeAlarms",
          "config:DescribeConfigurationRecorders",
          "config:DescribeConfigurationRecorderStatus",
          "config:DescribeDeliveryChannels",
          "ec2:Describe*",
          "ec2:GetManagedPrefixListEntries",
          "eks:DescribeAddonVersions",
          "kms:ListAliases",
          "logs:DescribeLogGroups",
          "logs:DescribeMetricFilters",
          "logs:DescribeResourcePolicies",
          "rds:Describe*",
          "rds:ListTagsForResource",
          "sns:GetSubscriptionAttributes",
        ]
        Resource = ["*"]
      },
    ]
  }

  state_object = "${var.state.bucket_arn}/${var.state.object}"

  list_states = {
    # Without it S3 calls a state or a lock that is not there forbidden.
    Sid      = "ListStates"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = [var.state.bucket_arn]
  }

  read_state_key = {
    Sid       = "ReadStateKey"
    Effect    = "Allow"
    Action    = ["kms:Decrypt"]
    Resource  = [var.state.key_arn]
    Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } }
  }

  # Without the lock (`plan -lock=false`): whoever may take it may hold it, or take away an apply's.
  plan_state = [
    local.list_states,
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = [local.state_object]
    },
    local.read_state_key,
  ]

  push = [
    {
      Sid    = "PushImages"
      Effect = "Allow"
      Action = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:DescribeImages",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
      ]
      Resource = var.registry_arns
    },
    {
      # A token is of the account, not of a repository: ECR takes no resource here.
      Sid      = "LogIn"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    },
  ]
}
