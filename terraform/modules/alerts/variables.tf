variable "name" {
  description = "Prefix of all names, such as `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, beginning with a letter, such as mlops-production."
  }
}

variable "emails" {
  description = "Addresses that hear of alarms; each confirms once."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+[.][^@[:space:]]+$", each))])
    error_message = "emails: write addresses such as on-call@example.com."
  }
}

variable "database" {
  description = "The RDS instance to watch: below how much free storage and above how many connections an alarm is due."
  type = object({
    instance_id      = string
    free_storage_gib = number
    max_connections  = number
  })
  default = null

  validation {
    condition     = try(var.database.free_storage_gib > 0 && var.database.max_connections > 0, var.database == null)
    error_message = "database: free_storage_gib and max_connections are more than 0: an alarm at 0 comes too late."
  }
}

variable "cluster_name" {
  description = "The EKS cluster to watch, and whose pods' log groups are made; none where null."
  type        = string
  default     = null
}

variable "queue_names" {
  description = "SQS queues that somebody has to keep empty."
  type        = set(string)
  default     = []
}

variable "dead_letter_queue_names" {
  description = "SQS queues in which any message is an alarm."
  type        = set(string)
  default     = []
}

variable "nat_gateway_ids" {
  description = "NAT gateways to watch for connections that they refuse."
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  description = "For how many days pods' logs are kept; one of the values that CloudWatch Logs knows."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "log_retention_days: take 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731, which CloudWatch Logs knows."
  }
}
