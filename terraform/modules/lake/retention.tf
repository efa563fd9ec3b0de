# How long what is kept.

locals {
  # Of what was deleted or overwritten. In the ledger nothing is deleted, and one object of a Delta
  # table is overwritten: `_last_checkpoint`, a hint that can be made again. Its old versions are
  # locked like all others, and go when they are not. An entry that somebody hid behind a delete
  # marker can be brought back for as long as a new one is locked.
  noncurrent_days = {
    lake      = var.noncurrent_days
    artifacts = var.noncurrent_days
    logs      = min(var.noncurrent_days, var.log_retention_days)
    ledger    = max(var.noncurrent_days, var.ledger_retention_days)
  }

  # Intelligent-Tiering takes 0.0025 USD a month to watch a thousand objects, and saves about 0.0105
  # USD a month on a GiB that nobody reads: even at 0.24 MiB an object. Files that compaction and
  # vacuum take away within the first weeks never pay for the move.
  tiering_bytes = 1048576
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  #checkov:skip=CKV_AWS_300:the first rule has it, and S3 takes none in the second, whose objects are chosen by size
  for_each = local.kinds

  bucket = aws_s3_bucket.data[each.key].id

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

    # Days, or the markers of what is gone: S3 takes one of the two, and days do both.
    expiration {
      days                         = each.key == "logs" ? var.log_retention_days : null
      expired_object_delete_marker = each.key == "logs" ? null : true
    }
  }

  dynamic "rule" {
    for_each = each.key == "lake" ? ["large"] : []

    content {
      id     = "tiering"
      status = "Enabled"

      filter {
        object_size_greater_than = local.tiering_bytes
      }

      # Its archive tiers stay off (no intelligent tiering configuration): a training set that a
      # model names has to be readable at once.
      transition {
        days          = var.tiering_days
        storage_class = "INTELLIGENT_TIERING"
      }
    }
  }

  # Rules on versions, before there are any, are refused.
  depends_on = [aws_s3_bucket_versioning.data]
}

resource "aws_s3_bucket_object_lock_configuration" "ledger" {
  bucket = aws_s3_bucket.data["ledger"].id

  rule {
    default_retention {
      mode = var.ledger_lock_mode
      days = var.ledger_retention_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.data]
}
