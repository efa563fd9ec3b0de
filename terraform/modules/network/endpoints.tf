# Ways to AWS services that need no NAT. Those to S3 and DynamoDB cost nothing, and take images' layers,
# the lake and the online store; the others cost by the hour, and keep nodes, roles, secrets and events
# working when a NAT gateway does not.

# Pods reach the buckets and tables of this account alone: a stolen pod cannot carry data into somebody
# else's bucket. ECR keeps images' layers in a bucket of its own.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for zone in var.zones : aws_route_table.private[zone].id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "BucketsOfThisAccount"
          Effect    = "Allow"
          Principal = "*"
          Action    = "s3:*"
          Resource  = "*"
          Condition = { StringEquals = { "aws:ResourceAccount" = local.account } }
        },
        {
          Sid       = "LayersOfImages"
          Effect    = "Allow"
          Principal = "*"
          Action    = "s3:GetObject"
          Resource  = "arn:${local.partition}:s3:::prod-${local.region}-starport-layer-bucket/*"
        },
      ],
      length(var.readable_bucket_arns) == 0 ? [] : [{
        Sid       = "ReadElsewhere"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetBucketLocation", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"]
        Resource  = flatten([for arn in sort(var.readable_bucket_arns) : [arn, "${arn}/*"]])
      }],
    )
  })

  tags = { Name = "${var.name}-s3" }
}

resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for zone in var.zones : aws_route_table.private[zone].id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TablesOfThisAccount"
      Effect    = "Allow"
      Principal = "*"
      Action    = "dynamodb:*"
      Resource  = "*"
      Condition = { StringEquals = { "aws:ResourceAccount" = local.account } }
    }]
  })

  tags = { Name = "${var.name}-dynamodb" }
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "HTTPS from inside the VPC to the interface endpoints of AWS services."
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  security_group_id = aws_security_group.endpoints.id
  description       = "HTTPS from the VPC."
  cidr_ipv4         = var.cidr
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.interface_endpoints

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = [for zone in var.zones : aws_subnet.private[zone].id]
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true

  tags = { Name = "${var.name}-${each.key}" }
}
