# IAM says who may use the key, this policy how: through S3, in this region, and in no other way.

locals {
  key_administration = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
  ]

  key_policy = {
    for region in toset([data.aws_region.current.name, data.aws_region.replica.name]) : region => jsonencode({
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "Administration"
          Effect    = "Allow"
          Principal = { AWS = "${local.arn}:iam::${local.account}:root" }
          Action    = local.key_administration
          Resource  = "*"
        },
        {
          Sid       = "UseThroughS3"
          Effect    = "Allow"
          Principal = { AWS = "${local.arn}:iam::${local.account}:root" }
          Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
          Resource  = "*"
          Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.amazonaws.com" } }
        },
      ]
    })
  }
}

resource "aws_kms_key" "lake" {
  description             = "${var.name}: lake, artifacts, logs, ledger"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = local.key_policy[data.aws_region.current.name]
}

resource "aws_kms_alias" "lake" {
  name          = "alias/${var.name}-lake"
  target_key_id = aws_kms_key.lake.key_id
}
