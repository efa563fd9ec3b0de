output "topic_arn" {
  description = "ARN of the SNS topic of all alarms; runs and sensors may publish to it too."
  value       = aws_sns_topic.alerts.arn
}

output "key_arn" {
  description = "ARN of the KMS key of the topic and the log groups; who publishes needs kms:GenerateDataKey and kms:Decrypt on it."
  value       = aws_kms_key.alerts.arn
}

output "log_group_names" {
  description = "Log groups of pods."
  value       = [for each in aws_cloudwatch_log_group.pods : each.name]
}
