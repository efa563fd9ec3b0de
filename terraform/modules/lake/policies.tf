# Statements of bucket policies, by the bucket's ARN: of the four, of the access logs', of the copies.

locals {
  bucket_arns = concat(
    [for kind in local.kinds : "${local.arn}:s3:::${var.name}-${kind}"],
    [for kind in var.replicate : "${local.arn}:s3:::${var.name}-${kind}-replica"],
    ["${local.arn}:s3:::${var.name}-access"],
  )

  tls_only = {
    for bucket in local.bucket_arns : bucket => [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [bucket, "${bucket}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "TlsOfThisCentury"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [bucket, "${bucket}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  }

  # An upload that names no encryption gets the bucket's. A negated operator is true of a missing
  # header too: hence `Null`.
  right_key_only = {
    for bucket in local.bucket_arns : bucket => [
      {
        Sid       = "KmsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${bucket}/*"
        Condition = {
          Null            = { "s3:x-amz-server-side-encryption" = "false" }
          StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
        }
      },
      {
        Sid       = "RightKeyOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${bucket}/*"
        Condition = {
          Null = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
          StringNotEquals = {
            "s3:x-amz-server-side-encryption-aws-kms-key-id" = (
              endswith(bucket, "-replica") ? one(aws_kms_key.replica[*].arn) : aws_kms_key.lake.arn
            )
          }
        }
      },
    ]
  }

  # Lifecycle rules are no principal: versions still go when their lock is over and they were
  # replaced for long enough.
  append_only = {
    for bucket in local.bucket_arns : bucket => [
      {
        Sid       = "NoWayAroundTheLock"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:BypassGovernanceRetention", "s3:DeleteObjectVersion"]
        Resource  = "${bucket}/*"
      },
    ]
  }
}
