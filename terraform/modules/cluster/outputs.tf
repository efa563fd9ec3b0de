output "name" {
  description = "The cluster's name, known once it has the agents that each node needs."
  value       = aws_eks_cluster.this.name

  # A node that comes before the network plugin is never ready, and its group fails.
  depends_on = [aws_eks_addon.agents]
}

output "arn" {
  description = "The cluster's ARN."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "Address of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Certificate of the Kubernetes API's authority, PEM in base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "kubernetes_version" {
  description = "Minor version of Kubernetes that the control plane has; nodes follow it."
  value       = aws_eks_cluster.this.version
}

output "security_group_id" {
  description = "Security group of the control plane, nodes and pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "kms_key_arn" {
  description = "Key that Secrets and the control plane's logs are encrypted with."
  value       = aws_kms_key.this.arn
}

output "log_group_name" {
  description = "CloudWatch log group of the control plane."
  value       = aws_cloudwatch_log_group.control_plane.name
}
