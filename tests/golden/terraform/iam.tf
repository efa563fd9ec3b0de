# All modules, with names in place of what they take from each other. For iam.txt, and for what CI may
# make, tests/terraform/test_iam.py makes it of mocks, as a root beside a copy of terraform/modules.

provider "aws" {
  region = "us-east-1"
}

provider "aws" {
  alias  = "replica"
  region = "us-west-2"
}

locals {
  name = "mlops-production"
  here = "us-east-1:123456789012"
  key  = "arn:aws:kms:us-east-1:123456789012:key"

  boundary = "arn:aws:iam::123456789012:policy/mlops-ci/${local.name}-infrastructure"
  subnets  = ["subnet-0a", "subnet-0b", "subnet-0c"]
}

module "identity" {
  source       = "../modules/identity"
  name         = local.name
  cluster_name = local.name
  buckets = {
    for what in ["lake", "artifacts", "logs", "ledger"] :
    what => { name = "${local.name}-${what}", arn = "arn:aws:s3:::${local.name}-${what}" }
  }
  lake_key_arn = "${local.key}/lake"
  secrets = {
    arns = {
      for name in ["mlops/dagster-database", "mlops/mlflow-database", "mlops/tuning-database", "mlops/environment"] :
      name => "arn:aws:secretsmanager:${local.here}:secret:${name}-AbCdEf"
    }
    key_arn = "${local.key}/secrets"
  }
  online_store = {
    table_arn = "arn:aws:dynamodb:${local.here}:table/${local.name}-online"
    key_arn   = "${local.key}/online"
  }
  events = { queue_arn = "arn:aws:sqs:${local.here}:${local.name}-events", key_arn = "${local.key}/events" }
  alerts = { topic_arn = "arn:aws:sns:${local.here}:${local.name}-alerts", key_arn = "${local.key}/alerts" }
  database = {
    master_secret_arn = "arn:aws:secretsmanager:${local.here}:secret:rds!db-0000-AbCdEf"
    key_arn           = "${local.key}/database"
  }
  source_bucket_arns = ["arn:aws:s3:::example-source"]
  sagemaker = {
    repository_arns = ["arn:aws:ecr:${local.here}:repository/mlops-server"]
    instance_types  = ["ml.c5.large", "ml.c5.xlarge"]
  }
}

module "ci" {
  source            = "../modules/ci"
  name              = local.name
  github_repository = "example/mlops"
  apply_environment = "production"
  state = {
    bucket_arn = "arn:aws:s3:::${local.name}-terraform"
    object     = "${local.name}/terraform.tfstate"
    key_arn    = "${local.key}/state"
  }
  registry_arns = [
    for name in ["mlops-code-location", "mlops-server", "mlops-training", "nvidia/k8s-device-plugin"] :
    "arn:aws:ecr:${local.here}:repository/${name}"
  ]
}

module "network" {
  source                   = "../modules/network"
  name                     = local.name
  cidr                     = "10.20.0.0/16"
  zones                    = ["us-east-1a", "us-east-1b", "us-east-1c"]
  permissions_boundary_arn = local.boundary
}

module "cluster" {
  source                   = "../modules/cluster"
  name                     = local.name
  kubernetes_version       = "1.35"
  subnet_ids               = local.subnets
  permissions_boundary_arn = local.boundary
  access_entries = {
    administrators = {
      principal_arn = "arn:aws:iam::123456789012:role/platform-administrator"
      policy        = "AmazonEKSClusterAdminPolicy"
    }
  }
}

module "nodes" {
  source                   = "../modules/nodes"
  name                     = local.name
  cluster_name             = local.name
  kubernetes_version       = "1.35"
  subnet_ids               = local.subnets
  security_group_id        = "sg-0123456789abcdef0"
  permissions_boundary_arn = local.boundary
  gpu_group                = { instance_types = ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"], max_size = 4 }
  tags = {
    owner       = "ml-platform@example.com"
    team        = "ml-platform"
    use_case    = "shared"
    environment = "production"
    cost_centre = "ml-platform"
  }
}

module "lake" {
  source = "../modules/lake"

  providers = {
    aws         = aws
    aws.replica = aws.replica
  }

  name                     = local.name
  replicate                = ["lake", "artifacts", "ledger"]
  permissions_boundary_arn = local.boundary
}

module "database" {
  source                    = "../modules/database"
  name                      = local.name
  production                = true
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = local.subnets
  client_security_group_ids = ["sg-0123456789abcdef0"]
  instance_class            = "db.t3.large"
  storage_gib               = 100
  max_storage_gib           = 500
  backup_retention_days     = 30
  permissions_boundary_arn  = local.boundary
}

module "audit" {
  source                   = "../modules/audit"
  name                     = local.name
  retention_days           = 400
  permissions_boundary_arn = local.boundary
}

module "online_store" {
  source = "../modules/online_store"
  name   = local.name
}

module "registry" {
  source       = "../modules/registry"
  name         = local.name
  repositories = ["mlops-code-location", "mlops-server", "mlops-training", "nvidia/k8s-device-plugin"]
}

module "secrets" {
  source = "../modules/secrets"
  name   = local.name
}

module "events" {
  source       = "../modules/events"
  name         = local.name
  bucket_names = ["${local.name}-lake"]
  prefixes     = ["landing/"]
}

module "alerts" {
  source                  = "../modules/alerts"
  name                    = local.name
  emails                  = ["ml-platform@example.com"]
  cluster_name            = local.name
  queue_names             = ["${local.name}-new-data"]
  dead_letter_queue_names = ["${local.name}-new-data-dead"]
  nat_gateway_ids         = ["nat-0123456789abcdef0"]
  log_retention_days      = 90
  database                = { instance_id = local.name, free_storage_gib = 20, max_connections = 600 }
}

module "budget" {
  source      = "../modules/budget"
  name        = local.name
  monthly_usd = 4000
  per_team    = { ml-platform = 3000 }
  anomaly_usd = 100
  emails      = ["ml-platform@example.com"]
}
