mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/vpc/mlops-test/flow" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mlops-test-flow-logs" }
  }
}

variables {
  name  = "mlops-test"
  cidr  = "10.0.0.0/16"
  zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
}

run "subnets_are_derived_and_tagged" {
  assert {
    condition     = [for zone in var.zones : aws_subnet.private[zone].cidr_block] == ["10.0.0.0/19", "10.0.32.0/19", "10.0.64.0/19"]
    error_message = "An eighth of the VPC a zone."
  }
  assert {
    condition     = [for zone in var.zones : aws_subnet.public[zone].cidr_block] == ["10.0.224.0/22", "10.0.228.0/22", "10.0.232.0/22"]
    error_message = "Public subnets lie in the last eighth."
  }
  assert {
    condition = alltrue([
      for subnet in aws_subnet.private :
      subnet.tags["karpenter.sh/discovery"] == "mlops" && subnet.tags["kubernetes.io/role/internal-elb"] == "1"
    ])
    error_message = "Karpenter and load balancers find private subnets by their tags."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch && !can(subnet.tags["karpenter.sh/discovery"])])
    error_message = "Nothing gets a public address unasked, and no node a public subnet."
  }
}

run "each_zone_goes_out_through_its_own_gateway" {
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(output.nat_gateway_ids) == 3
    error_message = "One NAT gateway a zone."
  }
  assert {
    condition     = alltrue([for zone, route in aws_route.private : route.nat_gateway_id == aws_nat_gateway.this[zone].id])
    error_message = "A zone that is down takes only its own way out with it."
  }
}

run "one_gateway_serves_all_zones" {
  variables {
    nat = "one"
  }
  assert {
    condition     = keys(aws_nat_gateway.this) == ["us-east-1a"]
    error_message = "One NAT gateway, in the first zone."
  }
  assert {
    condition     = length(aws_route.private) == 3 && length(distinct([for route in aws_route.private : route.nat_gateway_id])) == 1
    error_message = "All zones go out through it."
  }
}

run "a_zone_that_joins_moves_no_other" {
  variables {
    zones = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d"]
  }
  assert {
    condition     = aws_subnet.private["us-east-1c"].cidr_block == "10.0.64.0/19" && aws_subnet.private["us-east-1d"].cidr_block == "10.0.96.0/19"
    error_message = "Subnets keep their ranges when a zone is added at the end."
  }
}

run "nothing_comes_in_but_https_to_the_endpoints" {
  assert {
    condition     = length(aws_default_security_group.closed.ingress) == 0 && length(aws_default_security_group.closed.egress) == 0
    error_message = "The default security group has no rule."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == "10.0.0.0/16" && aws_vpc_security_group_ingress_rule.endpoints.from_port == 443 && aws_vpc_security_group_ingress_rule.endpoints.to_port == 443
    error_message = "The only rule lets HTTPS in, from the VPC."
  }
}

run "endpoints_lead_to_this_account" {
  assert {
    condition = alltrue([
      for policy in [aws_vpc_endpoint.s3.policy, aws_vpc_endpoint.dynamodb.policy] : alltrue([
        for statement in jsondecode(policy).Statement :
        try(statement.Condition.StringEquals["aws:ResourceAccount"], "") == "123456789012" || statement.Resource != "*"
      ])
    ])
    error_message = "No bucket or table of another account is reached without being named."
  }
  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled && length(endpoint.subnet_ids) == 3])
    error_message = "Interface endpoints take the services' own names, in each zone."
  }
  assert {
    condition     = length(setsubtract(["ecr.api", "ecr.dkr", "eks-auth", "sts", "secretsmanager", "logs", "sqs"], keys(aws_vpc_endpoint.interface))) == 0
    error_message = "Images, roles, secrets, logs and events do not depend on NAT."
  }
}

run "a_named_bucket_may_be_read_and_not_written" {
  variables {
    readable_bucket_arns = ["arn:aws:s3:::weather-of-somebody"]
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement : alltrue([
        for action in flatten([statement.Action]) : can(regex("^s3:(Get|List)[A-Za-z]+$", action))
      ]) if !can(statement.Condition)
    ])
    error_message = "What belongs to others is read only."
  }
}

run "flow_logs_are_kept_encrypted" {
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.retention_in_days == 365
    error_message = "Accepted and refused traffic, for a year."
  }
  assert {
    condition     = aws_cloudwatch_log_group.flow.kms_key_id == aws_kms_key.flow_logs.arn && aws_kms_key.flow_logs.enable_key_rotation && aws_kms_key.flow_logs.deletion_window_in_days == 30
    error_message = "With a key of its own, which rotates."
  }
  assert {
    condition     = !contains(jsondecode(aws_iam_role_policy.flow_logs.policy).Statement[0].Resource, "*")
    error_message = "The role writes to its own group alone."
  }
}

run "subnets_are_taken_as_given" {
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24", "10.0.50.0/24"]
  }
  assert {
    condition     = aws_subnet.private["us-east-1b"].cidr_block == "10.0.16.0/20" && aws_subnet.public["us-east-1c"].cidr_block == "10.0.50.0/24"
    error_message = "In the order of the zones."
  }
}

# -- refused ---------------------------------------------------------------------------------------
#
# Several variables a run: each that is expected to be refused has to be.

run "what_is_none_at_all" {
  command = plan
  variables {
    name                    = "MLOps Production"
    cidr                    = "10.0.0.0"
    zones                   = ["us-east-1a", "us-east-1"]
    nat                     = "none"
    interface_endpoints     = ["com.amazonaws.us-east-1.sts"]
    readable_bucket_arns    = ["arn:aws:s3:::*"]
    flow_log_retention_days = 100
  }
  expect_failures = [var.name, var.cidr, var.zones, var.nat, var.interface_endpoints, var.readable_bucket_arns, var.flow_log_retention_days]
}

run "a_cidr_with_host_bits__one_zone__an_endpoint_that_is_there_already" {
  command = plan
  variables {
    cidr                = "10.0.1.0/16"
    zones               = ["us-east-1a"]
    interface_endpoints = ["sts", "s3"]
  }
  expect_failures = [var.cidr, var.zones, var.interface_endpoints]
}

run "a_cidr_of_impossible_numbers__one_zone_twice" {
  command = plan
  variables {
    cidr  = "10.256.0.0/16"
    zones = ["us-east-1a", "us-east-1a"]
  }
  expect_failures = [var.cidr, var.zones]
}

run "an_ipv6_cidr__three_zones_of_which_two_are_one" {
  command = plan
  variables {
    cidr  = "fd00::/48"
    zones = ["us-east-1a", "us-east-1b", "us-east-1a"]
  }
  expect_failures = [var.cidr, var.zones]
}

run "a_cidr_that_is_too_large" {
  command = plan
  variables {
    cidr = "10.0.0.0/12"
  }
  expect_failures = [var.cidr]
}

run "a_cidr_that_is_too_small" {
  command = plan
  variables {
    cidr = "10.0.0.0/24"
  }
  expect_failures = [var.cidr]
}

run "a_cidr_that_pods_may_not_reach" {
  command = plan
  variables {
    cidr = "172.16.0.0/16"
  }
  expect_failures = [var.cidr]
}

run "zones_of_another_region" {
  command = plan
  variables {
    zones = ["eu-west-1a", "eu-west-1b"]
  }
  expect_failures = [aws_vpc.this]
}

run "private_subnets_that_overlap" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.8.0/21", "10.0.32.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24", "10.0.50.0/24"]
  }
  expect_failures = [var.public_subnets]
}

run "a_public_subnet_inside_a_private_one" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
    public_subnets  = ["10.0.47.0/24", "10.0.49.0/24", "10.0.50.0/24"]
  }
  expect_failures = [var.public_subnets]
}

run "a_subnet_outside_the_vpc" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.1.0.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24", "10.0.50.0/24"]
  }
  expect_failures = [var.private_subnets]
}

run "a_subnet_with_host_bits" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.0.33.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24", "10.0.50.0/24"]
  }
  expect_failures = [var.private_subnets]
}

run "a_public_subnet_outside_the_vpc" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24", "10.1.0.0/24"]
  }
  expect_failures = [var.public_subnets]
}

run "fewer_subnets_than_zones" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20"]
    public_subnets  = ["10.0.48.0/24", "10.0.49.0/24"]
  }
  expect_failures = [var.private_subnets]
}

run "private_subnets_alone" {
  command = plan
  variables {
    private_subnets = ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
  }
  expect_failures = [var.public_subnets]
}
