output "state_bucket" {
  description = "Name and ARN of the bucket of Terraform's state: `bucket` in backend.tf."
  value       = { name = aws_s3_bucket.state.id, arn = aws_s3_bucket.state.arn }
}

output "state_key" {
  description = "Alias and ARN of its KMS key: `kms_key_id` in backend.tf is the alias."
  value       = { alias = aws_kms_alias.state.name, arn = aws_kms_key.state.arn }
}
