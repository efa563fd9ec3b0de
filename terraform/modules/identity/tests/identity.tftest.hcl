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
    target          = aws_iam_policy.boundary
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:policy/mlops/mlops-test-workloads" }
  }
}

variables {
  name         = "mlops-test"
  cluster_name = "mlops-test"
  buckets = {
    lake      = { name = "mlops-test-lake", arn = "arn:aws:s3:::mlops-test-lake" }
    artifacts = { name = "mlops-test-artifacts", arn = "arn:aws:s3:::mlops-test-artifacts" }
    logs      = { name = "mlops-test-logs", arn = "arn:aws:s3:::mlops-test-logs" }
    ledger    = { name = "mlops-test-ledger", arn = "arn:aws:s3:::mlops-test-ledger" }
  }
  lake_key_arn = "arn:aws:kms:us-east-1:123456789012:key/lake"
  secrets = {
    arns = {
      "mlops/dagster-database" = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mlops/dagster-database-AbCdEf"
      "mlops/environment"      = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mlops/environment-AbCdEf"
    }
    key_arn = "arn:aws:kms:us-east-1:123456789012:key/secrets"
  }
  database = {
    master_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-0000-AbCdEf"
    key_arn           = "arn:aws:kms:us-east-1:123456789012:key/database"
  }
}

run "each_workload_has_a_role_of_its_own" {
  command = plan

  assert {
    condition = toset(keys(aws_iam_role.workload)) == toset([
      "dagster/dagster",
      "dagster/database-bootstrap",
      "external-secrets/external-secrets",
      "mlflow/mlflow",
      "mlops-endpoints/mlops-endpoint",
      "mlops-runs/mlops-run",
      "mlops-runs/mlops-step",
    ])
    error_message = "Not each account of deployments/ has a role, or another one has."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.workload : role.permissions_boundary == "arn:aws:iam::123456789012:policy/mlops/mlops-test-workloads"])
    error_message = "A role is not bounded."
  }

  assert {
    condition = alltrue([
      for account, role in aws_iam_role.workload : jsondecode(role.assume_role_policy).Statement[0].Condition == {
        StringEquals = {
          "aws:SourceAccount"                         = "123456789012"
          "aws:RequestTag/kubernetes-namespace"       = split("/", account)[0]
          "aws:RequestTag/kubernetes-service-account" = split("/", account)[1]
        }
        ArnEquals = { "aws:SourceArn" = "arn:aws:eks:us-east-1:123456789012:cluster/mlops-test" }
      }
    ])
    error_message = "A role can be taken on by other pods than its account's, or from another cluster."
  }

  assert {
    condition = alltrue([
      for account, each in aws_eks_pod_identity_association.workload :
      "${each.namespace}/${each.service_account}" == account && each.cluster_name == "mlops-test"
    ])
    error_message = "An account is associated with another's role."
  }

  assert {
    condition     = length(aws_iam_role.sagemaker) + length(aws_iam_policy.sagemaker) == 0 && output.sagemaker_role_arn == null
    error_message = "Without endpoints on SageMaker nobody needs its role."
  }

  assert {
    condition = alltrue([
      for policy in concat(values(aws_iam_policy.workload), aws_iam_policy.boundary) :
      !strcontains(policy.policy, "sagemaker") && !strcontains(policy.policy, "iam:PassRole")
    ])
    error_message = "Without endpoints on SageMaker nobody has rights there."
  }
}

run "policies_name_what_they_are_about" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_policy.workload), aws_iam_policy.boundary) : [
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : !endswith(action, ":*") && action != "*"
        ]
      ]
    ]))
    error_message = "A policy allows everything that a service does."
  }

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_policy.workload), aws_iam_policy.boundary) : [
        for statement in jsondecode(policy.policy).Statement : !contains(statement.Resource, "*")
      ]
    ]))
    error_message = "A policy is about every resource."
  }

  assert {
    condition = alltrue(flatten([
      for policy in values(aws_iam_policy.workload) : [
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : can(statement.Condition.StringEquals["kms:ViaService"]) if startswith(action, "kms:")
        ]
      ]
    ]))
    error_message = "A key can be used without the service that stores."
  }

  assert {
    condition     = !strcontains(join("", values(aws_iam_policy.workload)[*].policy), "dynamodb:")
    error_message = "Without an online store nobody has rights to one."
  }

  assert {
    condition     = !strcontains(aws_iam_policy.workload["mlops-runs/mlops-step"].policy, "secretsmanager")
    error_message = "Steps read a secret."
  }
}

run "everything_that_is_optional_is_there_when_it_is_named" {
  command = plan

  variables {
    online_store       = { table_arn = "arn:aws:dynamodb:us-east-1:123456789012:table/mlops-test-online", key_arn = "arn:aws:kms:us-east-1:123456789012:key/online" }
    events             = { queue_arn = "arn:aws:sqs:us-east-1:123456789012:mlops-test-events", key_arn = "arn:aws:kms:us-east-1:123456789012:key/events" }
    alerts             = { topic_arn = "arn:aws:sns:us-east-1:123456789012:mlops-test-alerts", key_arn = "arn:aws:kms:us-east-1:123456789012:key/alerts" }
    sagemaker          = { repository_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/mlops-server"], instance_types = ["ml.c5.large"] }
    source_bucket_arns = ["arn:aws:s3:::example-source"]
  }

  assert {
    condition = alltrue([
      for account, words in {
        "dagster/dagster"                = ["sqs:ReceiveMessage", "sns:Publish", "sagemaker:DescribeEndpoint", "example-source"]
        "mlops-runs/mlops-run"           = ["dynamodb:BatchWriteItem", "sagemaker:CreateModel", "iam:PassRole", "example-source"]
        "mlops-endpoints/mlops-endpoint" = ["dynamodb:BatchGetItem"]
      } : alltrue([for word in words : strcontains(aws_iam_policy.workload[account].policy, word)])
    ])
    error_message = "A workload lacks what it needs."
  }

}

run "endpoints_on_sagemaker_have_a_role_that_runs_give_them" {
  command = plan

  variables {
    sagemaker = {
      repository_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/mlops-server"]
      instance_types  = ["ml.c5.large", "ml.m5.xlarge"]
    }
  }

  assert {
    condition = (
      aws_iam_role.sagemaker[0].name == "mlops-test-sagemaker"
      && aws_iam_role.sagemaker[0].permissions_boundary == "arn:aws:iam::123456789012:policy/mlops/mlops-test-workloads"
    )
    error_message = "The containers' role is not bounded, or has another name than runs pass on."
  }

  assert {
    condition = jsondecode(aws_iam_role.sagemaker[0].assume_role_policy).Statement == [{
      Sid       = "SageMakerOfTheAccount"
      Effect    = "Allow"
      Principal = { Service = "sagemaker.amazonaws.com" }
      Action    = ["sts:AssumeRole"]
      Condition = {
        StringEquals = { "aws:SourceAccount" = "123456789012" }
        ArnLike      = { "aws:SourceArn" = "arn:aws:sagemaker:us-east-1:123456789012:*" }
      }
    }]
    error_message = "The containers' role is taken on by another, or for another account."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_policy.workload["mlops-endpoints/mlops-endpoint"].policy).Statement :
      contains(jsondecode(aws_iam_policy.sagemaker[0].policy).Statement, statement)
    ])
    error_message = "A model server may do less on SageMaker than on the cluster."
  }

  assert {
    condition = toset([
      for statement in jsondecode(aws_iam_policy.sagemaker[0].policy).Statement : statement.Sid
      if !contains(jsondecode(aws_iam_policy.workload["mlops-endpoints/mlops-endpoint"].policy).Statement, statement)
    ]) == toset(["PullImages", "LogInToRegistry", "WriteLogs", "WriteMetrics"])
    error_message = "A model server may do more on SageMaker than pull its image, log and count."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_policy.workload["mlops-runs/mlops-run"].policy).Statement :
      [statement.Resource, statement.Condition] if contains(statement.Action, "iam:PassRole")
      ] == [[
        ["arn:aws:iam::123456789012:role/mlops/mlops-test-sagemaker"],
        { StringEquals = { "iam:PassedToService" = "sagemaker.amazonaws.com" } },
    ]]
    error_message = "Runs pass another role on, or to another service."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_policy.workload["mlops-runs/mlops-run"].policy).Statement :
      statement.Condition if contains(statement.Action, "sagemaker:CreateEndpointConfig")
      ] == [{
        Null                        = { "aws:RequestTag/mlops/use_case" = "false", "sagemaker:InstanceTypes" = "false" }
        "ForAllValues:StringEquals" = { "sagemaker:InstanceTypes" = ["ml.c5.large", "ml.m5.xlarge"] }
    }]
    error_message = "Runs choose instances that nobody agreed on."
  }

  assert {
    condition = toset([
      for account, policy in aws_iam_policy.workload : account
      if anytrue([
        for statement in jsondecode(policy.policy).Statement :
        anytrue([for action in statement.Action : startswith(action, "sagemaker:") && action != "sagemaker:DescribeEndpoint"])
      ])
    ]) == toset(["mlops-runs/mlops-run"])
    error_message = "Others than runs deploy."
  }
}

run "a_boundary_that_is_given_is_taken" {
  command = plan

  variables {
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/of-the-organization"
  }

  assert {
    condition     = length(aws_iam_policy.boundary) == 0 && aws_iam_role.workload["mlflow/mlflow"].permissions_boundary == "arn:aws:iam::123456789012:policy/of-the-organization"
    error_message = "The boundary that was given is not used."
  }
}

run "without_a_database_nobody_reads_its_master_secret" {
  command = plan

  variables {
    database = null
  }

  assert {
    condition     = !contains(keys(aws_iam_role.workload), "dagster/database-bootstrap")
    error_message = "A bootstrap of no database has a role."
  }
}

run "a_bucket_that_is_missing_is_refused" {
  command = plan

  variables {
    buckets = { lake = { name = "mlops-test-lake", arn = "arn:aws:s3:::mlops-test-lake" } }
  }

  expect_failures = [var.buckets]
}

run "patterns_are_refused" {
  command = plan

  variables {
    buckets = {
      lake      = { name = "mlops-test-lake", arn = "arn:aws:s3:::*" }
      artifacts = { name = "mlops-test-artifacts", arn = "arn:aws:s3:::mlops-test-artifacts" }
      logs      = { name = "mlops-test-logs", arn = "arn:aws:s3:::mlops-test-logs" }
      ledger    = { name = "mlops-test-ledger", arn = "arn:aws:s3:::mlops-test-ledger" }
    }
    secrets = {
      arns    = { all = "arn:aws:secretsmanager:us-east-1:123456789012:secret:*" }
      key_arn = "arn:aws:kms:us-east-1:123456789012:key/secrets"
    }
    source_bucket_arns = ["arn:aws:s3:::*"]
    sagemaker          = { repository_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/*"], instance_types = ["ml.c5.large"] }
  }

  expect_failures = [var.buckets, var.secrets, var.source_bucket_arns, var.sagemaker]
}

run "sagemaker_without_an_image_or_an_instance_is_refused" {
  command = plan

  variables {
    sagemaker = { repository_arns = [], instance_types = [] }
  }

  expect_failures = [var.sagemaker]
}

run "a_pattern_of_instances_is_refused" {
  command = plan

  variables {
    sagemaker = { repository_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/mlops-server"], instance_types = ["ml.c5.*"] }
  }

  expect_failures = [var.sagemaker]
}

run "an_instance_of_ec2_is_none_of_sagemaker" {
  command = plan

  variables {
    sagemaker = { repository_arns = ["arn:aws:ecr:us-east-1:123456789012:repository/mlops-server"], instance_types = ["c5.large"] }
  }

  expect_failures = [var.sagemaker]
}

run "an_alias_is_no_key" {
  command = plan

  variables {
    lake_key_arn = "arn:aws:kms:us-east-1:123456789012:alias/mlops-test-lake"
  }

  expect_failures = [var.lake_key_arn]
}

run "a_policy_of_aws_is_no_boundary" {
  command = plan

  variables {
    permissions_boundary_arn = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
  }

  expect_failures = [var.permissions_boundary_arn]
}

run "names_that_iam_or_eks_refuse_are_refused_here" {
  command = plan

  variables {
    name                     = "Mlops"
    cluster_name             = "arn:aws:eks:us-east-1:123456789012:cluster/mlops-test"
    external_secrets_account = "external-secrets"
  }

  expect_failures = [var.name, var.cluster_name, var.external_secrets_account]
}
