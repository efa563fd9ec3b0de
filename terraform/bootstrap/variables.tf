variable "environment" {
  description = "Which environment the account is: `staging` or `production`."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment: staging or production."
  }
}

variable "region" {
  description = "Region of the state's bucket, as in the environment's backend.tf."
  type        = string
}

variable "account_id" {
  description = "The AWS account that this environment is; any other is refused."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id: an AWS account has 12 digits; `aws sts get-caller-identity` shows yours."
  }
}

variable "tags" {
  description = "Tags of all that is made here, beside `environment`."
  type = object({
    owner       = string
    team        = string
    use_case    = string
    cost_centre = string
    repository  = string
  })
}
