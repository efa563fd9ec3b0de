# Copies in a second region: new objects within minutes. What was there before a bucket was named in
# `replicate` is copied by an S3 Batch Replication job (README.md).

data "aws_region" "replica" {
  provider = aws.replica
}

resource "aws_kms_key" "replica" {
  count    = length(var.replicate) > 0 ? 1 : 0
  provider = aws.replica

  description             = "${var.name}: copies of ${join(", ", var.replicate)}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = local.key_policy[data.aws_region.replica.name]
}

resource "aws_kms_alias" "replica" {
  count    = length(var.replicate) > 0 ? 1 : 0
  provider = aws.replica

  name          = "alias/${var.name}-lake-replica"
  target_key_id = aws_kms_key.replica[0].key_id
}

resource "aws_s3_bucket" "replica" {
  #checkov:skip=CKV_AWS_144:It is the copy
  #checkov:skip=CKV_AWS_18:Written by S3's replication alone; access logs need a bucket in its region
  #checkov:skip=CKV2_AWS_62:Nothing waits for a copy
  for_each = var.replicate
  provider = aws.replica

  bucket              = "${var.name}-${each.key}-replica"
  force_destroy       = var.force_destroy
  object_lock_enabled = each.key == "ledger"

  lifecycle {
    precondition {
      condition     = data.aws_region.replica.name != data.aws_region.current.name
      error_message = "A copy in ${data.aws_region.current.name} is lost with the bucket that it is of: give the provider aws.replica another region, or set replicate = []."
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket                  = aws_s3_bucket.replica[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.replica[0].arn
    }
  }
}

resource "aws_s3_bucket_policy" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.tls_only["${local.arn}:s3:::${var.name}-${each.key}-replica"],
      local.right_key_only["${local.arn}:s3:::${var.name}-${each.key}-replica"],
      each.key == "ledger" ? local.append_only["${local.arn}:s3:::${var.name}-ledger-replica"] : [],
    )
  })

  depends_on = [aws_s3_bucket_public_access_block.replica]
}

resource "aws_s3_bucket_lifecycle_configuration" "replica" {
  for_each = var.replicate
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = local.noncurrent_days[each.key]
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.replica]
}

resource "aws_s3_bucket_object_lock_configuration" "replica" {
  for_each = setintersection(var.replicate, ["ledger"])
  provider = aws.replica

  bucket = aws_s3_bucket.replica[each.key].id

  rule {
    default_retention {
      mode = var.ledger_lock_mode
      days = var.ledger_retention_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.replica]
}

resource "aws_s3_bucket_replication_configuration" "data" {
  for_each = var.replicate

  bucket = aws_s3_bucket.data[each.key].id
  role   = aws_iam_role.replication[0].arn

  rule {
    id       = "everything"
    status   = "Enabled"
    priority = 1

    filter {}

    # What vacuum deletes goes from the copy too, and can be brought back there for as long as here.
    # Nobody deletes in the ledger: a marker there is a mistake or worse, and stops here.
    delete_marker_replication {
      status = each.key == "ledger" ? "Disabled" : "Enabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket = aws_s3_bucket.replica[each.key].arn

      encryption_configuration {
        replica_kms_key_id = aws_kms_key.replica[0].arn
      }

      # How far behind the copy is, as CloudWatch metrics.
      metrics {
        status = "Enabled"
      }
    }
  }

  # Both sides need versions before S3 copies them, and the role what it may do.
  depends_on = [
    aws_s3_bucket_versioning.data,
    aws_s3_bucket_versioning.replica,
    aws_iam_role_policy.replication,
  ]
}

resource "aws_iam_role" "replication" {
  count = length(var.replicate) > 0 ? 1 : 0

  name                 = "${var.name}-lake-replication"
  description          = "S3 copies ${join(", ", var.replicate)} to ${data.aws_region.replica.name}"
  permissions_boundary = var.permissions_boundary_arn
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  count = length(var.replicate) > 0 ? 1 : 0

  name = "copy"
  role = aws_iam_role.replication[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadTheBuckets"
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = [for kind in var.replicate : "${local.arn}:s3:::${var.name}-${kind}"]
      },
      {
        Sid    = "ReadTheObjects"
        Effect = "Allow"
        Action = [
          "s3:GetObjectLegalHold",
          "s3:GetObjectRetention",
          "s3:GetObjectVersionAcl",
          "s3:GetObjectVersionForReplication",
          "s3:GetObjectVersionTagging",
        ]
        Resource = [for kind in var.replicate : "${local.arn}:s3:::${var.name}-${kind}/*"]
      },
      {
        Sid      = "WriteTheCopies"
        Effect   = "Allow"
        Action   = ["s3:ReplicateDelete", "s3:ReplicateObject", "s3:ReplicateTags"]
        Resource = [for kind in var.replicate : "${local.arn}:s3:::${var.name}-${kind}-replica/*"]
      },
      {
        Sid       = "Decrypt"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = aws_kms_key.lake.arn
        Condition = { StringEquals = { "kms:ViaService" = "s3.${data.aws_region.current.name}.amazonaws.com" } }
      },
      {
        Sid       = "EncryptAgain"
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:GenerateDataKey"]
        Resource  = aws_kms_key.replica[0].arn
        Condition = { StringEquals = { "kms:ViaService" = "s3.${data.aws_region.replica.name}.amazonaws.com" } }
      },
    ]
  })
}
