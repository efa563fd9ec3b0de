# What EC2 is about to do with nodes. Karpenter reads it and moves pods before the node goes: a spot
# interruption is announced two minutes before.

locals {
  interruptions = {
    spot      = { source = ["aws.ec2"], detail-type = ["EC2 Spot Instance Interruption Warning"] }
    rebalance = { source = ["aws.ec2"], detail-type = ["EC2 Instance Rebalance Recommendation"] }
    state     = { source = ["aws.ec2"], detail-type = ["EC2 Instance State-change Notification"] }
    health    = { source = ["aws.health"], detail-type = ["AWS Health Event"] }
  }
}

resource "aws_sqs_queue" "interruptions" {
  name = "${var.name}-interruptions"

  # SQS's own key: EventBridge cannot write to a queue under another without rights on that key, and
  # the messages are ids of instances.
  sqs_managed_sse_enabled = true

  # What is older than this has happened.
  message_retention_seconds = 300
}

resource "aws_sqs_queue_policy" "interruptions" {
  queue_url = aws_sqs_queue.interruptions.url

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "EventsOfTheseRules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.interruptions.arn
        Condition = {
          ArnEquals = { "aws:SourceArn" = [for name, rule in aws_cloudwatch_event_rule.interruptions : rule.arn] }
        }
      },
      {
        Sid       = "EncryptedOnTheWay"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.interruptions.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_cloudwatch_event_rule" "interruptions" {
  for_each = local.interruptions

  name          = "${var.name}-interruptions-${each.key}"
  description   = "To Karpenter: ${each.value["detail-type"][0]}."
  event_pattern = jsonencode(each.value)
}

resource "aws_cloudwatch_event_target" "interruptions" {
  for_each = local.interruptions

  rule      = aws_cloudwatch_event_rule.interruptions[each.key].name
  target_id = "karpenter"
  arn       = aws_sqs_queue.interruptions.arn

  # A target without the right to write loses what it is sent.
  depends_on = [aws_sqs_queue_policy.interruptions]
}
