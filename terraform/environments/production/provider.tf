# Every resource has these tags; instances and volumes of the node groups, which the provider does not
# make itself, get them from the module `nodes`.
provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.tags
  }
}

# Where the copies of the lake are, if there are any.
provider "aws" {
  alias               = "replica"
  region              = var.lake.replica_region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.tags
  }
}
