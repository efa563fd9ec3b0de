output "trail_arn" {
  description = "ARN of the trail."
  value       = aws_cloudtrail.this.arn
}

output "bucket" {
  description = "Name and ARN of the bucket with the events."
  value       = { name = aws_s3_bucket.trail.id, arn = aws_s3_bucket.trail.arn }
}

output "key_arn" {
  description = "ARN of the KMS key of the bucket and the log group."
  value       = aws_kms_key.audit.arn
}

output "log_group_name" {
  description = "CloudWatch log group with the same events."
  value       = aws_cloudwatch_log_group.trail.name
}

output "analyzer_arn" {
  description = "ARN of IAM Access Analyzer's analyzer."
  value       = aws_accessanalyzer_analyzer.this.arn
}
