variable "name" {
  description = "Prefix of the names of roles and policies, e.g. `mlops-production`."
  type        = string

  validation {
    # The longest role's name, `<name>-database-bootstrap`, has at most 64 characters.
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, a letter first, e.g. mlops-production."
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster whose pods take the roles on."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "cluster_name: give the name of the EKS cluster, not its ARN."
  }
}

variable "buckets" {
  description = "The platform's buckets by what they hold: `lake`, `artifacts`, `logs` and `ledger`, each with name and ARN."
  type        = map(object({ name = string, arn = string }))

  validation {
    condition     = toset(keys(var.buckets)) == toset(["lake", "artifacts", "logs", "ledger"])
    error_message = "buckets: give lake, artifacts, logs and ledger, and no other one, as module lake's output `buckets`."
  }

  validation {
    condition     = alltrue([for each in values(var.buckets) : !strcontains(each.arn, "*")])
    error_message = "buckets: an ARN with * would open other buckets: write each out."
  }
}

variable "lake_key_arn" {
  description = "ARN of the KMS key of the buckets."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.lake_key_arn))
    error_message = "lake_key_arn: give the ARN of a KMS key (arn:aws:kms:…:key/…); an alias' would open whatever key it points to."
  }
}

variable "secrets" {
  description = "The secrets' ARNs by name, and the ARN of their KMS key. Names that end with `-database` are filled by the database bootstrap."
  type        = object({ arns = map(string), key_arn = string })

  validation {
    condition     = length(var.secrets.arns) > 0
    error_message = "secrets: name at least one, as module secrets' output `arns`."
  }

  validation {
    condition     = alltrue([for arn in values(var.secrets.arns) : !strcontains(arn, "*")])
    error_message = "secrets: an ARN with * would open other secrets: write each out."
  }
}

variable "online_store" {
  description = "ARNs of the online store's table in DynamoDB and of its KMS key; null without one."
  type        = object({ table_arn = string, key_arn = string })
  default     = null
}

variable "events" {
  description = "ARNs of the queue that tells of new data and of its KMS key; null without one."
  type        = object({ queue_arn = string, key_arn = string })
  default     = null
}

variable "alerts" {
  description = "ARNs of the topic that alerts go to and of its KMS key; null without one."
  type        = object({ topic_arn = string, key_arn = string })
  default     = null
}

variable "database" {
  description = "ARNs of the secret of the database's master user, which RDS keeps, and of its KMS key; null without a database to fill."
  type        = object({ master_secret_arn = string, key_arn = string })
  default     = null
}

variable "source_bucket_arns" {
  description = "ARNs of buckets, beside the lake, that datasets are read from."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.source_bucket_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9][a-z0-9.-]+$", arn))])
    error_message = "source_bucket_arns: give ARNs of buckets (arn:aws:s3:::name), without * and without a key."
  }
}

variable "sagemaker" {
  description = "For endpoints on SageMaker, the ARNs of the repositories that their images are pulled from, and the types of instances that they may have (`ml.c5.large`); null: no endpoint is on SageMaker, and no role for them is made."
  type        = object({ repository_arns = list(string), instance_types = list(string) })
  default     = null

  validation {
    condition     = var.sagemaker == null ? true : length(var.sagemaker.repository_arns) > 0
    error_message = "sagemaker: name the repository of the model server's image, or give null."
  }

  validation {
    condition     = var.sagemaker == null ? true : alltrue([for arn in var.sagemaker.repository_arns : !strcontains(arn, "*")])
    error_message = "sagemaker: an ARN with * would open other repositories: write each out."
  }

  validation {
    condition     = var.sagemaker == null ? true : length(var.sagemaker.instance_types) > 0
    error_message = "sagemaker.instance_types: name the one of MLOPS_SAGEMAKER_INSTANCE (ml.c5.large, where that is not set), or give sagemaker = null."
  }

  validation {
    condition = var.sagemaker == null ? true : alltrue([
      for type in var.sagemaker.instance_types : can(regex("^ml\\.[a-z0-9-]+\\.[a-z0-9]+$", type))
    ])
    error_message = "sagemaker.instance_types: ${try(join(", ", var.sagemaker.instance_types), "")}: write each out as SageMaker calls it, e.g. ml.c5.large; a pattern would be taken to the letter."
  }
}

variable "external_secrets_account" {
  description = "Kubernetes account of the External Secrets operator, `namespace/name`."
  type        = string
  default     = "external-secrets/external-secrets"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.external_secrets_account))
    error_message = "external_secrets_account: give namespace/name of the operator's service account, e.g. external-secrets/external-secrets."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN, known before anything is made, of the permissions boundary of the roles; null: the module makes `<name>-workloads`."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn: give the ARN of a policy of an account; AWS' own policies are no boundaries."
  }
}
