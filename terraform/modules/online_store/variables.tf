variable "name" {
  type        = string
  description = "Prefix of the table's name, like `mlops-production`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name begins the table's name: 3 to 42 lower-case letters, digits and hyphens, such as mlops-production."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether DynamoDB refuses to delete the table."
  default     = true
}

variable "recovery_days" {
  type        = number
  description = "Days to any second of which the table can be restored."
  default     = 35

  validation {
    condition     = var.recovery_days >= 1 && var.recovery_days <= 35 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days is a whole number of days from 1 to 35, which is the most that DynamoDB keeps."
  }
}
