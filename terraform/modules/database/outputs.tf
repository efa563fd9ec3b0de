output "address" {
  description = "The instance's host name."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "The instance's port."
  value       = aws_db_instance.this.port
}

output "instance_id" {
  description = "The instance's identifier."
  value       = aws_db_instance.this.identifier
}

output "master_secret_arn" {
  description = "The secret with the master's user name and password, which RDS made and rotates. For the database bootstrap alone."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "security_group_id" {
  description = "The instance's security group."
  value       = aws_security_group.this.id
}

output "kms_key_arn" {
  description = "The key of storage, snapshots, logs and the master's secret."
  value       = aws_kms_key.database.arn
}

output "log_group_names" {
  description = "CloudWatch log groups of PostgreSQL's log and of upgrades."
  value       = [for each in aws_cloudwatch_log_group.this : each.name]
}
