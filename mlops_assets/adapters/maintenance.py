"""Looking after the lake: fewer files, and no old ones that nobody names."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_assets.adapters.checkpoints import remove_abandoned
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.tracking import Tracking


def vacuum_use_case(
    lake: "Lake", tracking: "Tracking", use_case: str, retention_hours: int
) -> Iterator[str]:
    """Delete old files of the use case's tables, and checkpoints of trainings that nobody went on
    with for as long; says what it did, a line each.

    Every table version that a registered model was trained from stays readable. Raises
    PermanentError for a use case without registered models: nothing would say what to keep.
    """
    models = tracking.versions(use_case)
    if not models:
        raise PermanentError(
            f"{use_case} has no registered models, so nothing says which versions to keep; "
            "check the name"
        )
    keep: dict[str, set[int]] = {}
    for model in models:
        for table, version in model.training_set.table_versions.items():
            keep.setdefault(table, set()).add(version)
    for table in sorted(keep):
        versions = sorted(keep[table])
        deleted = lake.vacuum(table, versions, retention_hours)
        yield f"{table}: {deleted} files deleted, {len(versions)} versions of models kept"
    abandoned = remove_abandoned(tracking.artifacts_url, use_case, timedelta(hours=retention_hours))
    yield f"checkpoints: {abandoned} abandoned trainings removed"
