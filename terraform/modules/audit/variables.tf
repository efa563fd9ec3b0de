variable "name" {
  description = "Prefix of all names, such as `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, beginning with a letter, such as mlops-production: it becomes part of a bucket's name."
  }
}

variable "retention_days" {
  description = "For how many days nobody can delete an event."
  type        = number

  validation {
    condition     = var.retention_days >= 91 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days: keep events for 91 days or more (whole days): they move to archive storage after 90, and an audit looks back further."
  }
}

variable "object_lock_mode" {
  description = "`COMPLIANCE`: nobody shortens the retention, not even the root account. `GOVERNANCE`: who has s3:BypassGovernanceRetention does, so that an environment can be torn down."
  type        = string
  default     = "COMPLIANCE"

  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.object_lock_mode)
    error_message = "object_lock_mode: COMPLIANCE, or GOVERNANCE for an environment that has to be torn down."
  }
}

variable "data_events" {
  description = "Buckets whose objects' events are recorded, with or without reads. Endpoints read the artifacts every few seconds: reads of it are not worth their price."
  type = list(object({
    bucket_arn = string
    reads      = bool
  }))
  default = []

  validation {
    condition     = alltrue([for each in var.data_events : can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", each.bucket_arn))])
    error_message = "data_events: bucket_arn is a bucket's ARN without a path, such as arn:aws:s3:::mlops-production-ledger."
  }
}

variable "log_retention_days" {
  description = "For how many days the events are in CloudWatch too, for searches and alarms; one of the values that CloudWatch Logs knows."
  type        = number
  default     = 365

  validation {
    condition     = contains([90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: CloudWatch Logs knows 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days; take one of them."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of root logins, changes of the trail and the like; none: the alarms are only shown."
  type        = list(string)
  default     = []
}

variable "force_destroy" {
  description = "Delete the bucket with what is in it on destroy; Object Lock stands above it."
  type        = bool
  default     = false
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role that CloudTrail takes; none where nothing asks for one."
  type        = string
  default     = null
}
