# Staging. Replace what belongs to the example: the account, addresses, repository, principals, the
# state's key (`terraform output` of terraform/bootstrap). Names of buckets are unique in the world:
# where one is taken, the prefix `mlops` in locals.tf is what to change, in both environments, and
# terraform/outputs-to-deployments tells deployments/.
environment = "staging"
region      = "us-east-1"
account_id  = "123456789012"

tags = {
  owner       = "ml-platform@example.com"
  team        = "ml-platform"
  use_case    = "shared"
  cost_centre = "ml-platform"
  repository  = "example/mlops"
}

network = {
  cidr                    = "10.10.0.0/16"
  zones                   = ["us-east-1a", "us-east-1b", "us-east-1c"]
  nat                     = "one"
  interface_endpoints     = []
  flow_log_retention_days = 90
}

cluster = {
  kubernetes_version  = "1.35"
  public_access_cidrs = []
  access_entries = {
    administrators = {
      principal_arn = "arn:aws:iam::123456789012:role/platform-administrator"
      policy        = "AmazonEKSClusterAdminPolicy"
      namespaces    = []
    }
    on-call = {
      principal_arn = "arn:aws:iam::123456789012:role/platform-on-call"
      policy        = "AmazonEKSAdminPolicy"
      namespaces    = ["dagster", "mlops-runs", "mlops-endpoints", "mlflow"]
    }
  }
  log_retention_days = 90
}

nodes = {
  system_group = {
    instance_types = ["m6i.large", "m6a.large"]
    min            = 2
    max            = 4
    disk_gib       = 50
  }
  gpu_group = {
    instance_types = ["g4dn.xlarge", "g4dn.2xlarge", "g5.xlarge", "g5.2xlarge", "g6.xlarge", "g6.2xlarge"]
    max_size       = 2
    disk_gib       = 150
  }
}

lake = {
  log_retention_days    = 30
  noncurrent_days       = 30
  ledger_retention_days = 30
  ledger_lock_mode      = "GOVERNANCE"
  replicate             = []
  replica_region        = "us-east-1"
}

online_store = {
  deletion_protection = false
}

database = {
  instance_class        = "db.t4g.medium"
  storage_gib           = 20
  max_storage_gib       = 100
  multi_az              = false
  backup_retention_days = 7
  deletion_protection   = true
}

registry = {
  repositories       = ["mlops-code-location", "mlops-training", "mlops-server", "nvidia/k8s-device-plugin"]
  keep_images        = 50
  reader_account_ids = []
}

secrets = {
  recovery_days = 7
}

events = {
  prefixes = ["landing/"]
}

# { instance_types = ["ml.c5.large"] }, for endpoints on SageMaker: docs/endpoints.md.
sagemaker = null

ci = {
  github_repository = "example/mlops"
  branch            = "main"
  apply_environment = "staging"
  state = {
    bucket_arn = "arn:aws:s3:::mlops-staging-terraform"
    object     = "mlops-staging/terraform.tfstate"
    key_arn    = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
}

alerts = {
  emails                    = ["ml-platform-on-call@example.com"]
  log_retention_days        = 30
  database_free_storage_gib = 5
  database_max_connections  = 200
}

audit = {
  retention_days     = 91
  object_lock_mode   = "GOVERNANCE"
  log_retention_days = 90
}

budget = {
  monthly_usd = 700
  per_team    = { ml-platform = 600 }
  anomaly_usd = 50
}
