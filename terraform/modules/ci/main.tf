# What GitHub's workflows of one repository may do in the account: plan, apply, push images. No key
# is stored anywhere: GitHub says in a signed token which repository, branch or environment a job
# belongs to, and the token is exchanged for an hour of one role.
#
# Roles and policies lie under /mlops-ci/, which the apply role may not touch: a change of this module
# is applied by a person.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account = data.aws_caller_identity.this.account_id
  region  = data.aws_region.this.name
  arns    = "arn:${data.aws_partition.this.partition}"
  path    = "/mlops-ci/"

  issuer       = "token.actions.githubusercontent.com"
  provider_arn = var.oidc_provider_arn != null ? var.oidc_provider_arn : one(aws_iam_openid_connect_provider.github[*].arn)

  repository = "repo:${var.github_repository}"
  branch     = "${local.repository}:ref:refs/heads/${var.branch}"

  roles = {
    plan = {
      description = "Plans: reads the configuration of what Terraform made, and its state"
      # A fork's workflow gets no token; a branch's does, and reads what anybody with the branch may.
      subjects = concat([local.branch], var.plan_on_pull_requests ? ["${local.repository}:pull_request"] : [])
      policies = merge(local.read, { state = local.plan_state })
      seconds  = 3600
    }
    apply = {
      description = "Applies, in jobs that the protection rules of the GitHub environment let through"
      subjects    = ["${local.repository}:environment:${var.apply_environment}"]
      policies    = merge(local.read, local.apply)
      # A cluster takes a quarter of an hour, a database over two zones another one.
      seconds = 7200
    }
    push = {
      description = "Pushes images of the branch"
      subjects    = [local.branch]
      policies    = { images = local.push }
      seconds     = 3600
    }
  }

  policies = merge([
    for role, each in local.roles : {
      for name, statements in each.policies : "${role}-${name}" => { role = role, statements = statements }
    }
  ]...)
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "this" {
  for_each = toset(["plan", "apply", "push"])

  name        = "${var.name}-ci-${each.key}"
  path        = local.path
  description = local.roles[each.key].description

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "JobsOfTheRepository"
      Effect    = "Allow"
      Principal = { Federated = local.provider_arn }
      Action    = ["sts:AssumeRoleWithWebIdentity"]
      Condition = {
        StringEquals = {
          "${local.issuer}:aud" = "sts.amazonaws.com"
          "${local.issuer}:sub" = local.roles[each.key].subjects
        }
      }
    }]
  })

  max_session_duration = local.roles[each.key].seconds
}

resource "aws_iam_policy" "this" {
  for_each = local.policy_names

  name        = "${var.name}-ci-${each.key}"
  path        = local.path
  description = "What CI's role ${each.value} may do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.policies[each.key].statements })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.policy_names

  role       = aws_iam_role.this[each.value].name
  policy_arn = aws_iam_policy.this[each.key].arn
}

locals {
  # The role of each policy: what exists is known though an ARN in it is not.
  policy_names = { for name, each in local.policies : name => each.role }
}
