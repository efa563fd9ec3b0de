data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name

  # An eighth of the VPC for the private subnet of a zone, because each pod takes an address; an eighth
  # of the last eighth for its public one. A zone that joins the list at its end moves no other.
  zones = {
    for i, zone in var.zones : zone => {
      private = length(var.private_subnets) > 0 ? var.private_subnets[i] : cidrsubnet(var.cidr, 3, i)
      public  = length(var.public_subnets) > 0 ? var.public_subnets[i] : cidrsubnet(var.cidr, 6, 56 + i)
    }
  }

  # Where a NAT gateway stands, and the one that a zone goes out through.
  nat_zones = toset(var.nat == "one" ? [var.zones[0]] : var.zones)
  nat_of    = { for zone in var.zones : zone => var.nat == "one" ? var.zones[0] : zone }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }

  lifecycle {
    precondition {
      condition     = alltrue([for zone in var.zones : startswith(zone, local.region)])
      error_message = "zones: the provider is configured for ${local.region}; ${join(", ", var.zones)} must be zones of it."
    }
  }
}

# Whatever is made without a security group of its own gets this one, and with it nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-default-closed" }
}

# -- public: NAT gateways, and load balancers where a cluster makes some ----------------------------

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value.public

  # What needs a public address asks for one.
  map_public_ip_on_launch = false

  tags = {
    Name                     = "${var.name}-public-${each.key}"
    "kubernetes.io/role/elb" = "1"
  }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "public" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  for_each = local.nat_zones

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat_zones

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }

  # Without the gateway the addresses have nowhere to go.
  depends_on = [aws_internet_gateway.this]
}

# -- private: nodes, pods, databases ---------------------------------------------------------------

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value.private

  tags = {
    Name                              = "${var.name}-private-${each.key}"
    "kubernetes.io/role/internal-elb" = "1"
    # Karpenter's node classes select by it.
    "karpenter.sh/discovery" = var.discovery_tag
  }
}

resource "aws_route_table" "private" {
  for_each = local.zones

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route" "private" {
  for_each = local.zones

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[local.nat_of[each.key]].id
}

resource "aws_route_table_association" "private" {
  for_each = local.zones

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}
