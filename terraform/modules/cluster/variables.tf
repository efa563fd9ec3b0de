variable "name" {
  description = "The cluster's name, and the prefix of all names, for example `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name: 3 to 32 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes, for example `1.35`. It goes up by one at a time, and never down."
  type        = string

  validation {
    condition     = can(regex("^1\\.(3[3-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version: \"${var.kubernetes_version}\": write a minor version, 1.33 or later, without a patch, as in 1.35."
  }
}

variable "subnet_ids" {
  description = "Private subnets, in at least two zones, where the control plane has its network interfaces."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids: EKS needs subnets in at least two zones; give the network's private_subnet_ids."
  }
}

variable "public_access_cidrs" {
  description = "Addresses from which the Kubernetes API is reached over the internet too; empty: from inside the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for each in var.public_access_cidrs :
      can(cidrnetmask(each)) && try(cidrhost(each, 0) == split("/", each)[0], false)
    ])
    error_message = "public_access_cidrs: ${join(", ", var.public_access_cidrs)}: each must be an IPv4 range, its first address and its length, as in 203.0.113.0/24."
  }

  validation {
    condition     = alltrue([for each in var.public_access_cidrs : try(split("/", each)[1] >= 16, true)])
    error_message = "public_access_cidrs: ${join(", ", var.public_access_cidrs)}: nothing wider than a /16, and 0.0.0.0/0 least of all. Name your office's or VPN's addresses, or leave the list empty and come from inside the VPC."
  }
}

variable "access_entries" {
  description = <<-TEXT
    Who may enter the cluster, by a name: an IAM role or user, one of EKS's access policies, and the namespaces that
    it holds in (none: the whole cluster). Pods need no entry; nodes have theirs from the module `nodes`.
  TEXT
  type = map(object({
    principal_arn = string
    policy        = optional(string, "AmazonEKSViewPolicy")
    namespaces    = optional(list(string), [])
  }))

  validation {
    condition = anytrue([
      for entry in values(var.access_entries) : entry.policy == "AmazonEKSClusterAdminPolicy" && length(entry.namespaces) == 0
    ])
    error_message = "access_entries: nobody would administer the cluster. Give one entry the policy AmazonEKSClusterAdminPolicy, without namespaces."
  }

  validation {
    condition = alltrue([
      for entry in values(var.access_entries) : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[^*]+$", entry.principal_arn))
    ])
    error_message = "access_entries: ${join(", ", values(var.access_entries)[*].principal_arn)}: each principal_arn must be the ARN of an IAM role or user (of the role, not of a session that assumed it)."
  }

  validation {
    condition     = length(distinct(values(var.access_entries)[*].principal_arn)) == length(var.access_entries)
    error_message = "access_entries: EKS keeps one entry a principal; ${join(", ", values(var.access_entries)[*].principal_arn)} names one twice."
  }

  validation {
    condition = alltrue([
      for entry in values(var.access_entries) : contains(
        ["AmazonEKSClusterAdminPolicy", "AmazonEKSAdminPolicy", "AmazonEKSAdminViewPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy"],
        entry.policy,
      )
    ])
    error_message = "access_entries: ${join(", ", values(var.access_entries)[*].policy)}: take AmazonEKSClusterAdminPolicy, AmazonEKSAdminPolicy, AmazonEKSAdminViewPolicy, AmazonEKSEditPolicy or AmazonEKSViewPolicy."
  }
}

variable "log_retention_days" {
  description = "Days that the control plane's logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: ${var.log_retention_days} is no retention of CloudWatch Logs of 30 days or more: take 30, 90, 180, 365, 731 or 1827, for example."
  }
}

variable "addon_versions" {
  description = "Versions of add-ons, by their name, as `aws eks describe-addon-versions` names them; one that is not named gets EKS's default for the cluster's version when it is made."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.addon_versions), ["vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns", "metrics-server"])) == 0
    error_message = "addon_versions: ${join(", ", keys(var.addon_versions))}: the add-ons are vpc-cni, kube-proxy, eks-pod-identity-agent, coredns and metrics-server."
  }

  validation {
    condition     = alltrue([for version in values(var.addon_versions) : can(regex("^v[0-9]+\\.[0-9]+\\.[0-9]+-eksbuild\\.[0-9]+$", version))])
    error_message = "addon_versions: ${join(", ", values(var.addon_versions))}: write whole versions, as in v1.20.4-eksbuild.1."
  }
}

variable "discovery_tag" {
  description = "Value of the tag `karpenter.sh/discovery` on the cluster's security group, by which deployments' EC2NodeClass objects find it."
  type        = string
  default     = "mlops"
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles made here; null: none."
  type        = string
  default     = null
}
