variable "name" {
  type        = string
  description = "Prefix of the key's alias, like `mlops-production`. The repositories have the names that deployments/ gives images."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name is 3 to 42 lower-case letters, digits and hyphens, such as mlops-production."
  }
}

variable "repositories" {
  type        = set(string)
  description = "Names of the images, like `mlops-server` or `nvidia/k8s-device-plugin`."

  validation {
    condition     = length(var.repositories) > 0
    error_message = "repositories is empty: name the images that the cluster pulls, such as mlops-server."
  }

  validation {
    condition = alltrue([
      for each in var.repositories : can(regex("^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$", each)) && length(each) >= 2 && length(each) <= 256
    ])
    error_message = "repositories has what ECR refuses: ${join(", ", [
      for each in var.repositories : each if !can(regex("^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$", each)) || length(each) < 2 || length(each) > 256
    ])}. Names are lower-case letters and digits, with single . _ - between them and / between parts, without registry and tag, such as nvidia/k8s-device-plugin."
  }
}

variable "keep_images" {
  type        = number
  description = "Images of a repository that are kept, the newest ones: more than were deployed in the time that a roll-back may go back."
  default     = 200

  validation {
    condition     = var.keep_images >= 20 && floor(var.keep_images) == var.keep_images
    error_message = "keep_images is a whole number, 20 or more: ECR does not know which images run, and one that is gone is not pulled when its pod moves to another node."
  }
}

variable "untagged_days" {
  type        = number
  description = "Days until images without a tag go: parts of pushes that were not finished, and old builds of caches."
  default     = 7

  validation {
    condition     = var.untagged_days >= 1 && floor(var.untagged_days) == var.untagged_days
    error_message = "untagged_days is a whole number of days, 1 or more."
  }
}

variable "reader_account_ids" {
  type        = set(string)
  description = "Other accounts that may pull, such as production from where images are built."
  default     = []

  validation {
    condition     = alltrue([for each in var.reader_account_ids : can(regex("^[0-9]{12}$", each))])
    error_message = "reader_account_ids are AWS account numbers of twelve digits, leading zeros included, as strings."
  }
}
