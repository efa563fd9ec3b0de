# What deployments/ has to know; terraform/outputs-to-deployments writes it there. No output is a
# secret: secrets have names and ARNs here, never values.

output "environment" {
  description = "Name of the environment."
  value       = var.environment
}

output "region" {
  description = "AWS region."
  value       = var.region
}

output "account_id" {
  description = "AWS account."
  value       = var.account_id
}

output "cluster" {
  description = "The EKS cluster, for `aws eks update-kubeconfig`."
  value       = { name = module.cluster.name, endpoint = module.cluster.endpoint }
}

output "repository_urls" {
  description = "Repositories of images by name."
  value       = module.registry.urls
}

output "bucket_names" {
  description = "Buckets by what they hold: lake, artifacts, logs, ledger."
  value       = { for what, bucket in module.lake.buckets : what => bucket.name }
}

output "online_table_name" {
  description = "DynamoDB table of the online store."
  value       = module.online_store.table_name
}

output "database" {
  description = "Address and port of PostgreSQL, and the ARN of its master password's secret."
  value = {
    address           = module.database.address
    port              = module.database.port
    master_secret_arn = module.database.master_secret_arn
  }
}

output "secret_arns" {
  description = "Secrets by name."
  value       = module.secrets.arns
}

output "role_arns" {
  description = "Roles by the account of Kubernetes (`namespace/name`) that takes them."
  value       = module.identity.role_arns
}

output "sagemaker_role_arn" {
  description = "Role of model servers on SageMaker: `sagemaker://` and this is MLOPS_ENDPOINTS, for endpoints there; null where `sagemaker` is."
  value       = module.identity.sagemaker_role_arn
}

output "karpenter" {
  description = "What Karpenter's chart is given: cluster, interruption queue, role; and the role of its nodes, which deployments/kubernetes/aws/nodes.yaml names."
  value = {
    cluster   = module.cluster.name
    queue     = module.nodes.karpenter_queue_name
    role_arn  = module.nodes.karpenter_role_arn
    node_role = module.nodes.node_role_name
  }
}

output "events_queue_url" {
  description = "Queue with news of objects."
  value       = module.events.queue_url
}

output "alert_topic_arn" {
  description = "SNS topic of alarms; `sns:` and this is a channel of MLOPS_ALERT_CHANNELS."
  value       = module.alerts.topic_arn
}

output "audit_bucket_name" {
  description = "Bucket with the audit trail."
  value       = module.audit.bucket.name
}

output "ci_role_arns" {
  description = "Roles of the workflows: plan, apply, push."
  value = {
    plan  = module.ci.plan_role_arn
    apply = module.ci.apply_role_arn
    push  = module.ci.push_role_arn
  }
}
