variable "name" {
  type        = string
  description = "Prefix of the buckets' names, like `mlops-production`. Bucket names are unique in the world."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name begins the buckets' names: 3 to 42 lower-case letters, digits and hyphens, such as mlops-production."
  }
}

variable "log_retention_days" {
  type        = number
  description = "Days until what is in the logs bucket (output of runs and steps) expires."
  default     = 90

  validation {
    condition     = var.log_retention_days >= 1 && floor(var.log_retention_days) == var.log_retention_days
    error_message = "log_retention_days is a whole number of days, 1 or more."
  }
}

variable "access_log_retention_days" {
  type        = number
  description = "Days until S3's access logs of all buckets expire."
  default     = 365

  validation {
    condition     = var.access_log_retention_days >= 1 && floor(var.access_log_retention_days) == var.access_log_retention_days
    error_message = "access_log_retention_days is a whole number of days, 1 or more."
  }
}

variable "noncurrent_days" {
  type        = number
  description = "Days for which a deleted or overwritten object can be brought back."
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 7 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days is how long a mistake can be undone: a whole number of days, 7 or more."
  }
}

variable "tiering_days" {
  type        = number
  description = "Days after which the lake's objects of more than 1 MiB go to S3 Intelligent-Tiering."
  default     = 30

  validation {
    condition     = var.tiering_days >= 0 && floor(var.tiering_days) == var.tiering_days
    error_message = "tiering_days is a whole number of days, 0 or more."
  }
}

variable "ledger_retention_days" {
  type        = number
  description = "Days for which Object Lock keeps each object of the ledger bucket from being deleted or changed."
  default     = 365

  validation {
    condition     = var.ledger_retention_days >= 1 && var.ledger_retention_days <= 36500 && floor(var.ledger_retention_days) == var.ledger_retention_days
    error_message = "ledger_retention_days is a whole number of days from 1 to 36500: set it to how long decisions about models have to be provable."
  }
}

variable "ledger_lock_mode" {
  type        = string
  description = "`GOVERNANCE`: who may change the bucket's policy can shorten the lock. `COMPLIANCE`: nobody can, the account's root user included, and the account cannot be emptied before."
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.ledger_lock_mode)
    error_message = "ledger_lock_mode is GOVERNANCE or COMPLIANCE."
  }
}

variable "replicate" {
  type        = set(string)
  description = "Buckets with a copy in the region of the provider `aws.replica`: of `lake`, `artifacts`, `ledger`."
  default     = []

  validation {
    condition     = length(setsubtract(var.replicate, ["lake", "artifacts", "ledger"])) == 0
    error_message = "replicate takes lake, artifacts and ledger: logs are not worth a second region."
  }
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` deletes buckets that are not empty. For accounts that are thrown away."
  default     = false

  validation {
    condition     = !(var.force_destroy && var.ledger_lock_mode == "COMPLIANCE")
    error_message = "Nobody can empty a ledger that is locked in mode COMPLIANCE: set force_destroy = false, or ledger_lock_mode = \"GOVERNANCE\" in an account that is thrown away."
  }
}

variable "permissions_boundary_arn" {
  type        = string
  description = "Permissions boundary of the replication role (null: none)."
  default     = null
}
