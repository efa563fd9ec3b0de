"""Validation of partitions before they are published (write-audit-publish)."""

from mlops_assets.adapters.validation.audit import ValidationResult, validate
from mlops_assets.adapters.validation.report import ExpectationResult, expectations_markdown

__all__ = ["ExpectationResult", "ValidationResult", "expectations_markdown", "validate"]
