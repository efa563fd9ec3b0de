# The same events in CloudWatch, where the few that nobody should miss become alarms.

resource "aws_cloudwatch_log_group" "trail" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.audit.arn
}

resource "aws_iam_role" "trail" {
  name                 = "${var.name}-audit-trail"
  description          = "CloudTrail writes its events into the log group ${local.log_group}."
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account, "aws:SourceArn" = local.trail_arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "trail" {
  name = "write-events"
  role = aws_iam_role.trail.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${local.log_group_arn}:log-stream:${local.account}_CloudTrail_${local.region}*"
    }]
  })
}

locals {
  # Each has to be rare, or its alarm is ignored.
  watched = {
    root-account = {
      why     = "Somebody used the root account."
      pattern = "{ $.userIdentity.type = \"Root\" && $.userIdentity.invokedBy NOT EXISTS && $.eventType != \"AwsServiceEvent\" }"
      at      = 1
    }
    sign-in-without-mfa = {
      why     = "Somebody signed in to the console without a second factor."
      pattern = "{ $.eventName = \"ConsoleLogin\" && $.additionalEventData.MFAUsed != \"Yes\" && $.responseElements.ConsoleLogin = \"Success\" && $.userIdentity.type = \"IAMUser\" }"
      at      = 1
    }
    trail-changed = {
      why     = "Somebody changed or stopped the audit trail."
      pattern = "{ $.eventSource = \"cloudtrail.amazonaws.com\" && ($.eventName = \"UpdateTrail\" || $.eventName = \"DeleteTrail\" || $.eventName = \"StopLogging\" || $.eventName = \"PutEventSelectors\") }"
      at      = 1
    }
    key-going = {
      why     = "Somebody disabled a KMS key or scheduled its deletion: what it encrypts becomes unreadable."
      pattern = "{ $.eventSource = \"kms.amazonaws.com\" && ($.eventName = \"DisableKey\" || $.eventName = \"ScheduleKeyDeletion\") }"
      at      = 1
    }
    bucket-opened = {
      why     = "Somebody changed who may reach a bucket."
      pattern = "{ $.eventSource = \"s3.amazonaws.com\" && ($.eventName = \"PutBucketPolicy\" || $.eventName = \"DeleteBucketPolicy\" || $.eventName = \"PutBucketAcl\" || $.eventName = \"PutBucketPublicAccessBlock\" || $.eventName = \"DeleteBucketPublicAccessBlock\") }"
      at      = 1
    }
    refused = {
      why     = "Many calls were refused: a role that lacks a right, or somebody who tries doors."
      pattern = "{ $.errorCode = \"*UnauthorizedOperation\" || $.errorCode = \"AccessDenied*\" }"
      at      = 50
    }
  }
}

resource "aws_cloudwatch_log_metric_filter" "watched" {
  for_each = local.watched

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.trail.name
  pattern        = each.value.pattern

  metric_transformation {
    name      = each.key
    namespace = "${var.name}/audit"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "watched" {
  for_each = local.watched

  alarm_name          = "${var.name}-audit-${each.key}"
  alarm_description   = "${each.value.why} The events are in the log group ${local.log_group}."
  namespace           = "${var.name}/audit"
  metric_name         = aws_cloudwatch_log_metric_filter.watched[each.key].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.at
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}
