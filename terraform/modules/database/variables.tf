variable "name" {
  type        = string
  description = "The instance's identifier and prefix of all names, like `mlops-production`."

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9]){1,47}$", var.name))
    error_message = "name is the instance's identifier: 2 to 48 lower-case letters and digits with single hyphens between them, such as mlops-production."
  }
}

variable "production" {
  type        = bool
  description = "Whether this is production: what may not be missing there is refused at plan."
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the subnets."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets, in two zones at least."

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "A database needs subnets in two zones, for its standby: give two subnet_ids or more."
  }
}

variable "client_security_group_ids" {
  type        = list(string)
  description = "Security groups whose members may connect: the cluster's. Nothing else may."

  validation {
    condition     = length(var.client_security_group_ids) > 0 && alltrue([for id in var.client_security_group_ids : startswith(id, "sg-")])
    error_message = "client_security_group_ids names the security groups (sg-…) that may connect, one at least; address ranges are not taken."
  }
}

variable "engine_version" {
  type        = string
  description = "PostgreSQL's major version. Minor ones come by themselves, in the maintenance window."
  default     = "17"

  validation {
    condition     = can(regex("^1[5-8]$", var.engine_version))
    error_message = "engine_version is a major version of PostgreSQL, 15 to 18: minor ones are upgraded by RDS, and a plan that names one would turn them back."
  }
}

variable "allow_major_version_upgrade" {
  type        = bool
  description = "Whether another engine_version is taken: for the change that upgrades, and not after."
  default     = false
}

variable "instance_class" {
  type        = string
  description = "The instance's class, like `db.m7g.large`."

  validation {
    condition     = can(regex("^db\\.[a-z][a-z0-9-]*\\.(micro|small|medium|large|[0-9]{0,2}xlarge)$", var.instance_class))
    error_message = "instance_class is db.<family>.<size>, such as db.m7g.large or db.t4g.medium."
  }
}

variable "storage_gib" {
  type        = number
  description = "Storage at first (gp3)."

  validation {
    condition     = var.storage_gib >= 20 && var.storage_gib <= 65536 && floor(var.storage_gib) == var.storage_gib
    error_message = "storage_gib is a whole number from 20 to 65536, which is what RDS has of gp3."
  }
}

variable "max_storage_gib" {
  type        = number
  description = "What RDS may grow the storage to, before it is full. It never shrinks."

  validation {
    condition     = var.max_storage_gib >= ceil(1.1 * var.storage_gib) && var.max_storage_gib <= 65536
    error_message = "max_storage_gib leaves storage no room to grow: set it to ${ceil(1.1 * var.storage_gib)} or more (storage_gib and a tenth, below which RDS refuses), and 65536 at most."
  }
}

variable "multi_az" {
  type        = bool
  description = "Whether a standby in a second zone takes over."
  default     = true

  validation {
    condition     = var.multi_az || !var.production
    error_message = "Production without a standby is down for as long as a zone is: set multi_az = true for the database."
  }
}

variable "backup_retention_days" {
  type        = number
  description = "Days to any second of which the database can be restored."
  default     = 14

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35 && floor(var.backup_retention_days) == var.backup_retention_days
    error_message = "backup_retention_days is a whole number of days from 1 to 35: 0 would turn backups and point-in-time recovery off."
  }

  validation {
    condition     = var.backup_retention_days >= 7 || !var.production
    error_message = "Production needs backups of a week, since a mistake may be found after a week-end: set backup_retention_days to 7 or more for the database."
  }
}

variable "deletion_protection" {
  type        = bool
  description = "Whether RDS refuses to delete the instance."
  default     = true

  validation {
    condition     = var.deletion_protection || !var.production
    error_message = "A production database that one call can delete: set deletion_protection = true for the database. To take it down for good, set production = false first, in a change of its own."
  }
}

variable "backup_window" {
  type        = string
  description = "When the daily snapshot is taken (UTC)."
  default     = "03:00-04:00"

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$", var.backup_window))
    error_message = "backup_window is two times of day in UTC, such as 03:00-04:00."
  }
}

variable "maintenance_window" {
  type        = string
  description = "When minor upgrades and changes that need a restart are done (UTC)."
  default     = "sun:04:30-sun:05:30"

  validation {
    condition     = can(regex("^(mon|tue|wed|thu|fri|sat|sun):([01][0-9]|2[0-3]):[0-5][0-9]-(mon|tue|wed|thu|fri|sat|sun):([01][0-9]|2[0-3]):[0-5][0-9]$", var.maintenance_window))
    error_message = "maintenance_window is two times of the week in UTC, such as sun:04:30-sun:05:30."
  }
}

variable "log_retention_days" {
  type        = number
  description = "Days until the database's logs expire."
  default     = 90

  validation {
    condition = contains([
      1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
    ], var.log_retention_days)
    error_message = "log_retention_days is one of the numbers that CloudWatch has, such as 30, 90 or 365."
  }
}

variable "permissions_boundary_arn" {
  type        = string
  description = "Permissions boundary of the role of RDS's monitoring (null: none)."
  default     = null
}
