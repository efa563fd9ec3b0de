output "node_role_arn" {
  description = "Role of all nodes, of the groups and of Karpenter's."
  value       = aws_iam_role.node.arn
}

output "node_role_name" {
  description = "Name of that role, for EC2NodeClass objects."
  value       = aws_iam_role.node.name
}

output "karpenter_role_arn" {
  description = "Role of Karpenter's controller, bound to kube-system/karpenter."
  value       = aws_iam_role.karpenter.arn
}

output "karpenter_queue_name" {
  description = "Queue of interruptions, for `settings.interruptionQueue` of Karpenter's chart."
  value       = aws_sqs_queue.interruptions.name
}

output "karpenter_queue_arn" {
  description = "ARN of that queue."
  value       = aws_sqs_queue.interruptions.arn
}

output "autoscaler_role_arn" {
  description = "Role of Cluster Autoscaler, bound to kube-system/cluster-autoscaler; null without a GPU group."
  value       = one(values(aws_iam_role.autoscaler)[*].arn)
}

output "system_group_name" {
  description = "Name of the node group of Karpenter, add-ons and operators."
  value       = aws_eks_node_group.this["system"].node_group_name
}

output "gpu_group_name" {
  description = "Name of the spot GPU group; null where there is none."
  value       = try(aws_eks_node_group.this["gpu"].node_group_name, null)
}

output "gpu_labels" {
  description = "Labels of spot GPU nodes, which the compute profile `gpu_spot` selects."
  value       = local.gpu_labels
}

output "gpu_taints" {
  description = "Taints of GPU nodes in Kubernetes' words, which the GPU profiles tolerate."
  value       = local.gpu_taints
}
