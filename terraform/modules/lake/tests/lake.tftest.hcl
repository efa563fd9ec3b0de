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
    target          = aws_kms_key.lake
    override_during = plan
    values          = { arn = "arn:aws:kms:us-east-1:123456789012:key/lake" }
  }

  override_resource {
    target          = aws_s3_bucket.access
    override_during = plan
    values          = { id = "mlops-test-access" }
  }
}

mock_provider "aws" {
  alias = "replica"

  mock_data "aws_region" {
    defaults = { name = "us-west-2" }
  }

  override_resource {
    target          = aws_kms_key.replica
    override_during = plan
    values          = { arn = "arn:aws:kms:us-west-2:123456789012:key/replica" }
  }
}

variables {
  name = "mlops-test"
}

run "the_buckets_are_the_ones_that_deployments_name" {
  command = plan

  assert {
    condition = { for kind, bucket in aws_s3_bucket.data : kind => bucket.bucket } == {
      lake      = "mlops-test-lake"
      artifacts = "mlops-test-artifacts"
      logs      = "mlops-test-logs"
      ledger    = "mlops-test-ledger"
    }
    error_message = "The overlays name the buckets <name>-lake, -artifacts, -logs, -ledger."
  }

  assert {
    condition     = alltrue([for each in aws_s3_bucket.data : !each.force_destroy]) && !aws_s3_bucket.access.force_destroy
    error_message = "A bucket that is not empty would be destroyed."
  }

  assert {
    condition     = aws_s3_bucket_notification.lake.eventbridge
    error_message = "New data announces itself to nobody."
  }
}

run "all_is_encrypted_with_one_key" {
  command = plan

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_server_side_encryption_configuration.data :
      one(each.rule).bucket_key_enabled
      && one(one(each.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
      && one(one(each.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.lake.arn
    ]) && length(aws_s3_bucket_server_side_encryption_configuration.data) == 4
    error_message = "A bucket is not encrypted with the lake's key, or asks KMS for each object."
  }

  assert {
    condition     = aws_kms_key.lake.enable_key_rotation && aws_kms_key.lake.deletion_window_in_days == 30
    error_message = "The key is not rotated, or gone before anybody notices."
  }

  assert {
    condition = alltrue([
      for each in jsondecode(aws_kms_key.lake.policy).Statement :
      try(each.Condition.StringEquals["kms:ViaService"], "") == "s3.us-east-1.amazonaws.com"
      if contains(flatten([each.Action]), "kms:Decrypt")
    ])
    error_message = "Somebody may decrypt with the key without S3."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_policy.data : anytrue([
        for statement in jsondecode(each.policy).Statement :
        statement.Effect == "Deny" && statement.Action == "s3:PutObject" && try(statement.Condition, null) == {
          Null            = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = aws_kms_key.lake.arn }
        }
      ])
    ])
    error_message = "An upload under another key is taken."
  }
}

run "nothing_is_public" {
  command = plan

  assert {
    condition = alltrue([
      for each in concat(values(aws_s3_bucket_public_access_block.data), [aws_s3_bucket_public_access_block.access]) :
      each.block_public_acls && each.block_public_policy && each.ignore_public_acls && each.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.data) == 4
    error_message = "A bucket can be opened to the public."
  }

  assert {
    condition = alltrue([
      for each in concat(values(aws_s3_bucket_ownership_controls.data), [aws_s3_bucket_ownership_controls.access]) :
      one(each.rule).object_ownership == "BucketOwnerEnforced"
    ])
    error_message = "Access lists of objects count."
  }

  assert {
    condition = alltrue([
      for each in concat(values(aws_s3_bucket_policy.data), [aws_s3_bucket_policy.access]) : anytrue([
        for statement in jsondecode(each.policy).Statement :
        statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*"
        && length(statement.Resource) == 2 && try(statement.Condition, null) == { Bool = { "aws:SecureTransport" = "false" } }
      ])
    ])
    error_message = "A bucket answers without TLS."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_policy.data : alltrue([for statement in jsondecode(each.policy).Statement : statement.Effect == "Deny"])
    ])
    error_message = "A bucket's policy grants something: who may what is in IAM alone."
  }
}

run "what_was_done_can_be_undone_and_seen" {
  command = plan

  assert {
    condition     = alltrue([for each in aws_s3_bucket_versioning.data : one(each.versioning_configuration).status == "Enabled"]) && length(aws_s3_bucket_versioning.data) == 4
    error_message = "A bucket keeps no versions."
  }

  assert {
    condition     = { for kind, each in aws_s3_bucket_logging.data : kind => [each.target_bucket, each.target_prefix] } == { for kind in ["lake", "artifacts", "logs", "ledger"] : kind => ["mlops-test-access", "${kind}/"] }
    error_message = "Nobody knows who read what."
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.access.policy).Statement :
      statement.Effect == "Allow" && statement.Principal == { Service = "logging.s3.amazonaws.com" }
      && try(length(statement.Condition.ArnEquals["aws:SourceArn"]), 0) == 4
    ])
    error_message = "S3 cannot deliver its access logs."
  }
}

run "old_things_go_and_large_ones_get_cheaper" {
  command = plan

  assert {
    condition = {
      for kind, each in aws_s3_bucket_lifecycle_configuration.data : kind => one([
        for rule in each.rule : one(rule.noncurrent_version_expiration).noncurrent_days if rule.id == "old-versions"
      ])
    } == { lake = 30, artifacts = 30, logs = 30, ledger = 365 }
    error_message = "Old versions are kept for another time; the ledger's for as long as a new one is locked."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_lifecycle_configuration.data : anytrue([
        for rule in each.rule : try(one(rule.abort_incomplete_multipart_upload).days_after_initiation == 7, false)
      ])
    ])
    error_message = "Uploads that were cut are paid for for ever."
  }

  assert {
    condition = {
      for kind, each in aws_s3_bucket_lifecycle_configuration.data : kind => one([
        for rule in each.rule : kind == "logs" ? tostring(one(rule.expiration).days) : "${one(rule.expiration).expired_object_delete_marker}" if rule.id == "old-versions"
      ])
    } == { lake = "true", artifacts = "true", logs = "90", ledger = "true" }
    error_message = "Something else than logs expires by its age."
  }

  assert {
    condition = {
      for kind, each in aws_s3_bucket_lifecycle_configuration.data : kind => [
        for rule in each.rule : [one(rule.transition).storage_class, one(rule.transition).days, one(rule.filter).object_size_greater_than] if rule.id == "tiering"
      ] } == {
      lake = [["INTELLIGENT_TIERING", 30, 1048576]], artifacts = [], logs = [], ledger = []
    }
    error_message = "Other objects than the lake's large ones are tiered."
  }
}

run "the_ledger_is_locked" {
  command = plan

  assert {
    condition     = [for kind, each in aws_s3_bucket.data : kind if each.object_lock_enabled] == ["ledger"]
    error_message = "Object Lock is on for other buckets than the ledger."
  }

  assert {
    condition     = one(one(aws_s3_bucket_object_lock_configuration.ledger.rule).default_retention).mode == "GOVERNANCE" && one(one(aws_s3_bucket_object_lock_configuration.ledger.rule).default_retention).days == 365
    error_message = "The ledger's objects are not locked."
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.data["ledger"].policy).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && try(statement.Condition, null) == null && join(" ", flatten([statement.Action])) == "s3:BypassGovernanceRetention s3:DeleteObjectVersion"
    ])
    error_message = "There is a way around the lock."
  }
}

run "without_a_second_region_there_is_none" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket.replica) + length(aws_kms_key.replica) + length(aws_iam_role.replication) + length(aws_s3_bucket_replication_configuration.data) == 0
    error_message = "Something of a second region is made."
  }

  assert {
    condition     = output.replicas == {} && output.replica_kms_key_arn == null && output.replication_role_arn == null
    error_message = "There are copies that nobody asked for."
  }
}

run "a_second_region_has_the_same_protection" {
  command = plan

  variables {
    replicate                = ["lake", "artifacts", "ledger"]
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/mlops/boundary"
  }

  assert {
    condition     = toset([for each in aws_s3_bucket.replica : each.bucket]) == toset(["mlops-test-lake-replica", "mlops-test-artifacts-replica", "mlops-test-ledger-replica"])
    error_message = "Other copies are made than were asked for."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_server_side_encryption_configuration.replica :
      one(one(each.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.replica[0].arn
    ]) && length(aws_s3_bucket_server_side_encryption_configuration.replica) == 3
    error_message = "A copy is not encrypted with the second region's key."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_public_access_block.replica :
      each.block_public_acls && each.block_public_policy && each.ignore_public_acls && each.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.replica) == 3
    error_message = "A copy can be opened to the public."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_policy.replica : anytrue([
        for statement in jsondecode(each.policy).Statement : statement.Effect == "Deny" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
      ])
    ])
    error_message = "A copy answers without TLS."
  }

  assert {
    condition     = [for kind, each in aws_s3_bucket.replica : kind if each.object_lock_enabled] == ["ledger"] && keys(aws_s3_bucket_object_lock_configuration.replica) == ["ledger"]
    error_message = "The ledger's copy is not locked."
  }

  assert {
    condition = {
      for kind, each in aws_s3_bucket_replication_configuration.data : kind => one(one(each.rule).delete_marker_replication).status
    } == { lake = "Enabled", artifacts = "Enabled", ledger = "Disabled" }
    error_message = "What hides an entry of the ledger is copied, or what vacuum deletes stays in the copy."
  }

  assert {
    condition = alltrue([
      for each in aws_s3_bucket_replication_configuration.data :
      one(one(one(each.rule).source_selection_criteria).sse_kms_encrypted_objects).status == "Enabled"
      && one(one(one(each.rule).destination).encryption_configuration).replica_kms_key_id == aws_kms_key.replica[0].arn
    ])
    error_message = "Encrypted objects, which are all, are not copied."
  }

  assert {
    condition     = aws_iam_role.replication[0].permissions_boundary == "arn:aws:iam::123456789012:policy/mlops/boundary"
    error_message = "The role has no boundary."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.replication[0].policy).Statement :
      !contains(flatten([statement.Resource]), "*") && alltrue([for action in flatten([statement.Action]) : !strcontains(action, "*")])
    ])
    error_message = "The role may do more than copy these buckets."
  }

  assert {
    condition     = strcontains(aws_kms_key.replica[0].policy, "s3.us-west-2.amazonaws.com")
    error_message = "The second region's key does not work through S3 there."
  }
}

run "a_copy_in_the_same_region_is_refused" {
  command = plan

  variables { replicate = ["lake"] }

  override_data {
    target = data.aws_region.replica
    values = { name = "us-east-1" }
  }

  expect_failures = [aws_s3_bucket.replica]
}

run "a_copy_of_the_logs_is_refused" {
  command = plan
  variables { replicate = ["logs"] }
  expect_failures = [var.replicate]
}

run "a_ledger_without_a_lock_is_refused" {
  command = plan
  variables { ledger_retention_days = 0 }
  expect_failures = [var.ledger_retention_days]
}

run "an_unknown_lock_is_refused" {
  command = plan
  variables { ledger_lock_mode = "governance" }
  expect_failures = [var.ledger_lock_mode]
}

run "destroying_what_nobody_can_delete_is_refused" {
  command = plan

  variables {
    ledger_lock_mode = "COMPLIANCE"
    force_destroy    = true
  }

  expect_failures = [var.force_destroy]
}

run "no_time_to_undo_a_mistake_is_refused" {
  command = plan
  variables { noncurrent_days = 1 }
  expect_failures = [var.noncurrent_days]
}

run "a_name_that_s3_would_refuse_is_refused_first" {
  command = plan
  variables { name = "MLOps_test" }
  expect_failures = [var.name]
}

run "logs_that_expire_at_once_are_refused" {
  command = plan

  variables {
    log_retention_days = 0
  }

  expect_failures = [var.log_retention_days]
}

run "access_logs_that_expire_at_once_are_refused" {
  command = plan

  variables {
    access_log_retention_days = 0
  }

  expect_failures = [var.access_log_retention_days]
}

run "half_a_day_of_tiering_is_refused" {
  command = plan

  variables {
    tiering_days = 0.5
  }

  expect_failures = [var.tiering_days]
}
