# Places for secrets, with who may never read them. What is in them never comes here: the database
# bootstrap and people put it, and Terraform's state would show it to whoever plans.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account = data.aws_caller_identity.this.account_id
  root    = "arn:${data.aws_partition.this.partition}:iam::${local.account}:root"
}

# IAM says who of the account may use the key, this policy how: through Secrets Manager, in this
# region, and in no other way. In a key's policy the resource * is the key itself.
resource "aws_kms_key" "secrets" {
  description             = "${var.name}: secrets"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administration"
        Effect    = "Allow"
        Principal = { AWS = local.root }
        Action = [
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
        Resource = "*"
      },
      {
        Sid       = "UseThroughSecretsManager"
        Effect    = "Allow"
        Principal = { AWS = local.root }
        Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = {
          StringEquals = { "kms:ViaService" = "secretsmanager.${data.aws_region.this.name}.amazonaws.com" }
        }
      },
    ]
  })
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/${var.name}-secrets"
  target_key_id = aws_kms_key.secrets.key_id
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:passwords of databases are changed by the database bootstrap, the others by who runs the service that they are for
  for_each = var.names

  name                    = each.value
  description             = lookup(local.descriptions, each.value, "See deployments/README.md")
  kms_key_id              = aws_kms_key.secrets.arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_policy" "this" {
  for_each = var.names

  secret_arn          = aws_secretsmanager_secret.this[each.value].arn
  block_public_policy = true

  # In a secret's policy * is this secret.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "secretsmanager:*"
        Resource  = "*"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "AccountOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "secretsmanager:*"
        Resource  = "*"
        Condition = { StringNotEquals = { "aws:PrincipalAccount" = local.account } }
      },
    ]
  })
}

locals {
  descriptions = {
    "mlops/dagster-database" = "Dagster's database: `password`"
    "mlops/mlflow-database"  = "MLflow's database: `uri`"
    "mlops/tuning-database"  = "Optuna's studies: `uri`"
    "mlops/environment"      = "Environment variables of runs and sensors: each property one"
  }
}
