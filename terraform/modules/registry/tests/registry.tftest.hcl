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
    target          = aws_kms_key.registry
    override_during = plan
    values          = { arn = "arn:aws:kms:us-east-1:123456789012:key/registry" }
  }
}

variables {
  name         = "mlops-test"
  repositories = ["mlops-code-location", "mlops-training", "mlops-server", "nvidia/k8s-device-plugin"]
}

run "a_tag_is_never_moved_and_an_image_is_looked_at" {
  command = plan

  assert {
    condition     = toset(keys(aws_ecr_repository.this)) == toset(["mlops-code-location", "mlops-training", "mlops-server", "nvidia/k8s-device-plugin"])
    error_message = "Other repositories are made than those that were named."
  }

  assert {
    condition     = alltrue([for each in aws_ecr_repository.this : each.image_tag_mutability == "IMMUTABLE"])
    error_message = "A tag can be moved: what runs is not what was tested."
  }

  assert {
    condition     = alltrue([for each in aws_ecr_repository.this : one(each.image_scanning_configuration).scan_on_push])
    error_message = "Images are not scanned."
  }

  assert {
    condition = alltrue([
      for each in aws_ecr_repository.this :
      one(each.encryption_configuration).encryption_type == "KMS" && one(each.encryption_configuration).kms_key == aws_kms_key.registry.arn
    ])
    error_message = "Images are not encrypted with the registry's key."
  }

  assert {
    condition     = alltrue([for each in aws_ecr_repository.this : !each.force_delete])
    error_message = "A plan deletes what a cluster runs."
  }
}

run "old_images_go" {
  command = plan

  assert {
    condition = alltrue([
      for each in aws_ecr_lifecycle_policy.this : [
        for rule in jsondecode(each.policy).rules : [rule.selection.tagStatus, rule.selection.countNumber]
      ] == [["untagged", 7], ["any", 200]]
    ])
    error_message = "Images without a tag, or more than 200, are kept for ever."
  }
}

run "nobody_outside_reads" {
  command = plan

  assert {
    condition     = length(aws_ecr_repository_policy.readers) == 0
    error_message = "There is a policy for other accounts."
  }
}

run "named_accounts_pull_and_do_not_push" {
  command = plan
  variables { reader_account_ids = ["000000000042"] }

  assert {
    condition = alltrue([
      for each in aws_ecr_repository_policy.readers :
      one(jsondecode(each.policy).Statement).Principal.AWS == ["arn:aws:iam::000000000042:root"]
      && toset(one(jsondecode(each.policy).Statement).Action) == toset(["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"])
    ]) && length(aws_ecr_repository_policy.readers) == 4
    error_message = "The other account may do something else than pull."
  }
}

run "a_name_with_capitals_is_refused" {
  command = plan
  variables { repositories = ["MLOps-server"] }
  expect_failures = [var.repositories]
}

run "a_name_with_a_tag_is_refused" {
  command = plan
  variables { repositories = ["mlops-server:1.0"] }
  expect_failures = [var.repositories]
}

run "no_repository_is_refused" {
  command = plan
  variables { repositories = [] }
  expect_failures = [var.repositories]
}

run "keeping_fewer_images_than_run_is_refused" {
  command = plan
  variables { keep_images = 0 }
  expect_failures = [var.keep_images]
}

run "an_account_that_is_none_is_refused" {
  command = plan
  variables { reader_account_ids = ["42"] }
  expect_failures = [var.reader_account_ids]
}

run "a_name_that_kms_would_refuse_is_refused_first" {
  command = plan

  variables {
    name = "MLOps test"
  }

  expect_failures = [var.name]
}

run "images_without_a_tag_that_go_at_once_are_refused" {
  command = plan

  variables {
    untagged_days = 0
  }

  expect_failures = [var.untagged_days]
}
