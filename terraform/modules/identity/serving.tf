# Model servers, wherever they run, and MLflow's.

locals {
  # A server follows its release, loads the models that it names, reports, and ships its log. What it
  # reads is there or forbidden: it need not list.
  endpoint = concat(
    [
      {
        Sid    = "ReadReleases"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        Resource = [
          "${local.documents}/endpoints/*/release.json",
          "${local.documents}/endpoints/*/online.json",
          "${local.artifacts}/models/*.ubj",
          "${local.artifacts}/models/*.onnx",
        ]
      },
      {
        Sid    = "ReportAndLog"
        Effect = "Allow"
        Action = ["s3:PutObject"]
        Resource = [
          "${local.documents}/endpoints/*/replicas/*.json",
          "${local.documents}/prediction-log/*.jsonl",
        ]
      },
      local.use_bucket_key,
    ],
    [for each in local.look_up_features : each if var.online_store != null],
  )

  look_up_features = [
    {
      Sid      = "LookUpFeatures"
      Effect   = "Allow"
      Action   = ["dynamodb:BatchGetItem"]
      Resource = [try(var.online_store.table_arn, null)]
    },
    local.read_online_key,
  ]

  # Runs put artifacts into the bucket themselves; the server shows them.
  mlflow = [
    {
      Sid      = "ReadArtifacts"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.artifacts}/models/mlflow/*", "${local.artifacts}/mlflow/*"]
    },
    {
      Sid       = "ListArtifacts"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = [local.artifacts]
      Condition = { StringLike = { "s3:prefix" = ["models/mlflow/*", "mlflow/*"] } }
    },
    local.read_bucket_key,
  ]
}

# -- SageMaker, where MLOPS_ENDPOINTS is sagemaker://<this role's ARN> --------------------------------

locals {
  sagemaker_role = "${local.arns}:iam::${local.account}:role/mlops/${var.name}-sagemaker"
  sagemaker_arns = "${local.arns}:sagemaker:${local.region}:${local.account}"

  # An endpoint is called as its use case; models and configurations, which have one name, as the use
  # case and a digest of twelve digits.
  endpoints      = "${local.sagemaker_arns}:endpoint/*"
  configurations = "${local.sagemaker_arns}:endpoint-config/*-????????????"
  models         = "${local.sagemaker_arns}:model/*-????????????"

  see_sagemaker = [
    {
      Sid      = "SeeEndpoints"
      Effect   = "Allow"
      Action   = ["sagemaker:DescribeEndpoint"]
      Resource = [local.endpoints]
    },
  ]

  # What the platform makes it tags with the use case, and only what has that tag does it change.
  deploy_sagemaker = [
    {
      # Whether they are there already: of what is not, there is no tag to ask for.
      Sid      = "LookForModels"
      Effect   = "Allow"
      Action   = ["sagemaker:DescribeEndpointConfig", "sagemaker:DescribeModel"]
      Resource = [local.configurations, local.models]
    },
    {
      # An endpoint is made of a configuration, and so is about both.
      Sid       = "MakeEndpoints"
      Effect    = "Allow"
      Action    = ["sagemaker:CreateEndpoint", "sagemaker:CreateModel"]
      Resource  = [local.endpoints, local.configurations, local.models]
      Condition = { Null = { "aws:RequestTag/mlops/use_case" = "false" } }
    },
    {
      # All instances of a request have to be of these types, and there have to be some: of none, as
      # a serverless endpoint has, everything is true.
      Sid      = "MakeConfigurations"
      Effect   = "Allow"
      Action   = ["sagemaker:CreateEndpointConfig"]
      Resource = [local.configurations]
      Condition = {
        Null = {
          "aws:RequestTag/mlops/use_case" = "false"
          "sagemaker:InstanceTypes"       = "false"
        }
        "ForAllValues:StringEquals" = { "sagemaker:InstanceTypes" = try(var.sagemaker.instance_types, []) }
      }
    },
    {
      # As they are made, and not later: a tag on another's endpoint would make it the platform's.
      Sid      = "TagWhatIsMade"
      Effect   = "Allow"
      Action   = ["sagemaker:AddTags"]
      Resource = [local.endpoints, local.configurations, local.models]
      Condition = {
        StringEquals = {
          "sagemaker:TaggingAction" = ["CreateEndpoint", "CreateEndpointConfig", "CreateModel"]
        }
      }
    },
    {
      # Endpoints are ended by people.
      Sid    = "ChangeEndpoints"
      Effect = "Allow"
      Action = [
        "sagemaker:DeleteEndpointConfig",
        "sagemaker:DeleteModel",
        "sagemaker:UpdateEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
      ]
      Resource  = [local.endpoints, local.configurations, local.models]
      Condition = { Null = { "aws:ResourceTag/mlops/use_case" = "false" } }
    },
    {
      Sid       = "GiveContainersTheirRole"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = [local.sagemaker_role]
      Condition = { StringEquals = { "iam:PassedToService" = "sagemaker.amazonaws.com" } }
    },
  ]

  # What containers do that SageMaker starts, beside what model servers do anywhere.
  sagemaker_only = [
    {
      Sid      = "PullImages"
      Effect   = "Allow"
      Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Resource = try(var.sagemaker.repository_arns, [])
    },
    {
      # A token is of the account, not of a repository: ECR takes no resource here.
      Sid      = "LogInToRegistry"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    },
    {
      Sid    = "WriteLogs"
      Effect = "Allow"
      Action = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = [
        "${local.arns}:logs:${local.region}:${local.account}:log-group:/aws/sagemaker/Endpoints/*",
      ]
    },
    {
      # Processors and memory of the instances. CloudWatch takes a namespace and no resource.
      Sid       = "WriteMetrics"
      Effect    = "Allow"
      Action    = ["cloudwatch:PutMetricData"]
      Resource  = ["*"]
      Condition = { StringEquals = { "cloudwatch:namespace" = "/aws/sagemaker/Endpoints" } }
    },
  ]
}

resource "aws_iam_role" "sagemaker" {
  count = var.sagemaker == null ? 0 : 1

  name        = "${var.name}-sagemaker"
  path        = "/mlops/"
  description = "Model servers on SageMaker"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "SageMakerOfTheAccount"
      Effect    = "Allow"
      Principal = { Service = "sagemaker.amazonaws.com" }
      Action    = ["sts:AssumeRole"]
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        # To the letter, for endpoints: SageMaker names none of them and no model when it asks.
        ArnLike = { "aws:SourceArn" = "${local.sagemaker_arns}:*" }
      }
    }]
  })

  max_session_duration = 3600
  permissions_boundary = local.boundary_arn
}

resource "aws_iam_policy" "sagemaker" {
  count = var.sagemaker == null ? 0 : 1

  name        = "${var.name}-sagemaker"
  path        = "/mlops/"
  description = "What the role of the same name may do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = concat(local.endpoint, local.sagemaker_only) })
}

resource "aws_iam_role_policy_attachment" "sagemaker" {
  count = var.sagemaker == null ? 0 : 1

  role       = aws_iam_role.sagemaker[0].name
  policy_arn = aws_iam_policy.sagemaker[0].arn
}
