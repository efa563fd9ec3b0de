# The control plane, runs and steps. The layout of the buckets is the platform's:
#
#   lake        <use case>/<table>/…, Delta tables
#   ledger      <use case>/<ledger>/…, Delta tables to which is appended
#   artifacts   models/<use case>/<sha256>.{ubj,onnx}, models/{mlflow,checkpoints,backtest}/…,
#               reports/…, documents/<use case>/…,
#               documents/endpoints/<use case>/{release.json,online.json,replicas/…},
#               documents/prediction-log/<use case>/…, mlflow/…
#   logs        compute-logs/…
#
# No workload deletes from the lake or the ledger: `mlops lake vacuum` is run by a person.

locals {
  lake      = var.buckets["lake"].arn
  ledger    = var.buckets["ledger"].arn
  artifacts = var.buckets["artifacts"].arn
  documents = "${local.artifacts}/documents"
  logs      = "${var.buckets["logs"].arn}/compute-logs"
  sources   = flatten([for arn in var.source_bucket_arns : [arn, "${arn}/*"]])

  # A large object goes up in parts; what fails midway is taken back.
  put = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]

  # Keys are used through the service that stores, never by themselves.
  through = {
    for service in ["s3", "dynamodb", "secretsmanager", "sns", "sqs"] :
    service => { StringEquals = { "kms:ViaService" = "${service}.${local.region}.amazonaws.com" } }
  }

  # Without the right to list, S3 calls an object that is not there forbidden, which is an error; a
  # document or a table that nobody wrote yet is none. A condition on the prefix would never hold for
  # that question.
  list_platform = {
    Sid      = "ListPlatform"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = [local.lake, local.ledger, local.artifacts]
  }

  use_bucket_key = {
    Sid       = "UseBucketKey"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = [var.lake_key_arn]
    Condition = local.through.s3
  }

  read_bucket_key = merge(local.use_bucket_key, { Sid = "ReadBucketKey", Action = ["kms:Decrypt"] })

  read_sources = {
    Sid      = "ReadSources"
    Effect   = "Allow"
    Action   = ["s3:GetObject", "s3:ListBucket"]
    Resource = local.sources
  }

  ship_logs = {
    Sid      = "ShipLogs"
    Effect   = "Allow"
    Action   = local.put
    Resource = ["${local.logs}/*"]
  }

  dagster = concat(
    [
      local.list_platform,
      {
        # Sensors look at what tables hold, at drift and evidence; the UI shows what ran.
        Sid      = "ReadPlatform"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${local.lake}/*", "${local.ledger}/*", "${local.documents}/*", "${local.logs}/*"]
      },
      {
        # What sensors decide: retrainings, rollouts, overrules.
        Sid      = "AppendDecisions"
        Effect   = "Allow"
        Action   = local.put
        Resource = ["${local.ledger}/*"]
      },
      {
        Sid      = "AppendAlerts"
        Effect   = "Allow"
        Action   = local.put
        Resource = ["${local.lake}/*/alerts/*", "${local.lake}/*/alert_deliveries/*"]
      },
      {
        # The rollout sensor moves the release and what tells the other stages of it; the alerting
        # sensor remembers what is open.
        Sid    = "WriteDecided"
        Effect = "Allow"
        Action = local.put
        Resource = [
          "${local.documents}/endpoints/*/release.json",
          "${local.documents}/*/promotion.json",
          "${local.documents}/*/endpoint.json",
          "${local.documents}/*/alerting.json",
        ]
      },
      local.ship_logs,
      {
        Sid       = "ListLogs"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [var.buckets["logs"].arn]
        Condition = { StringLike = { "s3:prefix" = ["compute-logs/*"] } }
      },
      local.use_bucket_key,
    ],
    [for each in [local.read_sources] : each if length(local.sources) > 0],
    [for each in local.receive_events : each if var.events != null],
    [for each in local.publish_alerts : each if var.alerts != null],
    [for each in local.see_sagemaker : each if var.sagemaker != null],
  )

  run = concat(
    [
      local.list_platform,
      {
        Sid    = "ReadPlatform"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        Resource = [
          "${local.lake}/*", "${local.ledger}/*", "${local.documents}/*", "${local.artifacts}/models/*",
        ]
      },
      {
        Sid    = "WritePlatform"
        Effect = "Allow"
        Action = local.put
        Resource = [
          "${local.lake}/*",
          "${local.ledger}/*",
          "${local.documents}/*",
          "${local.artifacts}/models/*",
          "${local.artifacts}/reports/*",
        ]
      },
      {
        # What others say is theirs alone to say: a training where it stood, a server what it answered
        # and what it serves.
        Sid    = "LeaveOthers"
        Effect = "Deny"
        Action = ["s3:PutObject"]
        Resource = [
          "${local.artifacts}/models/checkpoints/*",
          "${local.documents}/prediction-log/*",
          "${local.documents}/endpoints/*/replicas/*",
        ]
      },
      {
        # A first release that is refused goes again; reports of servers that are gone for a day go.
        Sid    = "TidyEndpoints"
        Effect = "Allow"
        Action = ["s3:DeleteObject"]
        Resource = [
          "${local.documents}/endpoints/*/release.json",
          "${local.documents}/endpoints/*/replicas/*",
        ]
      },
      local.ship_logs,
      local.use_bucket_key,
    ],
    [for each in [local.read_sources] : each if length(local.sources) > 0],
    [for each in local.publish_features : each if var.online_store != null],
    [for each in concat(local.see_sagemaker, local.deploy_sagemaker) : each if var.sagemaker != null],
  )

  # Steps run the teams' own code on their own, and so decide nothing: no ledger, no release, no
  # secret. Stages that do are refused in a pod of their own by this.
  step = concat(
    [
      local.list_platform,
      {
        Sid    = "ReadPlatform"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        Resource = [
          "${local.lake}/*", "${local.ledger}/*", "${local.documents}/*", "${local.artifacts}/models/*",
        ]
      },
      {
        Sid    = "WriteResults"
        Effect = "Allow"
        Action = local.put
        Resource = [
          "${local.lake}/*",
          "${local.documents}/*",
          "${local.artifacts}/models/*",
          "${local.artifacts}/reports/*",
        ]
      },
      {
        Sid    = "DecideNothing"
        Effect = "Deny"
        Action = ["s3:PutObject"]
        Resource = [
          "${local.documents}/endpoints/*",
          "${local.documents}/prediction-log/*",
          "${local.documents}/*/promotion.json",
          "${local.documents}/*/endpoint.json",
          "${local.documents}/*/alerting.json",
        ]
      },
      {
        # Those before the last two, and all once the model is registered.
        Sid      = "TidyCheckpoints"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${local.artifacts}/models/checkpoints/*"]
      },
      local.ship_logs,
      local.use_bucket_key,
    ],
    [for each in [local.read_sources] : each if length(local.sources) > 0],
  )

  receive_events = [
    {
      Sid      = "ReceiveEvents"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
      Resource = [try(var.events.queue_arn, null)]
    },
    {
      Sid       = "ReadEventKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [try(var.events.key_arn, null)]
      Condition = local.through.sqs
    },
  ]

  publish_alerts = [
    {
      Sid      = "PublishAlerts"
      Effect   = "Allow"
      Action   = ["sns:Publish"]
      Resource = [try(var.alerts.topic_arn, null)]
    },
    {
      Sid       = "UseAlertKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [try(var.alerts.key_arn, null)]
      Condition = local.through.sns
    },
  ]

  publish_features = [
    {
      # A generation is written in batches, swapped in by a conditional write, and the one before
      # last is taken out in batches.
      Sid    = "PublishFeatures"
      Effect = "Allow"
      Action = [
        "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:BatchWriteItem",
      ]
      Resource = [try(var.online_store.table_arn, null)]
    },
    local.read_online_key,
  ]

  # DynamoDB decrypts the table's own key for whoever asks, to read and to write.
  read_online_key = {
    Sid       = "ReadOnlineKey"
    Effect    = "Allow"
    Action    = ["kms:Decrypt"]
    Resource  = [try(var.online_store.key_arn, null)]
    Condition = local.through.dynamodb
  }
}
