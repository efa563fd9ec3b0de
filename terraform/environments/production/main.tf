# An environment: modules and nothing else. This file is the same in every environment, a test holds
# it; what differs is in terraform.tfvars.

# -- the ground -------------------------------------------------------------------------------------

module "network" {
  source = "../../modules/network"

  name                     = local.name
  cidr                     = var.network.cidr
  zones                    = var.network.zones
  nat                      = var.network.nat
  interface_endpoints      = var.network.interface_endpoints
  flow_log_retention_days  = var.network.flow_log_retention_days
  permissions_boundary_arn = module.ci.infrastructure_boundary_arn
}

module "cluster" {
  source = "../../modules/cluster"

  name                     = local.name
  kubernetes_version       = var.cluster.kubernetes_version
  subnet_ids               = module.network.private_subnet_ids
  public_access_cidrs      = var.cluster.public_access_cidrs
  access_entries           = var.cluster.access_entries
  log_retention_days       = var.cluster.log_retention_days
  permissions_boundary_arn = module.ci.infrastructure_boundary_arn
}

module "nodes" {
  source = "../../modules/nodes"

  name                     = local.name
  cluster_name             = module.cluster.name
  kubernetes_version       = module.cluster.kubernetes_version
  subnet_ids               = module.network.private_subnet_ids
  security_group_id        = module.cluster.security_group_id
  system_group             = var.nodes.system_group
  gpu_group                = var.nodes.gpu_group
  tags                     = local.tags
  permissions_boundary_arn = module.ci.infrastructure_boundary_arn
}

# -- what is kept -----------------------------------------------------------------------------------

module "lake" {
  source = "../../modules/lake"

  providers = {
    aws         = aws
    aws.replica = aws.replica
  }

  name                     = local.name
  log_retention_days       = var.lake.log_retention_days
  noncurrent_days          = var.lake.noncurrent_days
  ledger_retention_days    = var.lake.ledger_retention_days
  ledger_lock_mode         = var.lake.ledger_lock_mode
  replicate                = var.lake.replicate
  permissions_boundary_arn = module.ci.infrastructure_boundary_arn
}

module "online_store" {
  source = "../../modules/online_store"

  name                = local.name
  deletion_protection = var.online_store.deletion_protection
}

module "database" {
  source = "../../modules/database"

  name                      = local.name
  production                = local.production
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.private_subnet_ids
  client_security_group_ids = [module.cluster.security_group_id]
  instance_class            = var.database.instance_class
  storage_gib               = var.database.storage_gib
  max_storage_gib           = var.database.max_storage_gib
  multi_az                  = var.database.multi_az
  backup_retention_days     = var.database.backup_retention_days
  deletion_protection       = var.database.deletion_protection
  permissions_boundary_arn  = module.ci.infrastructure_boundary_arn
}

module "registry" {
  source = "../../modules/registry"

  name               = local.name
  repositories       = var.registry.repositories
  keep_images        = var.registry.keep_images
  reader_account_ids = var.registry.reader_account_ids
}

module "secrets" {
  source = "../../modules/secrets"

  name          = local.name
  recovery_days = var.secrets.recovery_days
}

module "events" {
  source = "../../modules/events"

  name         = local.name
  bucket_names = [module.lake.buckets["lake"].name]
  prefixes     = var.events.prefixes
}

# -- who may ----------------------------------------------------------------------------------------

module "identity" {
  source = "../../modules/identity"

  name         = local.name
  cluster_name = module.cluster.name
  buckets      = module.lake.buckets
  lake_key_arn = module.lake.kms_key_arn

  online_store = { table_arn = module.online_store.table_arn, key_arn = module.online_store.kms_key_arn }
  secrets      = { arns = module.secrets.arns, key_arn = module.secrets.kms_key_arn }
  events       = { queue_arn = module.events.queue_arn, key_arn = module.events.key_arn }
  alerts       = { topic_arn = module.alerts.topic_arn, key_arn = module.alerts.key_arn }
  database     = { master_secret_arn = module.database.master_secret_arn, key_arn = module.database.kms_key_arn }

  sagemaker = var.sagemaker == null ? null : {
    repository_arns = [module.registry.arns["mlops-server"]]
    instance_types  = var.sagemaker.instance_types
  }
}

module "ci" {
  source = "../../modules/ci"

  name              = local.name
  github_repository = var.ci.github_repository
  branch            = var.ci.branch
  apply_environment = var.ci.apply_environment
  state             = var.ci.state
  registry_arns     = values(module.registry.arns)
}

# -- who is told ------------------------------------------------------------------------------------

module "alerts" {
  source = "../../modules/alerts"

  name                    = local.name
  emails                  = var.alerts.emails
  cluster_name            = module.cluster.name
  queue_names             = [module.events.queue_name, module.nodes.karpenter_queue_name]
  dead_letter_queue_names = [module.events.dead_letter_queue_name]
  nat_gateway_ids         = module.network.nat_gateway_ids
  log_retention_days      = var.alerts.log_retention_days

  database = {
    instance_id      = module.database.instance_id
    free_storage_gib = var.alerts.database_free_storage_gib
    max_connections  = var.alerts.database_max_connections
  }
}

module "audit" {
  source = "../../modules/audit"

  name                     = local.name
  retention_days           = var.audit.retention_days
  object_lock_mode         = var.audit.object_lock_mode
  log_retention_days       = var.audit.log_retention_days
  alarm_topic_arns         = [module.alerts.topic_arn]
  permissions_boundary_arn = module.ci.infrastructure_boundary_arn

  data_events = [
    { bucket_arn = module.lake.buckets["ledger"].arn, reads = true },
    { bucket_arn = module.lake.buckets["artifacts"].arn, reads = false },
  ]
}

module "budget" {
  source = "../../modules/budget"

  name        = local.name
  monthly_usd = var.budget.monthly_usd
  per_team    = var.budget.per_team
  anomaly_usd = var.budget.anomaly_usd
  topic_arns  = [module.alerts.topic_arn]
}
