# Who reads secrets, and who writes them. No pod of the platform does: its pods get them from the
# cluster, from what External Secrets has copied.

locals {
  # The bootstrap fills these: `mlops/dagster-database`, `mlops/mlflow-database`, `mlops/tuning-database`.
  database_secrets = [for name, arn in var.secrets.arns : arn if endswith(name, "-database")]

  external_secrets = [
    {
      Sid      = "ReadSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      Resource = values(var.secrets.arns)
    },
    {
      Sid       = "ReadSecretKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.secrets.key_arn]
      Condition = local.through.secretsmanager
    },
  ]

  database_bootstrap = [
    {
      Sid      = "ReadMaster"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      Resource = [try(var.database.master_secret_arn, null)]
    },
    {
      Sid       = "ReadMasterKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [try(var.database.key_arn, null)]
      Condition = local.through.secretsmanager
    },
    {
      # It reads what is there, and so changes no password that is in use; a new one takes the place
      # of the one before when the database has it.
      Sid    = "KeepPasswords"
      Effect = "Allow"
      Action = [
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecretVersionStage",
      ]
      Resource = local.database_secrets
    },
    {
      Sid       = "UseSecretKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [var.secrets.key_arn]
      Condition = local.through.secretsmanager
    },
  ]
}
