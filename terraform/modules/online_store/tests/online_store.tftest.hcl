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
    target          = aws_kms_key.online
    override_during = plan
    values          = { arn = "arn:aws:kms:us-east-1:123456789012:key/online" }
  }
}

variables {
  name = "mlops-test"
}

run "the_table_is_what_the_store_expects" {
  command = plan

  assert {
    condition     = output.table_name == "mlops-test-online"
    error_message = "The overlays name the table <name>-online."
  }

  assert {
    condition     = aws_dynamodb_table.online.hash_key == "pk" && aws_dynamodb_table.online.range_key == "sk"
    error_message = "The store's keys are pk and sk."
  }

  assert {
    condition     = { for each in aws_dynamodb_table.online.attribute : each.name => each.type } == { pk = "S", sk = "B" }
    error_message = "pk is a string, sk is binary."
  }

  assert {
    condition     = aws_dynamodb_table.online.billing_mode == "PAY_PER_REQUEST"
    error_message = "Publishing comes in bursts that no provisioned capacity fits."
  }
}

run "what_is_in_it_is_kept_and_encrypted" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.online.deletion_protection_enabled
    error_message = "The table can be deleted."
  }

  assert {
    condition     = one(aws_dynamodb_table.online.point_in_time_recovery).enabled && one(aws_dynamodb_table.online.point_in_time_recovery).recovery_period_in_days == 35
    error_message = "The table cannot be restored."
  }

  assert {
    condition     = one(aws_dynamodb_table.online.server_side_encryption).kms_key_arn == aws_kms_key.online.arn
    error_message = "The table is not encrypted with its key."
  }

  assert {
    condition     = aws_kms_key.online.enable_key_rotation && aws_kms_key.online.deletion_window_in_days == 30
    error_message = "The key is not rotated, or gone before anybody notices."
  }
}

run "the_key_works_through_dynamodb_alone" {
  command = plan

  assert {
    condition = alltrue([
      for each in jsondecode(aws_kms_key.online.policy).Statement :
      try(each.Condition.StringEquals["kms:ViaService"], "") == "dynamodb.us-east-1.amazonaws.com"
      if contains(flatten([each.Action]), "kms:Decrypt")
    ])
    error_message = "Somebody may decrypt with the key without DynamoDB."
  }
}

run "more_days_than_dynamodb_keeps_are_refused" {
  command = plan
  variables { recovery_days = 36 }
  expect_failures = [var.recovery_days]
}

run "a_name_that_aws_would_refuse_is_refused_first" {
  command = plan
  variables { name = "MLOps production" }
  expect_failures = [var.name]
}
