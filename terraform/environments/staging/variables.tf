# No variable has a default: terraform.tfvars says everything that an environment is, so that two of
# them can be compared line by line. What a value has to be is checked by the module that takes it.

variable "environment" {
  description = "`staging` or `production`: MLOPS_ENV of what runs in it."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment: staging or production; another one needs an overlay in deployments/ and a folder here first."
  }
}

variable "region" {
  description = "AWS region of everything but copies."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: \"${var.region}\": write a region's name as AWS does, such as us-east-1."
  }
}

variable "account_id" {
  description = "The AWS account that this environment is; any other is refused."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id: \"${var.account_id}\": an AWS account has 12 digits; `aws sts get-caller-identity` shows yours."
  }
}

variable "tags" {
  description = "Tags of all that is made, beside `environment`: who answers for it, whose it is, what for, who pays, where it is written down."
  type = object({
    owner       = string
    team        = string
    use_case    = string
    cost_centre = string
    repository  = string
  })

  validation {
    condition     = alltrue([for value in values(var.tags) : can(regex("^[A-Za-z0-9 +=._:/@-]{1,256}$", value))])
    error_message = "tags: none may be empty, and AWS takes letters, digits, spaces and + - = . _ : / @ only, 256 at most."
  }
}

variable "network" {
  description = "The VPC: its addresses, zones, ways out."
  type = object({
    cidr                    = string
    zones                   = list(string)
    nat                     = string
    interface_endpoints     = set(string)
    flow_log_retention_days = number
  })

  validation {
    condition     = alltrue([for zone in var.network.zones : startswith(zone, var.region)])
    error_message = "network.zones: ${join(", ", var.network.zones)}: all have to be zones of ${var.region}."
  }
}

variable "cluster" {
  description = "The EKS cluster: its version, from where and by whom it is reached."
  type = object({
    kubernetes_version  = string
    public_access_cidrs = list(string)
    access_entries = map(object({
      principal_arn = string
      policy        = string
      namespaces    = list(string)
    }))
    log_retention_days = number
  })
}

variable "nodes" {
  description = "Node groups that Terraform makes: on-demand for the system, spot with GPUs from zero (null: Karpenter alone buys GPUs)."
  type = object({
    system_group = object({
      instance_types = list(string)
      min            = number
      max            = number
      disk_gib       = number
    })
    gpu_group = object({
      instance_types = list(string)
      max_size       = number
      disk_gib       = number
    })
  })
}

variable "lake" {
  description = "Buckets: for how long logs, old versions and the ledger are kept, and what is copied to a second region."
  type = object({
    log_retention_days    = number
    noncurrent_days       = number
    ledger_retention_days = number
    ledger_lock_mode      = string
    replicate             = set(string)
    replica_region        = string
  })
}

variable "online_store" {
  description = "The online store's table."
  type        = object({ deletion_protection = bool })

  validation {
    condition     = var.online_store.deletion_protection || var.environment != "production"
    error_message = "online_store.deletion_protection: set it to true in production; endpoints answer from this table."
  }
}

variable "database" {
  description = "The PostgreSQL instance of Dagster, MLflow and studies."
  type = object({
    instance_class        = string
    storage_gib           = number
    max_storage_gib       = number
    multi_az              = bool
    backup_retention_days = number
    deletion_protection   = bool
  })
}

variable "registry" {
  description = "Repositories of images, how many images each keeps, and which accounts may pull from them."
  type = object({
    repositories       = list(string)
    keep_images        = number
    reader_account_ids = list(string)
  })
}

variable "secrets" {
  description = "Secrets: for how many days a deleted one can be brought back."
  type        = object({ recovery_days = number })
}

variable "events" {
  description = "Under which keys of the lake's bucket a new object is news."
  type        = object({ prefixes = list(string) })
}

variable "sagemaker" {
  description = "Which instances endpoints on SageMaker may have; null: endpoints are on the cluster, and nothing is made for SageMaker."
  type        = object({ instance_types = list(string) })
}

variable "ci" {
  description = "Whose workflows plan, apply and push images, and where the state is (from terraform/bootstrap, as in backend.tf)."
  type = object({
    github_repository = string
    branch            = string
    apply_environment = string
    state             = object({ bucket_arn = string, object = string, key_arn = string })
  })
}

variable "alerts" {
  description = "Who hears of alarms, from when on, and for how long pods' logs are kept."
  type = object({
    emails                    = set(string)
    log_retention_days        = number
    database_free_storage_gib = number
    database_max_connections  = number
  })

  validation {
    condition     = length(var.alerts.emails) > 0
    error_message = "alerts.emails: name at least one address, or nobody hears of an alarm or a budget."
  }
}

variable "audit" {
  description = "For how long nobody can delete the account's events, and how strictly."
  type = object({
    retention_days     = number
    object_lock_mode   = string
    log_retention_days = number
  })

  validation {
    condition     = var.environment != "production" || var.audit.retention_days >= 365
    error_message = "audit.retention_days: ${var.audit.retention_days}: keep production's events for a year (365) or more."
  }
}

variable "budget" {
  description = "What a month may cost, in US dollars: the account, teams by their tag, and what counts as an anomaly."
  type = object({
    monthly_usd = number
    per_team    = map(number)
    anomaly_usd = number
  })
}
