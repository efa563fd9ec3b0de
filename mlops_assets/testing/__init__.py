"""Checks that a team runs on its own use case. They need no Dagster, no lake and no platform."""

from mlops_assets.testing.features import (
    ViewFunction,
    assert_matches_spec,
    assert_no_future,
    assert_partition_equals_whole,
    compute_view,
    load_spec,
)

__all__ = [
    "ViewFunction",
    "assert_matches_spec",
    "assert_no_future",
    "assert_partition_equals_whole",
    "compute_view",
    "load_spec",
]
