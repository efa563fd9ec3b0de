output "arns" {
  description = "ARN of each secret, by its name."
  value       = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }
}

output "kms_key_arn" {
  description = "ARN of the KMS key of the secrets."
  value       = aws_kms_key.secrets.arn
}
