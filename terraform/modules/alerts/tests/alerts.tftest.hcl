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
    target          = aws_sns_topic.alerts
    override_during = plan
    values          = { arn = "arn:aws:sns:us-east-1:123456789012:mlops-test-alerts" }
  }

  override_resource {
    target          = aws_kms_key.alerts
    override_during = plan
    values          = { arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111", key_id = "11111111-1111-1111-1111-111111111111" }
  }
}

variables {
  name                    = "mlops-test"
  emails                  = ["on-call@example.com"]
  database                = { instance_id = "mlops-test", free_storage_gib = 20, max_connections = 300 }
  cluster_name            = "mlops-test"
  queue_names             = ["mlops-test-events"]
  dead_letter_queue_names = ["mlops-test-events-dead"]
  nat_gateway_ids         = ["nat-1", "nat-2"]
  log_retention_days      = 90
}

run "everything_below_dagster_is_watched" {
  command = plan

  assert {
    condition = join(", ", keys(aws_cloudwatch_metric_alarm.this)) == join(", ", [
      "cluster-errors", "cluster-storage", "cluster-unschedulable",
      "database-connections", "database-cpu", "database-memory", "database-storage",
      "dead-letters-mlops-test-events-dead", "nat-ports-0", "nat-ports-1", "queue-age-mlops-test-events",
    ])
    error_message = "Another set of alarms than expected: ${join(", ", keys(aws_cloudwatch_metric_alarm.this))}"
  }

  assert {
    condition = alltrue([
      for each in aws_cloudwatch_metric_alarm.this :
      each.alarm_actions == toset([aws_sns_topic.alerts.arn]) && length(each.alarm_description) > 20
    ])
    error_message = "An alarm tells nobody, or not what to do."
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["database-storage"].comparison_operator == "LessThanThreshold" &&
      aws_cloudwatch_metric_alarm.this["database-storage"].threshold == 20 * 1024 * 1024 * 1024 &&
      aws_cloudwatch_metric_alarm.this["database-cpu"].comparison_operator == "GreaterThanThreshold"
    )
    error_message = "An alarm is the wrong way round."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-cpu"].treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.this["queue-age-mlops-test-events"].treat_missing_data == "notBreaching"
    error_message = "A silent database is no alarm, or an empty queue is one."
  }
}

run "the_topic_is_encrypted_and_closed" {
  command = plan

  assert {
    condition     = aws_sns_topic.alerts.kms_master_key_id == aws_kms_key.alerts.arn && aws_kms_key.alerts.enable_key_rotation
    error_message = "The topic is not encrypted with our key."
  }

  assert {
    condition = alltrue([
      for each in jsondecode(aws_sns_topic_policy.alerts.policy).Statement :
      try(each.Principal.AWS == "arn:aws:iam::123456789012:root", false) || try(each.Condition.StringEquals["aws:SourceAccount"] == "123456789012", false)
      if each.Effect == "Allow"
    ])
    error_message = "Somebody outside the account may publish."
  }

  assert {
    condition = anytrue([
      for each in jsondecode(aws_sns_topic_policy.alerts.policy).Statement :
      each.Effect == "Deny" && try(each.Condition.Bool["aws:SecureTransport"] == "false", false)
    ])
    error_message = "The topic takes messages without TLS."
  }

  assert {
    condition     = [for each in aws_sns_topic_subscription.email : each.endpoint] == ["on-call@example.com"]
    error_message = "Somebody else is told."
  }
}

run "logs_end" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_log_group.pods) == 4 && alltrue([for each in aws_cloudwatch_log_group.pods : each.retention_in_days == 90 && each.kms_key_id == aws_kms_key.alerts.arn])
    error_message = "Pods' logs are kept for ever, or without a key."
  }
}

run "what_is_not_there_is_not_watched" {
  command = plan

  variables {
    database                = null
    cluster_name            = null
    queue_names             = []
    dead_letter_queue_names = []
    nat_gateway_ids         = []
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) == 0 && length(aws_cloudwatch_log_group.pods) == 0
    error_message = "Something is watched that nobody named."
  }
}

run "a_word_in_place_of_an_address_is_refused" {
  command = plan

  variables {
    emails = ["on-call"]
  }

  expect_failures = [var.emails]
}

run "an_alarm_at_no_free_storage_is_refused" {
  command = plan

  variables {
    database = { instance_id = "mlops-test", free_storage_gib = 0, max_connections = 300 }
  }

  expect_failures = [var.database]
}

run "a_retention_that_cloudwatch_does_not_know_is_refused" {
  command = plan

  variables {
    log_retention_days = 100
  }

  expect_failures = [var.log_retention_days]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "MLOps"
  }

  expect_failures = [var.name]
}
