# What no role of a workload may exceed, whatever policy somebody attaches to it: the platform's own
# stores, keys only through them, and no right over identities. CI's apply role makes roles of
# workloads with this boundary or not at all.

locals {
  boundary_arn = var.permissions_boundary_arn != null ? var.permissions_boundary_arn : one(aws_iam_policy.boundary[*].arn)

  boundary = concat(
    [
      {
        Sid    = "Objects"
        Effect = "Allow"
        Action = concat(["s3:ListBucket", "s3:GetObject", "s3:DeleteObject"], local.put)
        Resource = flatten([
          for arn in concat(values(var.buckets)[*].arn, var.source_bucket_arns) : [arn, "${arn}/*"]
        ])
      },
      {
        # Entries of the ledger are for ever. A policy of the bucket cannot allow it either.
        Sid    = "KeepLedger"
        Effect = "Deny"
        Action = [
          "s3:BypassGovernanceRetention",
          "s3:DeleteObject",
          "s3:DeleteObjectVersion",
          "s3:PutObjectLegalHold",
          "s3:PutObjectRetention",
        ]
        Resource = ["${local.ledger}/*"]
      },
      {
        Sid    = "KeysThroughStores"
        Effect = "Allow"
        Action = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = concat(
          [var.lake_key_arn, var.secrets.key_arn],
          [for each in [var.online_store, var.events, var.alerts, var.database] : each.key_arn if each != null],
        )
        Condition = {
          StringEquals = { "kms:ViaService" = [for each in values(local.through) : each.StringEquals["kms:ViaService"]] }
        }
      },
      {
        Sid    = "Secrets"
        Effect = "Allow"
        Action = [
          "secretsmanager:DescribeSecret",
          "secretsmanager:GetSecretValue",
          "secretsmanager:PutSecretValue",
          "secretsmanager:UpdateSecretVersionStage",
        ]
        Resource = concat(
          values(var.secrets.arns),
          [for each in [var.database] : each.master_secret_arn if each != null],
        )
      },
    ],
    [
      for each in [local.publish_features[0]] : merge(each, { Sid = "OnlineFeatures" }) if var.online_store != null
    ],
    [for each in [local.receive_events[0]] : merge(each, { Sid = "Events" }) if var.events != null],
    [for each in [local.publish_alerts[0]] : merge(each, { Sid = "Alerts" }) if var.alerts != null],
    [
      for each in concat(local.see_sagemaker, local.deploy_sagemaker, local.sagemaker_only) : each
      if var.sagemaker != null
    ],
  )
}

resource "aws_iam_policy" "boundary" {
  count = var.permissions_boundary_arn == null ? 1 : 0

  name        = "${var.name}-workloads"
  path        = "/mlops/"
  description = "Permissions boundary: what no workload's role may exceed"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.boundary })
}
