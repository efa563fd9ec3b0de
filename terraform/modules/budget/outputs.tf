output "budget_names" {
  description = "Names of the budgets: the account's, then a team's each."
  value       = [for each in aws_budgets_budget.this : each.name]
}

output "anomaly_monitor_arn" {
  description = "ARN of the monitor of cost anomalies."
  value       = aws_ce_anomaly_monitor.this.arn
}
