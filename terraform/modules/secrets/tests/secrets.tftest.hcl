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

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/secrets" }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mlops/one-AbCdEf" }
  }
}

variables {
  name = "mlops-test"
}

run "each_secret_is_encrypted_and_can_come_back" {
  command = apply

  assert {
    condition = toset(keys(output.arns)) == toset([
      "mlops/dagster-database", "mlops/environment", "mlops/mlflow-database", "mlops/tuning-database",
    ])
    error_message = "Other secrets are there than those that deployments/ reads."
  }

  assert {
    condition     = alltrue([for each in aws_secretsmanager_secret.this : each.kms_key_id == aws_kms_key.secrets.arn && each.recovery_window_in_days == 30])
    error_message = "A secret is under another key, or lost as soon as it is deleted."
  }

  assert {
    condition     = aws_kms_key.secrets.enable_key_rotation && aws_kms_key.secrets.deletion_window_in_days == 30
    error_message = "The key is not rotated, or lost too soon."
  }
}

run "nobody_without_tls_or_of_another_account_gets_at_them" {
  command = plan

  assert {
    condition = alltrue([
      for each in aws_secretsmanager_secret_policy.this : each.block_public_policy && join(", ", [
        for statement in jsondecode(each.policy).Statement : "${statement.Effect} ${statement.Sid}"
      ]) == "Deny TlsOnly, Deny AccountOnly"
    ])
    error_message = "A secret's policy does not deny what it has to, or allows something."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.secrets.policy).Statement :
      statement.Condition.StringEquals["kms:ViaService"] == "secretsmanager.us-east-1.amazonaws.com"
      if contains(statement.Action, "kms:Decrypt")
    ])
    error_message = "The key decrypts by other ways than Secrets Manager."
  }
}

run "names_that_secrets_manager_would_confuse_are_refused" {
  command = plan

  variables {
    names = ["mlops/first-second"]
  }

  expect_failures = [var.names]
}

run "names_of_others_are_refused" {
  command = plan

  variables {
    names = ["billing/bank"]
  }

  expect_failures = [var.names]
}

run "no_secret_at_all_is_refused" {
  command = plan

  variables {
    names = []
  }

  expect_failures = [var.names]
}

run "a_secret_that_is_lost_at_once_is_refused" {
  command = plan

  variables {
    recovery_days = 0
  }

  expect_failures = [var.recovery_days]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "MLOps"
  }

  expect_failures = [var.name]
}
