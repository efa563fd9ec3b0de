# Who read and wrote what, by S3 itself. A bucket of its own, encrypted with S3's key: S3 delivers its
# access logs to no bucket whose default is a KMS key.

resource "aws_s3_bucket" "access" {
  #checkov:skip=CKV_AWS_145:S3 delivers access logs to no bucket with SSE-KMS
  #checkov:skip=CKV_AWS_144:Access logs are not worth a second region
  #checkov:skip=CKV_AWS_18:The log of this bucket would grow by being written
  #checkov:skip=CKV2_AWS_62:Nothing waits for an access log
  bucket        = "${var.name}-access"
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_ownership_controls" "access" {
  bucket = aws_s3_bucket.access.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "access" {
  bucket                  = aws_s3_bucket.access.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "access" {
  bucket = aws_s3_bucket.access.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "access" {
  bucket = aws_s3_bucket.access.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "access" {
  bucket = aws_s3_bucket.access.id

  rule {
    id     = "old"
    status = "Enabled"

    filter {}

    expiration {
      days = var.access_log_retention_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.access]
}

resource "aws_s3_bucket_policy" "access" {
  bucket = aws_s3_bucket.access.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.tls_only["${local.arn}:s3:::${var.name}-access"], [
      {
        Sid       = "S3Delivers"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${local.arn}:s3:::${var.name}-access/*"
        Condition = {
          ArnEquals    = { "aws:SourceArn" = [for kind in local.kinds : "${local.arn}:s3:::${var.name}-${kind}"] }
          StringEquals = { "aws:SourceAccount" = local.account }
        }
      },
    ])
  })

  depends_on = [aws_s3_bucket_public_access_block.access]
}
