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
    target          = aws_kms_key.events
    override_during = plan
    values          = { arn = "arn:aws:kms:us-east-1:123456789012:key/events" }
  }

  override_resource {
    target          = aws_sqs_queue.new_data
    override_during = plan
    values          = { arn = "arn:aws:sqs:us-east-1:123456789012:mlops-test-new-data" }
  }

  override_resource {
    target          = aws_sqs_queue.dead_letter
    override_during = plan
    values          = { arn = "arn:aws:sqs:us-east-1:123456789012:mlops-test-new-data-dead" }
  }
}

variables {
  name         = "mlops-test"
  bucket_names = ["mlops-test-lake"]
  prefixes     = ["landing/", "partners/"]
}

run "only_new_objects_of_the_named_folders_are_announced" {
  command = plan

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.new_data.event_pattern) == {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail = {
        bucket = { name = ["mlops-test-lake"] }
        object = { key = [{ prefix = "landing/" }, { prefix = "partners/" }] }
      }
    }
    error_message = "The rule takes other events."
  }

  assert {
    condition     = aws_cloudwatch_event_target.queue.arn == aws_sqs_queue.new_data.arn && one(aws_cloudwatch_event_target.queue.dead_letter_config).arn == aws_sqs_queue.dead_letter.arn
    error_message = "Events go elsewhere, or are lost when they cannot be delivered."
  }
}

run "what_is_not_handled_is_kept" {
  command = plan

  assert {
    condition     = jsondecode(aws_sqs_queue.new_data.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dead_letter.arn, maxReceiveCount = 5 }
    error_message = "A message that is not understood comes again for ever."
  }

  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letter.redrive_allow_policy) == { redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.new_data.arn] }
    error_message = "Other queues may fill the dead-letter queue."
  }

  # A message that moves keeps the time at which it was sent.
  assert {
    condition     = aws_sqs_queue.new_data.message_retention_seconds == 4 * 86400 && aws_sqs_queue.dead_letter.message_retention_seconds == 14 * 86400
    error_message = "The dead-letter queue forgets before somebody looks."
  }
}

run "the_queues_are_encrypted_and_take_messages_of_one_rule" {
  command = plan

  assert {
    condition     = aws_sqs_queue.new_data.kms_master_key_id == aws_kms_key.events.arn && aws_sqs_queue.dead_letter.kms_master_key_id == aws_kms_key.events.arn
    error_message = "A queue is not encrypted with the key that EventBridge may use."
  }

  assert {
    condition = alltrue([
      for policy in [aws_sqs_queue_policy.new_data.policy, aws_sqs_queue_policy.dead_letter.policy] : alltrue([
        for each in jsondecode(policy).Statement :
        each.Principal == { Service = "events.amazonaws.com" } && each.Condition.ArnEquals["aws:SourceArn"] == "arn:aws:events:us-east-1:123456789012:rule/mlops-test-new-data"
        if each.Effect == "Allow"
      ])
    ])
    error_message = "Somebody else than the rule may send."
  }

  assert {
    condition = alltrue([
      for policy in [aws_sqs_queue_policy.new_data.policy, aws_sqs_queue_policy.dead_letter.policy] : anytrue([
        for each in jsondecode(policy).Statement :
        each.Effect == "Deny" && each.Principal == "*" && each.Condition == { Bool = { "aws:SecureTransport" = "false" } }
      ])
    ])
    error_message = "A queue answers without TLS."
  }

  assert {
    condition = anytrue([
      for each in jsondecode(aws_kms_key.events.policy).Statement :
      try(each.Principal.Service, "") == "events.amazonaws.com" && toset(each.Action) == toset(["kms:Decrypt", "kms:GenerateDataKey"])
    ])
    error_message = "EventBridge cannot encrypt for the queues: every event would be lost."
  }

  assert {
    condition     = aws_kms_key.events.enable_key_rotation && aws_kms_key.events.deletion_window_in_days == 30
    error_message = "The key is not rotated, or gone before anybody notices."
  }
}

run "no_prefix_is_refused" {
  command = plan
  variables { prefixes = [] }
  expect_failures = [var.prefixes]
}

run "a_prefix_that_is_no_folder_is_refused" {
  command = plan
  variables { prefixes = ["/landing"] }
  expect_failures = [var.prefixes]
}

run "an_address_in_place_of_a_bucket_is_refused" {
  command = plan
  variables { bucket_names = ["s3://mlops-test-lake"] }
  expect_failures = [var.bucket_names]
}

run "keeping_longer_than_the_dead_letter_queue_is_refused" {
  command = plan
  variables { retention_days = 14 }
  expect_failures = [var.retention_days]
}

run "one_try_is_refused" {
  command = plan
  variables { max_receive_count = 1 }
  expect_failures = [var.max_receive_count]
}

run "a_name_that_sqs_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "MLOps test"
  }

  expect_failures = [var.name]
}

run "no_time_to_handle_an_event_is_refused" {
  command = plan

  variables {
    visibility_timeout_seconds = 0
  }

  expect_failures = [var.visibility_timeout_seconds]
}
