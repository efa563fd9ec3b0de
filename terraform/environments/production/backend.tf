# terraform/bootstrap makes the bucket and the key. A test holds the names of these settings against
# those that the backend knows: `validate` does not look, and `init -backend-config` drops a mistyped
# one in silence.
terraform {
  backend "s3" {
    bucket              = "mlops-production-terraform"
    key                 = "mlops-production/terraform.tfstate"
    region              = "us-east-1"
    allowed_account_ids = ["123456789012"]
    encrypt             = true
    kms_key_id          = "alias/mlops-production-terraform"
    use_lockfile        = true
  }
}
