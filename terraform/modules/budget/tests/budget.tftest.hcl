mock_provider "aws" {}

variables {
  name        = "mlops-test"
  monthly_usd = 2000
  per_team    = { flights = 500, search = 700 }
  anomaly_usd = 50
  topic_arns  = ["arn:aws:sns:us-east-1:123456789012:mlops-test-alerts"]
}

run "the_account_and_each_team_have_a_budget" {
  command = plan

  assert {
    condition     = tomap({ for each in aws_budgets_budget.this : each.name => each.limit_amount }) == tomap({ mlops-test = "2000", mlops-test-flights = "500", mlops-test-search = "700" })
    error_message = "Other budgets than those of the account and its teams."
  }

  assert {
    condition     = one(aws_budgets_budget.this["-flights"].cost_filter).values == tolist(["user:team$flights"])
    error_message = "A team's budget counts what others use."
  }

  assert {
    condition     = alltrue([for each in aws_budgets_budget.this : length(each.notification) == 4 && alltrue([for told in each.notification : told.subscriber_sns_topic_arns == toset(["arn:aws:sns:us-east-1:123456789012:mlops-test-alerts"])])])
    error_message = "A budget tells nobody, or not of the forecast."
  }
}

run "anomalies_are_told_at_once" {
  command = plan

  assert {
    condition     = aws_ce_anomaly_subscription.this.frequency == "IMMEDIATE" && one(aws_ce_anomaly_subscription.this.subscriber).type == "SNS"
    error_message = "An anomaly waits for a mail."
  }
}

run "without_a_topic_mails_are_daily" {
  command = plan

  variables {
    topic_arns = []
    emails     = ["costs@example.com"]
  }

  assert {
    condition     = aws_ce_anomaly_subscription.this.frequency == "DAILY" && one(aws_ce_anomaly_subscription.this.subscriber).type == "EMAIL"
    error_message = "AWS takes no immediate mails."
  }
}

run "a_budget_of_nothing_is_refused" {
  command = plan

  variables {
    monthly_usd = 0
    per_team    = {}
  }

  expect_failures = [var.monthly_usd]
}

run "teams_that_have_more_than_there_is_are_refused" {
  command = plan

  variables {
    per_team = { flights = 1500, search = 700 }
  }

  expect_failures = [var.per_team]
}

run "a_budget_that_tells_nobody_is_refused" {
  command = plan

  variables {
    topic_arns = []
  }

  expect_failures = [var.topic_arns]
}

run "five_thresholds_are_refused" {
  command = plan

  variables {
    thresholds_percent = [10, 20, 50, 80, 100]
  }

  expect_failures = [var.thresholds_percent]
}

run "an_anomaly_of_nothing_is_refused" {
  command = plan

  variables {
    anomaly_usd = 0
  }

  expect_failures = [var.anomaly_usd]
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "MLOps"
  }

  expect_failures = [var.name]
}
