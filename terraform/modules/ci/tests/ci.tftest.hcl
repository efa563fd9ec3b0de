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
    target          = aws_iam_openid_connect_provider.github
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
  }
}

variables {
  name              = "mlops-test"
  github_repository = "example/mlops"
  apply_environment = "production"
  state = {
    bucket_arn = "arn:aws:s3:::mlops-test-terraform"
    object     = "mlops-test/terraform.tfstate"
    key_arn    = "arn:aws:kms:us-east-1:123456789012:key/state"
  }
  registry_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/mlops-server"]
}

run "a_job_takes_on_the_role_that_it_is_for" {
  command = plan

  assert {
    condition = jsonencode({
      for name, role in aws_iam_role.this :
      name => jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"]
      }) == jsonencode({
      apply = ["repo:example/mlops:environment:production"]
      plan  = ["repo:example/mlops:ref:refs/heads/main", "repo:example/mlops:pull_request"]
      push  = ["repo:example/mlops:ref:refs/heads/main"]
    })
    error_message = "A role is given to other jobs than those that it is for."
  }

  assert {
    condition = alltrue([
      for role in aws_iam_role.this :
      jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    ])
    error_message = "A token for somebody else would do."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.this : role.max_session_duration <= 7200 && role.path == "/mlops-ci/"])
    error_message = "A session is longer than an apply takes, or a role is where apply could change it."
  }

  assert {
    condition     = join(",", aws_iam_openid_connect_provider.github[0].client_id_list) == "sts.amazonaws.com"
    error_message = "The provider takes tokens for others."
  }
}

run "pull_requests_plan_only_where_they_may" {
  command = plan

  variables {
    plan_on_pull_requests = false
  }

  assert {
    condition     = !strcontains(aws_iam_role.this["plan"].assume_role_policy, "pull_request")
    error_message = "Pull requests plan though they may not."
  }
}

run "apply_cannot_make_itself_mightier" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_policy.this["apply-identities"].policy).Statement : [
        for action in statement.Action :
        can(statement.Condition.StringEquals["iam:PermissionsBoundary"])
        if statement.Effect == "Allow" && contains(["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"], action)
      ]
    ]))
    error_message = "Apply makes a role without a boundary, or gives one more than its boundary."
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_policy.this : [
        for word in ["secretsmanager:GetSecretValue", "iam:CreateUser", "iam:CreateAccessKey", "sts:AssumeRole"] :
        !strcontains(policy.policy, word)
      ]
    ]))
    error_message = "CI reads a secret or makes an identity that outlives its job."
  }
}

run "a_provider_that_is_there_is_taken" {
  command = plan

  variables {
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "An account has one provider of a URL at most."
  }
}

run "a_pattern_of_repositories_is_refused" {
  command = plan

  variables {
    github_repository = "example/*"
  }

  expect_failures = [var.github_repository]
}

run "any_repository_is_refused" {
  command = plan

  variables {
    github_repository = "*"
  }

  expect_failures = [var.github_repository]
}

run "patterns_of_jobs_are_refused" {
  command = plan

  variables {
    branch            = "*"
    apply_environment = "*"
  }

  expect_failures = [var.branch, var.apply_environment]
}

run "patterns_of_places_are_refused" {
  command = plan

  variables {
    state = {
      bucket_arn = "arn:aws:s3:::*"
      object     = "*"
      key_arn    = "arn:aws:kms:us-east-1:123456789012:alias/state"
    }
    registry_arns     = ["arn:aws:ecr:us-east-1:123456789012:repository/*"]
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/example.com"
  }

  expect_failures = [var.state, var.registry_arns, var.oidc_provider_arn]
}

run "no_repository_to_push_to_is_refused" {
  command = plan

  variables {
    registry_arns = []
  }

  expect_failures = [var.registry_arns]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "MLOps"
  }

  expect_failures = [var.name]
}
