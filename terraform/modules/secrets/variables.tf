variable "name" {
  description = "Prefix of the name of the KMS key, e.g. `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, a letter first, e.g. mlops-production."
  }
}

variable "names" {
  description = "Names of the secrets, as deployments/kubernetes/aws/secrets.yaml has them. One account has one environment, so that they are the same in each."
  type        = set(string)
  default = [
    "mlops/dagster-database",
    "mlops/mlflow-database",
    "mlops/tuning-database",
    "mlops/environment",
  ]

  validation {
    # Secrets Manager adds a hyphen and six characters: a name that ends so is taken for another's ARN.
    condition = length(var.names) > 0 && alltrue([
      for name in var.names : can(regex("^mlops/[a-z][a-z0-9-]*$", name)) && !can(regex("-[A-Za-z0-9]{6}$", name))
    ])
    error_message = "names: write mlops/ and lower-case letters, digits and hyphens, at least one; a name must not end with a hyphen and six characters, which Secrets Manager appends itself."
  }
}

variable "recovery_days" {
  description = "Days for which a deleted secret can be restored, 7 to 30."
  type        = number
  default     = 30

  validation {
    condition     = var.recovery_days >= 7 && var.recovery_days <= 30 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days: give a whole number from 7 to 30; 0 would lose a deleted secret at once."
  }
}
