# One role for each workload, taken on by its pods through EKS Pod Identity: by namespace and service
# account. What a role may do is in platform.tf, serving.tf and secrets.tf, each right with what needs
# it; tests/golden/terraform/iam.txt lists them all.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account = data.aws_caller_identity.this.account_id
  region  = data.aws_region.this.name
  arns    = "arn:${data.aws_partition.this.partition}"

  # By Kubernetes' account, `namespace/name`: what the role is called.
  accounts = merge(
    {
      "dagster/dagster"                = "dagster"
      "mlops-runs/mlops-run"           = "run"
      "mlops-runs/mlops-step"          = "step"
      "mlops-endpoints/mlops-endpoint" = "endpoint"
      "mlflow/mlflow"                  = "mlflow"
      (var.external_secrets_account)   = "external-secrets"
    },
    { for account in ["dagster/database-bootstrap"] : account => "database-bootstrap" if var.database != null },
  )

  descriptions = {
    dagster            = "Dagster's webserver, daemon and code servers, in which sensors decide"
    run                = "Run workers: ingest, features, predictions, promotion, endpoints"
    step               = "Steps in pods of their own: trainings, tuning, backtests"
    endpoint           = "Model servers"
    mlflow             = "MLflow's server: reads artifacts for its UI"
    external-secrets   = "External Secrets: copies the secrets into the cluster"
    database-bootstrap = "Makes databases and users, and keeps their passwords in the secrets"
  }

  statements = {
    dagster            = local.dagster
    run                = local.run
    step               = local.step
    endpoint           = local.endpoint
    mlflow             = local.mlflow
    external-secrets   = local.external_secrets
    database-bootstrap = local.database_bootstrap
  }
}

resource "aws_iam_role" "workload" {
  for_each = local.accounts

  name        = "${var.name}-${each.value}"
  path        = "/mlops/"
  description = local.descriptions[each.value]

  # The tags are set by EKS from the pod: another pod of the cluster gets nothing by an association
  # that somebody adds.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "PodsOfTheAccount"
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:SourceAccount"                         = local.account
          "aws:RequestTag/kubernetes-namespace"       = split("/", each.key)[0]
          "aws:RequestTag/kubernetes-service-account" = split("/", each.key)[1]
        }
        ArnEquals = {
          "aws:SourceArn" = "${local.arns}:eks:${local.region}:${local.account}:cluster/${var.cluster_name}"
        }
      }
    }]
  })

  max_session_duration = 3600
  permissions_boundary = local.boundary_arn
}

resource "aws_iam_policy" "workload" {
  for_each = local.accounts

  name        = "${var.name}-${each.value}"
  path        = "/mlops/"
  description = "What the role of the same name may do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.value] })
}

resource "aws_iam_role_policy_attachment" "workload" {
  for_each = local.accounts

  role       = aws_iam_role.workload[each.key].name
  policy_arn = aws_iam_policy.workload[each.key].arn
}

resource "aws_eks_pod_identity_association" "workload" {
  for_each = local.accounts

  cluster_name    = var.cluster_name
  namespace       = split("/", each.key)[0]
  service_account = split("/", each.key)[1]
  role_arn        = aws_iam_role.workload[each.key].arn

  # A pod that starts before the policy is attached is refused, and says so.
  depends_on = [aws_iam_role_policy_attachment.workload]
}
