# Four buckets of one shape. What differs between them is in `kinds`, and in retention.tf.
#
#   lake       Delta tables: datasets, features, training sets, predictions, drift
#   artifacts  models, reports, documents, checkpoints
#   logs       the output of runs and steps
#   ledger     Delta tables that say what was decided: append-only, locked

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  kinds   = toset(["lake", "artifacts", "logs", "ledger"])
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
}

resource "aws_s3_bucket" "data" {
  #checkov:skip=CKV_AWS_144:A second region is an option, variable replicate
  #checkov:skip=CKV2_AWS_62:Only the lake's new objects start something
  for_each = local.kinds

  bucket        = "${var.name}-${each.key}"
  force_destroy = var.force_destroy
  # Cannot be turned on later without AWS's support.
  object_lock_enabled = each.key == "ledger"
}

resource "aws_s3_bucket_ownership_controls" "data" {
  for_each = local.kinds

  bucket = aws_s3_bucket.data[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "data" {
  for_each = local.kinds

  bucket                  = aws_s3_bucket.data[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "data" {
  for_each = local.kinds

  bucket = aws_s3_bucket.data[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  for_each = local.kinds

  bucket = aws_s3_bucket.data[each.key].id

  rule {
    # One call of KMS for many objects: a Delta table is many small ones.
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.lake.arn
    }
  }
}

resource "aws_s3_bucket_logging" "data" {
  for_each = local.kinds

  bucket        = aws_s3_bucket.data[each.key].id
  target_bucket = aws_s3_bucket.access.id
  target_prefix = "${each.key}/"

  # S3 asks at once whether it may deliver there.
  depends_on = [aws_s3_bucket_policy.access]
}

resource "aws_s3_bucket_policy" "data" {
  for_each = local.kinds

  bucket = aws_s3_bucket.data[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.tls_only["${local.arn}:s3:::${var.name}-${each.key}"],
      local.right_key_only["${local.arn}:s3:::${var.name}-${each.key}"],
      each.key == "ledger" ? local.append_only["${local.arn}:s3:::${var.name}-ledger"] : [],
    )
  })

  # S3 takes one change of a bucket's configuration at a time.
  depends_on = [aws_s3_bucket_public_access_block.data]
}

# New data starts what waits for it (module events). EventBridge gets every object; rules choose.
resource "aws_s3_bucket_notification" "lake" {
  bucket      = aws_s3_bucket.data["lake"].id
  eventbridge = true
}
