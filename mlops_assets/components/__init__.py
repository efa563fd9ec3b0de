"""Components that YAML names: ``type: mlops_assets.components.UseCase``."""

from mlops_assets.components.use_case import UseCase

__all__ = ["UseCase"]
