output "queue_url" {
  description = "Where new data is announced."
  value       = aws_sqs_queue.new_data.url
}

output "queue_arn" {
  description = "The queue's ARN."
  value       = aws_sqs_queue.new_data.arn
}

output "queue_name" {
  description = "The queue's name, for alarms on the age of its oldest message."
  value       = aws_sqs_queue.new_data.name
}

output "dead_letter_queue_arn" {
  description = "ARN of the queue of events that were not handled."
  value       = aws_sqs_queue.dead_letter.arn
}

output "dead_letter_queue_name" {
  description = "Name of the queue of events that were not handled, for alarms on any message."
  value       = aws_sqs_queue.dead_letter.name
}

output "key_arn" {
  description = "The key of both queues."
  value       = aws_kms_key.events.arn
}

output "rule_arn" {
  description = "EventBridge's rule."
  value       = aws_cloudwatch_event_rule.new_data.arn
}
