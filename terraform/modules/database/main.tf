# One PostgreSQL for Dagster, MLflow and Optuna's studies: three databases with a role each, which
# deployments/database makes. Connections come by TLS, from the named security groups.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
  region  = data.aws_region.current.name
  logs    = toset(["postgresql", "upgrade"])
}

resource "aws_db_instance" "this" {
  identifier = var.name

  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  multi_az       = var.multi_az

  # The master makes roles and databases (deployments/database) and is nobody's else. Its password is
  # RDS's own: in no state, and another one each week.
  username                      = "mlops"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.database.key_id
  # For people, who come with a token of their own name and no password.
  iam_database_authentication_enabled = true

  storage_type          = "gp3"
  allocated_storage     = var.storage_gib
  max_allocated_storage = var.max_storage_gib
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.database.arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  port                   = 5432
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period = var.backup_retention_days
  backup_window           = var.backup_window
  copy_tags_to_snapshot   = true
  # What a deletion leaves: the last snapshot, and the backups for as long as they were to be kept.
  delete_automated_backups  = false
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-final"
  deletion_protection       = var.deletion_protection

  maintenance_window          = var.maintenance_window
  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = var.allow_major_version_upgrade
  # A change that restarts the database waits for the window.
  apply_immediately = false

  enabled_cloudwatch_logs_exports       = local.logs
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.database.arn
  performance_insights_retention_period = 7
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.monitoring.arn

  # RDS makes log groups that are missing, without an end and without our key.
  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy_attachment.monitoring]
}

resource "aws_db_parameter_group" "this" {
  # A new major version needs another group, while the old one is in use.
  name_prefix = "${var.name}-"
  family      = "postgres${var.engine_version}"
  description = "${var.name}: TLS only, changes and slow statements logged"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # The bootstrap sends no password in a statement, only what the server would make of it.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  # Milliseconds.
  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  parameter {
    name  = "log_connections"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# -- who reaches it ----------------------------------------------------------------------------------

resource "aws_db_subnet_group" "this" {
  name        = "${var.name}-database"
  description = "${var.name}: private subnets of the database"
  subnet_ids  = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL of ${var.name}"
  vpc_id      = var.vpc_id
}

# No rule for what goes out: a database calls nobody.
resource "aws_vpc_security_group_ingress_rule" "clients" {
  # By place: identifiers that are not known yet are no keys.
  count = length(var.client_security_group_ids)

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.client_security_group_ids[count.index]
  description                  = "PostgreSQL from the cluster"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

# -- what is seen of it ------------------------------------------------------------------------------

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:How long is the environment's choice; who did what is CloudTrail's
  for_each = local.logs

  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.database.arn
}

resource "aws_iam_role" "monitoring" {
  name                 = "${var.name}-database-monitoring"
  description          = "RDS writes what the instance's operating system does to CloudWatch"
  permissions_boundary = var.permissions_boundary_arn
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "${local.arn}:rds:${local.region}:${local.account}:db:${var.name}" }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "${local.arn}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}
