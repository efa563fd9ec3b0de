terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
      # The region of the copies. Where there are none, the same as the default configuration.
      configuration_aliases = [aws.replica]
    }
  }
}
