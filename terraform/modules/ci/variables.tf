variable "name" {
  description = "Prefix of the names of what Terraform makes in the account, e.g. `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, a letter first, e.g. mlops-production."
  }
}

variable "github_repository" {
  description = "The one repository whose workflows take the roles on, `owner/name`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", var.github_repository))
    error_message = "github_repository: write owner/name of one repository; with * any repository of GitHub could take the roles on."
  }
}

variable "branch" {
  description = "The protected branch whose jobs plan and push images."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", var.branch))
    error_message = "branch: write the name of one branch, without * and without refs/heads/."
  }

  validation {
    condition     = !startswith(var.branch, "refs/")
    error_message = "branch: write the name alone, e.g. main."
  }
}

variable "apply_environment" {
  description = "GitHub environment whose jobs apply. Its protection rules (reviewers, branches) are what holds others back."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]*$", var.apply_environment))
    error_message = "apply_environment: write the name of one environment of the repository (letters, digits, _ and -), e.g. production."
  }
}

variable "plan_on_pull_requests" {
  description = "Whether jobs of pull requests plan too. Their code is nobody's review yet, and reads settings and state."
  type        = bool
  default     = true
}

variable "state" {
  description = "Where Terraform's state of this environment is: ARN of the bucket, key of the object in it, ARN of the KMS key."
  type        = object({ bucket_arn = string, object = string, key_arn = string })

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9][a-z0-9.-]+$", var.state.bucket_arn))
    error_message = "state: bucket_arn has to be the ARN of one bucket (arn:aws:s3:::name)."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9/_.-]*$", var.state.object))
    error_message = "state: object has to be the key of one object, as `key` in backend.tf, without *."
  }

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.state.key_arn))
    error_message = "state: key_arn has to be the ARN of a KMS key (arn:aws:kms:…:key/…)."
  }
}

variable "registry_arns" {
  description = "ARNs of the repositories of images that are pushed."
  type        = list(string)

  validation {
    condition     = length(var.registry_arns) > 0
    error_message = "registry_arns: name at least one repository, as module registry's output `arns`."
  }

  validation {
    condition     = alltrue([for arn in var.registry_arns : !strcontains(arn, "*")])
    error_message = "registry_arns: an ARN with * would open other repositories: write each out."
  }
}

variable "oidc_provider_arn" {
  description = "ARN, known before anything is made, of GitHub's identity provider in the account, of which there is one at most; null: the module makes it."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_provider_arn == null ? true : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token.actions.githubusercontent.com$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn: give the ARN of token.actions.githubusercontent.com's provider in this account, or null."
  }
}
