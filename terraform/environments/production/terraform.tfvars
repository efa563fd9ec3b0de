# Production. Replace what belongs to the example: the account, addresses, repository, principals, the
# state's key (`terraform output` of terraform/bootstrap). Names of buckets are unique in the world:
# where one is taken, the prefix `mlops` in locals.tf is what to change, in both environments, and
# terraform/outputs-to-deployments tells deployments/.
environment = "production"
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
  cidr  = "10.20.0.0/16"
  zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
  nat   = "per_zone"
  # What a node and a pod need to come up, whatever happens to NAT; the rest goes through it.
  interface_endpoints     = ["ec2", "ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "sts"]
  flow_log_retention_days = 365
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
  log_retention_days = 365
}

nodes = {
  system_group = {
    instance_types = ["m6i.large", "m6a.large"]
    min            = 3
    max            = 6
    disk_gib       = 50
  }
  gpu_group = {
    instance_types = ["g4dn.xlarge", "g4dn.2xlarge", "g5.xlarge", "g5.2xlarge", "g6.xlarge", "g6.2xlarge"]
    max_size       = 4
    disk_gib       = 150
  }
}

lake = {
  log_retention_days    = 90
  noncurrent_days       = 30
  ledger_retention_days = 1826
  ledger_lock_mode      = "COMPLIANCE"
  replicate             = ["lake", "artifacts", "ledger"]
  replica_region        = "us-west-2"
}

online_store = {
  deletion_protection = true
}

database = {
  instance_class        = "db.t3.large"
  storage_gib           = 100
  max_storage_gib       = 500
  multi_az              = true
  backup_retention_days = 30
  deletion_protection   = true
}

registry = {
  repositories       = ["mlops-code-location", "mlops-training", "mlops-server", "nvidia/k8s-device-plugin"]
  keep_images        = 200
  reader_account_ids = []
}

secrets = {
  recovery_days = 30
}

events = {
  prefixes = ["landing/"]
}

# { instance_types = ["ml.c5.large"] }, for endpoints on SageMaker: docs/endpoints.md.
sagemaker = null

ci = {
  github_repository = "example/mlops"
  branch            = "main"
  apply_environment = "production"
  state = {
    bucket_arn = "arn:aws:s3:::mlops-production-terraform"
    object     = "mlops-production/terraform.tfstate"
    key_arn    = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
}

alerts = {
  emails                    = ["ml-platform-on-call@example.com"]
  log_retention_days        = 90
  database_free_storage_gib = 20
  database_max_connections  = 600
}

audit = {
  retention_days     = 400
  object_lock_mode   = "COMPLIANCE"
  log_retention_days = 365
}

budget = {
  monthly_usd = 1500
  per_team    = { ml-platform = 1200 }
  anomaly_usd = 100
}
