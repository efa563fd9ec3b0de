output "urls" {
  description = "Where to push and pull, by the repository's name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "arns" {
  description = "The repositories' ARNs, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.arn }
}

output "kms_key_arn" {
  description = "The images' key."
  value       = aws_kms_key.registry.arn
}
