mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  override_resource {
    target          = aws_s3_bucket.state
    override_during = plan
    values          = { id = "mlops-staging-terraform", arn = "arn:aws:s3:::mlops-staging-terraform" }
  }
}

variables {
  environment = "staging"
  region      = "us-east-1"
  account_id  = "123456789012"
  tags = {
    owner = "platform@example.com", team = "platform", use_case = "shared", cost_centre = "1000", repository = "example/mlops"
  }
}

run "the_state_is_kept_closed" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "mlops-staging-terraform" && aws_kms_alias.state.name == "alias/mlops-staging-terraform"
    error_message = "backend.tf names another bucket or key."
  }

  assert {
    condition     = aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "A spoiled state could not be gone back from."
  }

  assert {
    condition = (
      aws_s3_bucket_public_access_block.state.block_public_acls &&
      aws_s3_bucket_public_access_block.state.block_public_policy &&
      aws_s3_bucket_public_access_block.state.ignore_public_acls &&
      aws_s3_bucket_public_access_block.state.restrict_public_buckets
    )
    error_message = "The state can be made public."
  }

  assert {
    condition     = aws_kms_key.state.enable_key_rotation
    error_message = "The key is not rotated."
  }

  assert {
    condition = anytrue([
      for each in jsondecode(aws_s3_bucket_policy.state.policy).Statement :
      each.Effect == "Deny" && try(each.Condition.Bool["aws:SecureTransport"] == "false", false)
    ])
    error_message = "The bucket answers without TLS."
  }
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    environment = "test"
  }

  expect_failures = [var.environment]
}

run "an_account_that_is_none_is_refused" {
  command = plan

  variables {
    account_id = "my-account"
  }

  expect_failures = [var.account_id]
}
