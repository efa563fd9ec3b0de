# New data announces itself: an object in S3, an event of EventBridge, a message in a queue that a
# sensor reads. What cannot be delivered or handled is kept in a second queue.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
  region  = data.aws_region.current.name

  rule = "${var.name}-new-data"
  # By name, since the queue's policy and the rule name each other.
  rule_arn = "${local.arn}:events:${local.region}:${local.account}:rule/${local.rule}"
  queues = {
    new_data    = "${local.arn}:sqs:${local.region}:${local.account}:${var.name}-new-data"
    dead_letter = "${local.arn}:sqs:${local.region}:${local.account}:${var.name}-new-data-dead"
  }

  queue_policies = {
    for name, queue in local.queues : name => jsonencode({
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "OneRuleSends"
          Effect    = "Allow"
          Principal = { Service = "events.amazonaws.com" }
          Action    = "sqs:SendMessage"
          Resource  = queue
          Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
        },
        {
          Sid       = "TlsOnly"
          Effect    = "Deny"
          Principal = "*"
          Action    = "sqs:*"
          Resource  = queue
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
      ]
    })
  }
}

# -- from S3 to the queue ----------------------------------------------------------------------------

resource "aws_cloudwatch_event_rule" "new_data" {
  name        = local.rule
  description = "New objects below ${join(", ", var.prefixes)} in ${join(", ", var.bucket_names)}"
  event_pattern = jsonencode({
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = var.bucket_names }
      object = { key = [for prefix in var.prefixes : { prefix = prefix }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "queue" {
  rule      = aws_cloudwatch_event_rule.new_data.name
  target_id = "queue"
  arn       = aws_sqs_queue.new_data.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letter.arn
  }

  # A queue that does not take messages for a day is somebody's mistake, and then the second queue has
  # them.
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  # A rule that sends what the queue does not take yet loses it.
  depends_on = [aws_sqs_queue_policy.new_data, aws_sqs_queue_policy.dead_letter]
}

# -- the queues --------------------------------------------------------------------------------------

resource "aws_sqs_queue" "new_data" {
  name                       = "${var.name}-new-data"
  kms_master_key_id          = aws_kms_key.events.arn
  message_retention_seconds  = var.retention_days * 86400
  visibility_timeout_seconds = var.visibility_timeout_seconds
  # A reader waits for a message: fewer empty answers, each of which is paid for.
  receive_wait_time_seconds = 20

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter.arn
    maxReceiveCount     = var.max_receive_count
  })
}

resource "aws_sqs_queue" "dead_letter" {
  name                      = "${var.name}-new-data-dead"
  kms_master_key_id         = aws_kms_key.events.arn
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.new_data.arn]
  })
}

resource "aws_sqs_queue_policy" "new_data" {
  queue_url = aws_sqs_queue.new_data.id
  policy    = local.queue_policies["new_data"]
}

resource "aws_sqs_queue_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id
  policy    = local.queue_policies["dead_letter"]
}

# -- their key ---------------------------------------------------------------------------------------

# IAM says who may use it, this policy how: through SQS. EventBridge encrypts for the queues itself, for
# this rule alone.
resource "aws_kms_key" "events" {
  description             = "${var.name}: queues of new data"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administration"
        Effect    = "Allow"
        Principal = { AWS = "${local.arn}:iam::${local.account}:root" }
        Action = [
          "kms:CancelKeyDeletion",
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:DisableKeyRotation",
          "kms:EnableKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListGrants",
          "kms:ListKeyPolicies",
          "kms:ListKeyRotations",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Resource = "*"
      },
      {
        Sid       = "UseThroughSqs"
        Effect    = "Allow"
        Principal = { AWS = "${local.arn}:iam::${local.account}:root" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "kms:ViaService" = "sqs.${local.region}.amazonaws.com" } }
      },
      {
        Sid       = "EventBridgeSends"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
      },
    ]
  })
}

resource "aws_kms_alias" "events" {
  name          = "alias/${var.name}-events"
  target_key_id = aws_kms_key.events.key_id
}
