variable "name" {
  type        = string
  description = "Prefix of the names, like `mlops-production`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name is 3 to 42 lower-case letters, digits and hyphens, such as mlops-production."
  }
}

variable "bucket_names" {
  type        = list(string)
  description = "Buckets that tell EventBridge of new objects."

  validation {
    condition     = length(var.bucket_names) > 0 && alltrue([for each in var.bucket_names : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", each))])
    error_message = "bucket_names takes names of buckets, one at least, such as mlops-production-lake: no ARNs, no s3://."
  }
}

variable "prefixes" {
  type        = list(string)
  description = "Beginnings of the keys that are new data, like `landing/`."

  validation {
    condition     = length(var.prefixes) > 0 && alltrue([for each in var.prefixes : can(regex("^[^/].*/$", each))])
    error_message = "prefixes are folders that end in / and do not begin with one, such as landing/: without any, the platform's own writes would start what waits for data."
  }
}

variable "retention_days" {
  type        = number
  description = "Days for which an event waits to be read. Those that were not handled wait 14 days in the dead-letter queue."
  default     = 4

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 13 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days is a whole number of days from 1 to 13: a message's age goes on in the dead-letter queue, which keeps 14 days."
  }
}

variable "max_receive_count" {
  type        = number
  description = "Times that an event is tried before it goes to the dead-letter queue."
  default     = 5

  validation {
    condition     = var.max_receive_count >= 2 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "max_receive_count is a whole number from 2 to 1000: with 1, a reader that is restarted loses what it had begun."
  }
}

variable "visibility_timeout_seconds" {
  type        = number
  description = "Seconds that a reader has before another one gets the event."
  default     = 300

  validation {
    condition     = var.visibility_timeout_seconds >= 30 && var.visibility_timeout_seconds <= 43200
    error_message = "visibility_timeout_seconds is from 30 to 43200 seconds."
  }
}
