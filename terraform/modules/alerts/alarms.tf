# One map an alarm: what is measured, when it is too much, and what to do first. Dagster's own alerts
# tell of models and runs; these tell of what lies below.

locals {
  database = var.database == null ? {} : {
    database-cpu = {
      namespace  = "AWS/RDS", metric = "CPUUtilization", statistic = "Average"
      dimensions = { DBInstanceIdentifier = var.database.instance_id }
      when       = "above", limit = 85, period = 300, periods = 3
      do         = "Performance Insights shows the queries; a larger instance_class takes a failover."
    }
    database-storage = {
      namespace  = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum"
      dimensions = { DBInstanceIdentifier = var.database.instance_id }
      when       = "below", limit = var.database.free_storage_gib * pow(1024, 3), period = 300, periods = 1
      do         = "Storage grows by itself up to max_storage_gib; raise it, and look what fills it."
    }
    database-memory = {
      namespace  = "AWS/RDS", metric = "FreeableMemory", statistic = "Minimum"
      dimensions = { DBInstanceIdentifier = var.database.instance_id }
      when       = "below", limit = 256 * pow(1024, 2), period = 300, periods = 3
      do         = "Too many connections, or an instance_class that is too small."
    }
    database-connections = {
      namespace  = "AWS/RDS", metric = "DatabaseConnections", statistic = "Maximum"
      dimensions = { DBInstanceIdentifier = var.database.instance_id }
      when       = "above", limit = var.database.max_connections, period = 60, periods = 5
      do         = "Each run worker holds some: lower maxConcurrentRuns, or take a larger instance_class."
    }
  }

  queues = {
    for name in var.queue_names : "queue-age-${name}" => {
      namespace  = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum"
      dimensions = { QueueName = name }
      when       = "above", limit = 900, period = 300, periods = 1
      do         = "Nobody takes what the queue holds: is the sensor (or Karpenter) that reads it up?"
    }
  }

  dead_letters = {
    for name in var.dead_letter_queue_names : "dead-letters-${name}" => {
      namespace  = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum"
      dimensions = { QueueName = name }
      when       = "above", limit = 0, period = 300, periods = 1
      do         = "A message was tried in vain until it was put aside: read it, mend the reason, redrive it."
    }
  }

  # EKS gives these by itself, free, since Kubernetes 1.28.
  cluster = var.cluster_name == null ? {} : {
    cluster-errors = {
      namespace  = "AWS/EKS", metric = "apiserver_request_total_5XX", statistic = "Sum"
      dimensions = { ClusterName = var.cluster_name }
      when       = "above", limit = 50, period = 300, periods = 3
      do         = "The control plane fails requests: AWS Health, then the API server's log."
    }
    cluster-storage = {
      namespace  = "AWS/EKS", metric = "apiserver_storage_size_bytes", statistic = "Maximum"
      dimensions = { ClusterName = var.cluster_name }
      # A full store (8 GiB) makes the cluster read-only.
      when = "above", limit = 6 * pow(1024, 3), period = 300, periods = 1
      do   = "Finished Jobs or events pile up: is the TTL of Jobs kept?"
    }
    cluster-unschedulable = {
      namespace  = "AWS/EKS", metric = "scheduler_pending_pods_UNSCHEDULABLE", statistic = "Minimum"
      dimensions = { ClusterName = var.cluster_name }
      # Spot capacity may take its time: a step gives up after 20 minutes by itself.
      when = "above", limit = 20, period = 300, periods = 6
      do   = "No node fits, or a pool is at its limit: events of the pods, then Karpenter's log."
    }
  }

  # A gateway whose ports are used up refuses connections without a word.
  nat = {
    for index, id in var.nat_gateway_ids : "nat-ports-${index}" => {
      namespace  = "AWS/NATGateway", metric = "ErrorPortAllocation", statistic = "Sum"
      dimensions = { NatGatewayId = id }
      when       = "above", limit = 0, period = 300, periods = 2
      do         = "Too many connections to one address: an interface endpoint, or a second address."
    }
  }

  alarms = merge(local.database, local.queues, local.dead_letters, local.cluster, local.nat)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.do
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  comparison_operator = each.value.when == "above" ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.limit
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  # No message in a queue is no metric; a database that says nothing is down.
  treat_missing_data = each.value.namespace == "AWS/RDS" ? "breaching" : "notBreaching"
}
