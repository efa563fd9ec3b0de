output "role_arns" {
  description = "ARN of the role of each workload, by Kubernetes account (`namespace/name`)."
  value       = { for account, role in aws_iam_role.workload : account => role.arn }
}

output "sagemaker_role_arn" {
  description = "ARN of the role of model servers on SageMaker, for `MLOPS_ENDPOINTS=sagemaker://<ARN>`; null without it."
  value       = one(aws_iam_role.sagemaker[*].arn)
}

output "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of the roles."
  value       = local.boundary_arn
}
