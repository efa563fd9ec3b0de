mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }

  override_resource {
    target          = aws_kms_key.database
    override_during = plan
    values = {
      arn    = "arn:aws:kms:us-east-1:123456789012:key/database"
      key_id = "database"
    }
  }

  override_resource {
    target          = aws_security_group.this
    override_during = plan
    values          = { id = "sg-database" }
  }

  override_resource {
    target          = aws_iam_role.monitoring
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/mlops-test-database-monitoring" }
  }

  override_resource {
    target          = aws_db_instance.this
    override_during = plan
    values = {
      address            = "mlops-test.example.us-east-1.rds.amazonaws.com"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1", kms_key_id = "database", secret_status = "active" }]
    }
  }
}

variables {
  name                      = "mlops-test"
  production                = true
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_ids = ["sg-cluster", "sg-jump"]
  instance_class            = "db.m7g.large"
  storage_gib               = 100
  max_storage_gib           = 500
}

run "it_is_encrypted_with_its_key" {
  command = plan

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == aws_kms_key.database.arn
    error_message = "Storage is not encrypted with the database's key."
  }

  assert {
    condition     = aws_db_instance.this.performance_insights_kms_key_id == aws_kms_key.database.arn
    error_message = "Statements in Performance Insights are not encrypted with the database's key."
  }

  assert {
    condition     = alltrue([for each in aws_cloudwatch_log_group.this : each.kms_key_id == aws_kms_key.database.arn && each.retention_in_days == 90])
    error_message = "Logs are not encrypted with the database's key, or without an end."
  }

  assert {
    condition     = aws_kms_key.database.enable_key_rotation && aws_kms_key.database.deletion_window_in_days == 30
    error_message = "The key is not rotated, or gone before anybody notices."
  }
}

run "no_password_is_in_the_state" {
  command = plan

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.master_user_secret_kms_key_id == aws_kms_key.database.key_id
    error_message = "RDS does not manage the master's password, under the database's key."
  }

  assert {
    condition     = aws_db_instance.this.password == null && aws_db_instance.this.password_wo == null
    error_message = "There is a password."
  }

  assert {
    condition     = output.master_secret_arn == "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1"
    error_message = "The bootstrap is not told where the password is."
  }
}

run "nothing_but_its_clients_reaches_it" {
  command = plan

  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "The internet reaches it."
  }

  assert {
    condition     = toset(aws_vpc_security_group_ingress_rule.clients[*].referenced_security_group_id) == toset(["sg-cluster", "sg-jump"])
    error_message = "Others than the named security groups may connect."
  }

  assert {
    condition = alltrue([
      for each in aws_vpc_security_group_ingress_rule.clients :
      each.cidr_ipv4 == null && each.cidr_ipv6 == null && each.from_port == 5432 && each.to_port == 5432 && each.ip_protocol == "tcp"
    ])
    error_message = "A rule takes an address, or another port than PostgreSQL's."
  }

  assert {
    condition     = { for each in aws_db_parameter_group.this.parameter : each.name => each.value }["rds.force_ssl"] == "1"
    error_message = "Connections without TLS are taken."
  }
}

run "it_survives_a_zone_and_a_mistake" {
  command = plan

  assert {
    condition     = aws_db_instance.this.multi_az
    error_message = "There is no standby."
  }

  assert {
    condition     = aws_db_instance.this.backup_retention_period == 14 && aws_db_instance.this.copy_tags_to_snapshot && !aws_db_instance.this.delete_automated_backups
    error_message = "Backups are missing, or go with the instance."
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == "mlops-test-final"
    error_message = "One call deletes it, or nothing is left."
  }

  assert {
    condition     = aws_db_instance.this.auto_minor_version_upgrade && !aws_db_instance.this.apply_immediately
    error_message = "Security fixes wait for somebody, or changes restart it in the day."
  }

  assert {
    condition     = aws_db_instance.this.storage_type == "gp3" && aws_db_instance.this.max_allocated_storage == 500
    error_message = "Storage is not gp3, or does not grow."
  }
}

run "it_is_seen" {
  command = plan

  assert {
    condition     = toset(aws_db_instance.this.enabled_cloudwatch_logs_exports) == toset(["postgresql", "upgrade"])
    error_message = "Logs stay on the instance."
  }

  assert {
    condition     = toset([for each in aws_cloudwatch_log_group.this : each.name]) == toset(["/aws/rds/instance/mlops-test/postgresql", "/aws/rds/instance/mlops-test/upgrade"])
    error_message = "RDS writes to other log groups."
  }

  assert {
    condition     = aws_db_instance.this.monitoring_interval == 60 && aws_db_instance.this.monitoring_role_arn == aws_iam_role.monitoring.arn
    error_message = "Monitoring is off."
  }
}

run "staging_may_be_small" {
  command = plan

  variables {
    production            = false
    multi_az              = false
    backup_retention_days = 1
    deletion_protection   = false
    instance_class        = "db.t4g.medium"
  }

  assert {
    condition     = !aws_db_instance.this.multi_az && !aws_db_instance.this.deletion_protection
    error_message = "Staging pays for what it does not need."
  }
}

run "production_without_a_standby_is_refused" {
  command = plan
  variables { multi_az = false }
  expect_failures = [var.multi_az]
}

run "production_without_a_week_of_backups_is_refused" {
  command = plan
  variables { backup_retention_days = 6 }
  expect_failures = [var.backup_retention_days]
}

run "production_without_deletion_protection_is_refused" {
  command = plan
  variables { deletion_protection = false }
  expect_failures = [var.deletion_protection]
}

run "no_backups_are_refused_anywhere" {
  command = plan

  variables {
    production            = false
    backup_retention_days = 0
  }

  expect_failures = [var.backup_retention_days]
}

run "an_instance_type_of_ec2_is_refused" {
  command = plan
  variables { instance_class = "m7g.large" }
  expect_failures = [var.instance_class]
}

run "storage_that_cannot_grow_is_refused" {
  command = plan
  variables { max_storage_gib = 100 }
  expect_failures = [var.max_storage_gib]
}

run "one_subnet_is_refused" {
  command = plan
  variables { subnet_ids = ["subnet-1"] }
  expect_failures = [var.subnet_ids]
}

run "an_address_range_as_a_client_is_refused" {
  command = plan
  variables { client_security_group_ids = ["10.0.0.0/8"] }
  expect_failures = [var.client_security_group_ids]
}

run "a_minor_version_is_refused" {
  command = plan
  variables { engine_version = "17.4" }
  expect_failures = [var.engine_version]
}

run "a_log_retention_that_cloudwatch_does_not_have_is_refused" {
  command = plan
  variables { log_retention_days = 100 }
  expect_failures = [var.log_retention_days]
}

run "a_name_that_rds_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "mlops--test"
  }

  expect_failures = [var.name]
}

run "too_little_storage_is_refused" {
  command = plan

  variables {
    storage_gib = 10
  }

  expect_failures = [var.storage_gib]
}

run "a_backup_window_that_is_none_is_refused" {
  command = plan

  variables {
    backup_window = "3 am"
  }

  expect_failures = [var.backup_window]
}

run "a_maintenance_window_without_days_is_refused" {
  command = plan

  variables {
    maintenance_window = "04:30-05:30"
  }

  expect_failures = [var.maintenance_window]
}
