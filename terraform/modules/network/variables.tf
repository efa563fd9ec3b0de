variable "name" {
  description = "Prefix of all names, for example `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name: 3 to 32 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "cidr" {
  description = "The VPC's address range, /16 to /20, inside 10.0.0.0/8: deployments' network policies let pods reach databases there only."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], false)
    error_message = "cidr: \"${var.cidr}\" is no IPv4 range. Write its first address and its length, as in 10.0.0.0/16."
  }

  validation {
    condition     = try(split("/", var.cidr)[1] >= 16 && split("/", var.cidr)[1] <= 20, true)
    error_message = "cidr: \"${var.cidr}\" must be a /16 to a /20: AWS takes no larger VPC, and a smaller one has too few addresses for pods."
  }

  validation {
    condition     = try(cidrhost("${split("/", var.cidr)[0]}/8", 0) == "10.0.0.0", true)
    error_message = "cidr: \"${var.cidr}\" must lie inside 10.0.0.0/8, where deployments/kubernetes/guards/network.yaml lets pods reach databases."
  }
}

variable "zones" {
  description = "Availability zones, two to six, all of the provider's region; a new one goes to the end."
  type        = list(string)

  validation {
    condition     = length(distinct(var.zones)) >= 2
    error_message = "zones: name at least two different zones, as in [\"us-east-1a\", \"us-east-1b\", \"us-east-1c\"]; EKS and Multi-AZ databases need them."
  }

  validation {
    condition     = length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: at most six, each named once."
  }

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "zones: ${join(", ", var.zones)}: write zones' names as AWS does, as in us-east-1a."
  }
}

variable "private_subnets" {
  description = "Address ranges of the private subnets, one a zone in their order, together with `public_subnets`; empty: derived from `cidr`."
  type        = list(string)
  default     = []

  validation {
    condition     = contains([0, length(var.zones)], length(var.private_subnets))
    error_message = "private_subnets: give one range a zone, ${length(var.zones)} in their order, or none, and they are derived from cidr."
  }

  validation {
    condition = alltrue([
      for each in var.private_subnets :
      can(cidrnetmask(each)) && try(cidrhost(each, 0) == split("/", each)[0], false)
    ])
    error_message = "private_subnets: ${join(", ", var.private_subnets)}: each must be an IPv4 range, its first address and its length, as in 10.0.32.0/19."
  }

  validation {
    condition = alltrue([
      for each in var.private_subnets : try(
        split("/", each)[1] >= split("/", var.cidr)[1]
        && cidrhost("${split("/", each)[0]}/${split("/", var.cidr)[1]}", 0) == split("/", var.cidr)[0],
        true,
      )
    ])
    error_message = "private_subnets: ${join(", ", var.private_subnets)}: each must lie inside the VPC's range ${var.cidr}."
  }
}

variable "public_subnets" {
  description = "Address ranges of the public subnets, one a zone in their order, together with `private_subnets`; empty: derived from `cidr`."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.public_subnets) == length(var.private_subnets)
    error_message = "public_subnets: give it together with private_subnets, one range a zone each, or neither."
  }

  validation {
    condition = alltrue([
      for each in var.public_subnets :
      can(cidrnetmask(each)) && try(cidrhost(each, 0) == split("/", each)[0], false)
    ])
    error_message = "public_subnets: ${join(", ", var.public_subnets)}: each must be an IPv4 range, its first address and its length, as in 10.0.224.0/22."
  }

  validation {
    condition = alltrue([
      for each in var.public_subnets : try(
        split("/", each)[1] >= split("/", var.cidr)[1]
        && cidrhost("${split("/", each)[0]}/${split("/", var.cidr)[1]}", 0) == split("/", var.cidr)[0],
        true,
      )
    ])
    error_message = "public_subnets: ${join(", ", var.public_subnets)}: each must lie inside the VPC's range ${var.cidr}."
  }

  # Two ranges overlap where they are the same at the shorter of their prefixes.
  validation {
    condition = alltrue(flatten([
      for i, a in concat(var.private_subnets, var.public_subnets) : [
        for j, b in concat(var.private_subnets, var.public_subnets) : i >= j || try(
          cidrhost("${split("/", a)[0]}/${min(split("/", a)[1], split("/", b)[1])}", 0)
          != cidrhost("${split("/", b)[0]}/${min(split("/", a)[1], split("/", b)[1])}", 0),
          true,
        )
      ]
    ]))
    error_message = "private_subnets, public_subnets: ${join(", ", concat(var.private_subnets, var.public_subnets))} overlap; give ranges that share no address."
  }
}

variable "nat" {
  description = "`per_zone`: a NAT gateway in each zone; `one`: one for all, cheaper, and gone with its zone."
  type        = string
  default     = "per_zone"

  validation {
    condition     = contains(["per_zone", "one"], var.nat)
    error_message = "nat: write \"per_zone\" or \"one\"."
  }
}

variable "interface_endpoints" {
  description = "AWS services that are reached through an endpoint in each zone, by the last part of their service name; the others go out through NAT. S3 and DynamoDB have gateway endpoints in any case, which cost nothing."
  type        = set(string)
  default     = ["ec2", "ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "sqs", "sts"]

  validation {
    condition     = length(setintersection(var.interface_endpoints, ["s3", "dynamodb"])) == 0
    error_message = "interface_endpoints: take s3 and dynamodb out; they have gateway endpoints already, which cost nothing."
  }

  validation {
    condition     = alltrue([for each in var.interface_endpoints : can(regex("^[a-z0-9][a-z0-9.-]*$", each)) && !startswith(each, "com.amazonaws")])
    error_message = "interface_endpoints: ${join(", ", var.interface_endpoints)}: write the last part of a service's name alone, as in ecr.api."
  }
}

variable "readable_bucket_arns" {
  description = "Buckets of other accounts, by ARN, that may be read from inside the VPC; those of this account may be used in any case."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.readable_bucket_arns : can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", arn))])
    error_message = "readable_bucket_arns: ${join(", ", var.readable_bucket_arns)}: write ARNs of buckets without wildcards, as in arn:aws:s3:::weather-of-somebody."
  }
}

variable "flow_log_retention_days" {
  description = "Days that flow logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.flow_log_retention_days)
    error_message = "flow_log_retention_days: ${var.flow_log_retention_days} is no retention of CloudWatch Logs of 30 days or more: take 30, 90, 180, 365, 731 or 1827, for example."
  }
}

variable "discovery_tag" {
  description = "Value of the tag `karpenter.sh/discovery` on the private subnets, by which deployments' EC2NodeClass objects find them."
  type        = string
  default     = "mlops"
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles made here; null: none."
  type        = string
  default     = null
}
