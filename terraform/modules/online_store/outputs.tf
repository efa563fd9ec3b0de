output "table_name" {
  description = "The table's name, for `MLOPS_ONLINE_URL=dynamodb://<table_name>`."
  value       = aws_dynamodb_table.online.name
}

output "table_arn" {
  description = "The table's ARN."
  value       = aws_dynamodb_table.online.arn
}

output "kms_key_arn" {
  description = "The table's key."
  value       = aws_kms_key.online.arn
}
