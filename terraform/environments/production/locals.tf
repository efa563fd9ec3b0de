locals {
  # The prefix of all names, and the cluster's name; deployments/ has the buckets and the table by it.
  name       = "mlops-${var.environment}"
  production = var.environment == "production"

  tags = merge(var.tags, { environment = var.environment })
}
