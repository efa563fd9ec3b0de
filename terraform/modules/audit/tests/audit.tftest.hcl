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
    target          = aws_s3_bucket.trail
    override_during = plan
    values          = { id = "mlops-test-audit", arn = "arn:aws:s3:::mlops-test-audit" }
  }
}

variables {
  name             = "mlops-test"
  retention_days   = 400
  alarm_topic_arns = ["arn:aws:sns:us-east-1:123456789012:mlops-test-alerts"]
  data_events = [
    { bucket_arn = "arn:aws:s3:::mlops-test-ledger", reads = true },
    { bucket_arn = "arn:aws:s3:::mlops-test-artifacts", reads = false },
  ]
}

run "the_trail_is_whole" {
  command = plan

  assert {
    condition     = aws_cloudtrail.this.is_multi_region_trail && aws_cloudtrail.this.include_global_service_events
    error_message = "The trail misses regions or global services."
  }

  assert {
    condition     = aws_cloudtrail.this.enable_log_file_validation
    error_message = "A changed file would not be noticed."
  }

  assert {
    condition = toset(flatten([
      for each in aws_cloudtrail.this.advanced_event_selector : [
        for field in each.field_selector : field.starts_with if field.field == "resources.ARN"
      ]
      ])) == toset([
      "arn:aws:s3:::mlops-test-audit/", "arn:aws:s3:::mlops-test-ledger/", "arn:aws:s3:::mlops-test-artifacts/",
    ])
    error_message = "Other objects' events are recorded than those of the trail and of the named buckets."
  }

  assert {
    condition = alltrue([
      for each in aws_cloudtrail.this.advanced_event_selector : anytrue([
        for field in each.field_selector : field.field == "readOnly" && field.equals == tolist(["true"])
      ]) if strcontains(jsonencode(each), "mlops-test-audit/")
    ])
    error_message = "The trail records its own writes, without end."
  }
}

run "nobody_changes_what_is_recorded" {
  command = plan

  assert {
    condition     = aws_s3_bucket.trail.object_lock_enabled && !aws_s3_bucket.trail.force_destroy
    error_message = "The bucket has no Object Lock, or goes with what is in it."
  }

  assert {
    condition     = one(aws_s3_bucket_object_lock_configuration.trail.rule).default_retention[0].mode == "COMPLIANCE" && one(aws_s3_bucket_object_lock_configuration.trail.rule).default_retention[0].days == 400
    error_message = "Events can be deleted before their time."
  }

  assert {
    condition = (
      aws_s3_bucket_public_access_block.trail.block_public_acls &&
      aws_s3_bucket_public_access_block.trail.block_public_policy &&
      aws_s3_bucket_public_access_block.trail.ignore_public_acls &&
      aws_s3_bucket_public_access_block.trail.restrict_public_buckets
    )
    error_message = "The bucket can be made public."
  }

  assert {
    condition = anytrue([
      for each in jsondecode(aws_s3_bucket_policy.trail.policy).Statement :
      each.Effect == "Deny" && each.Principal == "*" && each.Action == "s3:*" && try(each.Condition.Bool["aws:SecureTransport"] == "false", false)
    ])
    error_message = "The bucket answers without TLS."
  }

  assert {
    condition = alltrue([
      for each in jsondecode(aws_s3_bucket_policy.trail.policy).Statement :
      each.Condition.StringEquals["aws:SourceArn"] == "arn:aws:cloudtrail:us-east-1:123456789012:trail/mlops-test"
      if each.Effect == "Allow"
    ])
    error_message = "Another account's trail may write here."
  }

  assert {
    condition     = aws_kms_key.audit.enable_key_rotation && aws_kms_key.audit.deletion_window_in_days == 30
    error_message = "The key is not rotated, or goes too soon."
  }
}

run "alarms_tell_somebody" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.watched) == 6
    error_message = "An alarm is missing."
  }

  assert {
    condition = alltrue([
      for each in aws_cloudwatch_metric_alarm.watched : each.alarm_actions == toset(["arn:aws:sns:us-east-1:123456789012:mlops-test-alerts"])
    ])
    error_message = "An alarm tells nobody."
  }

  assert {
    condition     = aws_cloudwatch_log_group.trail.retention_in_days == 365
    error_message = "Events are kept in CloudWatch for ever, or not at all."
  }
}

run "a_short_retention_is_refused" {
  command = plan

  variables {
    retention_days = 30
  }

  expect_failures = [var.retention_days]
}

run "an_unknown_mode_is_refused" {
  command = plan

  variables {
    object_lock_mode = "NONE"
  }

  expect_failures = [var.object_lock_mode]
}

run "a_retention_that_cloudwatch_does_not_know_is_refused" {
  command = plan

  variables {
    log_retention_days = 100
  }

  expect_failures = [var.log_retention_days]
}

run "a_path_in_place_of_a_bucket_is_refused" {
  command = plan

  variables {
    data_events = [{ bucket_arn = "arn:aws:s3:::mlops-test-ledger/tables", reads = true }]
  }

  expect_failures = [var.data_events]
}

run "a_name_that_no_bucket_can_have_is_refused" {
  command = plan

  variables {
    name = "MLOps_Production"
  }

  expect_failures = [var.name]
}
