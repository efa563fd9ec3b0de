output "vpc_id" {
  description = "The VPC's id."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "The VPC's address range."
  value       = aws_vpc.this.cidr_block
}

output "zones" {
  description = "The availability zones, in the order of the subnets."
  value       = var.zones
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of `zones`."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, in the order of `zones`."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "private_route_table_ids" {
  description = "Ids of the private subnets' route tables, in the order of `zones`."
  value       = [for zone in var.zones : aws_route_table.private[zone].id]
}

output "nat_gateway_ids" {
  description = "Ids of the NAT gateways, in the order of `zones`."
  value       = [for zone in var.zones : aws_nat_gateway.this[zone].id if contains(local.nat_zones, zone)]
}

output "nat_addresses" {
  description = "Public addresses that the VPC's requests come from, for others' allow lists."
  value       = [for zone in var.zones : aws_eip.nat[zone].public_ip if contains(local.nat_zones, zone)]
}

output "endpoint_security_group_id" {
  description = "Security group of the interface endpoints."
  value       = aws_security_group.endpoints.id
}

output "kms_key_arn" {
  description = "Key that the flow logs are encrypted with."
  value       = aws_kms_key.flow_logs.arn
}
