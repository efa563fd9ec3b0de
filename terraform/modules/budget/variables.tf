variable "name" {
  description = "Prefix of all names, such as `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,39}$", var.name))
    error_message = "name: use 3 to 40 lower-case letters, digits and hyphens, beginning with a letter, such as mlops-production."
  }
}

variable "monthly_usd" {
  description = "What the account may cost in a month, in US dollars."
  type        = number

  validation {
    condition     = var.monthly_usd > 0
    error_message = "monthly_usd: write what a month may cost, more than 0; terraform/COSTS.md says what to expect."
  }
}

variable "per_team" {
  description = "The part of it that a team may use, in US dollars a month, by the value of the tag `team`."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for usd in values(var.per_team) : usd > 0])
    error_message = "per_team: write what a month of each team may cost, more than 0; leave a team out that has no budget of its own."
  }

  validation {
    condition     = sum(concat([0], values(var.per_team))) <= var.monthly_usd
    error_message = "per_team: the teams' budgets together are more than monthly_usd: raise it, or lower theirs."
  }
}

variable "thresholds_percent" {
  description = "At which parts of a budget somebody is told, in percent; of the month's forecast always at 100."
  type        = list(number)
  default     = [50, 80, 100]

  validation {
    condition     = length(var.thresholds_percent) > 0 && length(var.thresholds_percent) <= 4 && alltrue([for each in var.thresholds_percent : each > 0 && each <= 200])
    error_message = "thresholds_percent: one to four numbers between 0 and 200; AWS takes five notifications a budget, and one is the forecast's."
  }
}

variable "emails" {
  description = "Addresses that are told."
  type        = list(string)
  default     = []
}

variable "topic_arns" {
  description = "SNS topics that are told: one, at most; their policies and keys let budgets.amazonaws.com and costalerts.amazonaws.com publish (the module alerts does)."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.topic_arns) <= 1
    error_message = "topic_arns: AWS takes one topic a budget; subscribe the others to it."
  }

  validation {
    condition     = length(var.topic_arns) + length(var.emails) > 0
    error_message = "topic_arns: a budget that tells nobody holds nothing; name a topic here, or addresses in emails."
  }
}

variable "anomaly_usd" {
  description = "From how many US dollars more than usual somebody is told of an anomaly."
  type        = number

  validation {
    condition     = var.anomaly_usd > 0
    error_message = "anomaly_usd: more than 0, or every cent more than yesterday is told."
  }
}
