"""Model files, read by digest."""

from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Release

if TYPE_CHECKING:
    from mlops_assets.core.inference import Model


def read_model(release: Release) -> "Model":
    """The released model; DigestMismatchError when its file is not the registered one."""
    from mlops_assets.adapters.storage import read_bytes
    from mlops_assets.core.inference import load_model

    data = read_bytes(release.artifact)
    if data is None:
        raise PermanentError(
            f"the file of {release.use_case} version {release.version} is gone "
            f"({release.artifact}): restore it or train again"
        )
    return load_model(data, release.sha256)
