# What the account may cost, told before the month is over. An account is an environment, so that the
# environment's budget is the account's.

locals {
  # Percent of the budget, of what was spent and of what AWS forecasts for the month.
  notifications = concat(
    [for percent in var.thresholds_percent : { type = "ACTUAL", percent = percent }],
    [{ type = "FORECASTED", percent = 100 }],
  )

  budgets = merge(
    { "" = { usd = var.monthly_usd, team = null } },
    { for team, usd in var.per_team : "-${team}" => { usd = usd, team = team } },
  )
}

resource "aws_budgets_budget" "this" {
  for_each = local.budgets

  name         = "${var.name}${each.key}"
  budget_type  = "COST"
  limit_amount = tostring(each.value.usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  cost_types {
    # Credits end; what is used stays.
    include_credit = false
    include_refund = false
  }

  dynamic "cost_filter" {
    for_each = each.value.team == null ? [] : [each.value.team]

    content {
      name = "TagKeyValue"
      # The tag `team`; AWS writes key and value with a dollar sign between.
      values = [format("user:team$%s", cost_filter.value)]
    }
  }

  dynamic "notification" {
    for_each = local.notifications

    content {
      notification_type          = notification.value.type
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.emails
      subscriber_sns_topic_arns  = var.topic_arns
    }
  }
}

# What no budget sees: a service whose cost leaves its habit, long before it is much.
resource "aws_ce_anomaly_monitor" "this" {
  name              = var.name
  monitor_type      = "DIMENSIONAL"
  monitor_dimension = "SERVICE"
}

resource "aws_ce_anomaly_subscription" "this" {
  name             = var.name
  monitor_arn_list = [aws_ce_anomaly_monitor.this.arn]

  # Topics are told at once; AWS mails no more often than daily.
  frequency = length(var.topic_arns) > 0 ? "IMMEDIATE" : "DAILY"

  dynamic "subscriber" {
    for_each = length(var.topic_arns) > 0 ? [for each in var.topic_arns : { type = "SNS", address = each }] : [for each in var.emails : { type = "EMAIL", address = each }]

    content {
      type    = subscriber.value.type
      address = subscriber.value.address
    }
  }

  threshold_expression {
    dimension {
      key           = "ANOMALY_TOTAL_IMPACT_ABSOLUTE"
      match_options = ["GREATER_THAN_OR_EQUAL"]
      values        = [tostring(var.anomaly_usd)]
    }
  }
}
