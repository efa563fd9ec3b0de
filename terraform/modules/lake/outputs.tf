output "buckets" {
  description = "`lake`, `artifacts`, `logs` and `ledger`, each with its `name` and `arn`."
  value       = { for kind, bucket in aws_s3_bucket.data : kind => { name = bucket.bucket, arn = bucket.arn } }
}

output "access_log_bucket" {
  description = "`name` and `arn` of the bucket with S3's access logs."
  value       = { name = aws_s3_bucket.access.bucket, arn = aws_s3_bucket.access.arn }
}

output "kms_key_arn" {
  description = "The key of the four buckets."
  value       = aws_kms_key.lake.arn
}

output "replicas" {
  description = "The copies in the second region by what they are of, each with its `name` and `arn`."
  value       = { for kind, bucket in aws_s3_bucket.replica : kind => { name = bucket.bucket, arn = bucket.arn } }
}

output "replica_kms_key_arn" {
  description = "The key of the copies (null: there are none)."
  value       = one(aws_kms_key.replica[*].arn)
}

output "replication_role_arn" {
  description = "The role that S3 copies with (null: there are no copies)."
  value       = one(aws_iam_role.replication[*].arn)
}
