output "plan_role_arn" {
  description = "ARN of the role that plans."
  value       = aws_iam_role.this["plan"].arn
}

output "apply_role_arn" {
  description = "ARN of the role that applies."
  value       = aws_iam_role.this["apply"].arn
}

output "push_role_arn" {
  description = "ARN of the role that pushes images."
  value       = aws_iam_role.this["push"].arn
}

output "oidc_provider_arn" {
  description = "ARN of GitHub's identity provider in the account."
  value       = local.provider_arn
}

output "infrastructure_boundary_arn" {
  description = "ARN of the permissions boundary of the roles that are no workload's: cluster, nodes, Karpenter, flow logs, trail, replication."
  value       = aws_iam_policy.infrastructure.arn
}
