variable "name" {
  description = "Prefix of all names, for example `mlops-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name: 3 to 32 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "cluster_name" {
  description = "The EKS cluster's name; the module cluster's output `name`, which waits for the agents that nodes need."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes of the control plane, which the nodes get: the module cluster's output."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the nodes, in at least two zones."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids: give the network's private_subnet_ids, of at least two zones: spot capacity of one comes and goes."
  }
}

variable "security_group_id" {
  description = "The cluster's security group, which control plane, nodes and pods share."
  type        = string
}

variable "tags" {
  description = "Tags of instances, volumes and network interfaces, which the provider's default tags do not reach: `owner`, `team`, `use_case`, `environment`, `cost_centre`, and more."
  type        = map(string)

  validation {
    condition     = length(setsubtract(["owner", "team", "use_case", "environment", "cost_centre"], keys(var.tags))) == 0
    error_message = "tags: ${join(", ", setsubtract(["owner", "team", "use_case", "environment", "cost_centre"], keys(var.tags)))} missing; the bill of instances is told apart by them."
  }
}

variable "system_group" {
  description = <<-TEXT
    On-demand nodes for Karpenter, add-ons and operators: instance types (x86, the first one that there is capacity of),
    fewest and most nodes, the root volume's size in GiB, and the image's version (null: EKS's newest when the group is
    made or its Kubernetes version changes), for example `1.35.2-20260709`.
  TEXT
  type = object({
    instance_types  = optional(list(string), ["m6i.large", "m6a.large"])
    min             = optional(number, 2)
    max             = optional(number, 4)
    disk_gib        = optional(number, 50)
    release_version = optional(string)
  })
  default = {}

  validation {
    condition     = var.system_group.min >= 2
    error_message = "system_group.min: ${var.system_group.min}: at least 2. Karpenter and DNS run here, each twice; with one node both are gone with it."
  }

  validation {
    condition     = var.system_group.max >= var.system_group.min
    error_message = "system_group.max: ${var.system_group.max} is less than min, ${var.system_group.min}; an update needs at least as many."
  }

  validation {
    condition = length(var.system_group.instance_types) > 0 && alltrue([
      for type in var.system_group.instance_types : can(regex("^[cmr][5-8](a|i|id|ad|n|in)?\\.([248]x|x)?large$", type))
    ])
    error_message = "system_group.instance_types: ${join(", ", var.system_group.instance_types)}: take x86 types of the families c, m or r, large to 8xlarge, as in m6i.large; the images are built for amd64."
  }

  validation {
    condition     = var.system_group.disk_gib >= 20
    error_message = "system_group.disk_gib: ${var.system_group.disk_gib}: at least 20; images lie there."
  }
}

variable "gpu_group" {
  description = <<-TEXT
    Spot nodes with one NVIDIA GPU each for the compute profile `gpu_spot`, from zero to `max_size`: several instance
    types, since capacity of one comes and goes; the root volume's size in GiB (the training image is some GiB); the
    image's version (null: as above). null: no such group, and Karpenter's pools alone buy GPUs.
  TEXT
  type = object({
    instance_types  = list(string)
    max_size        = number
    disk_gib        = optional(number, 150)
    release_version = optional(string)
  })
  default = null

  validation {
    condition = var.gpu_group == null ? true : alltrue([
      for type in var.gpu_group.instance_types : can(regex("^(g4dn|g5|g6)\\.(2x|4x|8x|16x|x)large$", type))
    ])
    error_message = "gpu_group.instance_types: ${try(join(", ", var.gpu_group.instance_types), "")}: each must have one NVIDIA GPU: g4dn, g5 or g6, of xlarge, 2xlarge, 4xlarge, 8xlarge or 16xlarge."
  }

  validation {
    condition     = var.gpu_group == null ? true : length(distinct(var.gpu_group.instance_types)) >= 2
    error_message = "gpu_group.instance_types: name at least two different types: when spot capacity of one is gone, no training starts."
  }

  validation {
    condition     = var.gpu_group == null ? true : var.gpu_group.max_size >= 1
    error_message = "gpu_group.max_size: ${try(var.gpu_group.max_size, 0)}: at least 1, or set gpu_group = null: a group that may have no node trains nothing."
  }

  validation {
    condition     = var.gpu_group == null ? true : var.gpu_group.disk_gib >= 100
    error_message = "gpu_group.disk_gib: ${try(var.gpu_group.disk_gib, 0)}: at least 100; the training image is some GiB, and a training's data lies there."
  }
}

variable "node_role_name" {
  description = "Name of the nodes' role; deployments' EC2NodeClass objects name it."
  type        = string
  default     = "mlops-node"
}

variable "spot_service_role" {
  description = "Make AWS' role `AWSServiceRoleForEC2Spot`, which an empty account lacks; false where it is there already."
  type        = bool
  default     = true
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles made here; null: none."
  type        = string
  default     = null
}
