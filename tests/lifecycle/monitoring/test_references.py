"""What a version's days are compared with, kept when it is evaluated."""

import polars as pl
import pytest
from answered_days import LAST, WEEK, Answered, Serving, drift_of, performance_of

from mlops_assets.core.errors import MissingPartitionsError
from mlops_assets.core.records import ModelRecord
from mlops_assets.lifecycle.evaluation import evaluate
from mlops_assets.lifecycle.monitoring.references import (
    keep_references,
    read_reference,
    read_references,
)
from mlops_assets.lifecycle.training_set import read_training_set


def test_the_evaluation_keeps_what_a_version_is_compared_with(
    site: Answered, champion: ModelRecord
) -> None:
    """A profile of each day of the training window, importances, and days it was not fitted to."""
    spec, window = site.project.spec, champion.training_set
    kept = read_references(spec, site.lake, champion.version)
    assert kept is not None
    assert len(kept.answers) == len(kept.labels) == (window.end - window.first).days
    assert sum(profile.rows for profile in kept.answers.values()) == window.rows
    assert [column.name for column in kept.layout.columns] == [*spec.feature_types, "score"]
    assert {profile.layout for profile in kept.answers.values()} == {kept.layout.digest}
    assert {profile.layout for profile in kept.labels.values()} == {kept.label_layout.digest}
    assert sum(kept.summary.importances.values()) == pytest.approx(1)
    assert kept.summary.unseen_from == window.validation_first
    reference = read_reference(spec, site.lake, champion.version)
    assert reference is not None
    days = {item.day for item in reference.realized}
    assert (min(days), len(days)) == (window.validation_first, 10)
    assert reference.version == champion.version


def test_a_version_that_is_evaluated_again_keeps_one_reference(
    site: Answered, champion: ModelRecord
) -> None:
    """The same documents, in place of those from before."""
    before = site.project.table("references")
    evaluate(site.project.spec, champion, site.lake, site.tracking, site.project.places.reports)
    assert site.project.table("references").equals(before)
    assert list(site.lake.states("visits/references")) == [str(champion.version)]


def test_a_version_without_both_classes_has_no_reference_of_performance(
    site: Answered, champion: ModelRecord
) -> None:
    """Its drift is judged, its performance is not, and nothing is made up."""
    spec = site.project.spec
    frame = read_training_set(spec, site.lake, champion.training_set).with_columns(
        pl.lit(0.3).cast(pl.Float32).alias("score"),
        pl.when(pl.col("part") == "train").then("label").otherwise(0).alias("label"),
    )
    keep_references(spec, site.lake, champion, frame, {"minutes": 1.0})
    assert read_reference(spec, site.lake, champion.version) is None
    for day in WEEK:
        site.answer(day, champion)
    record = performance_of(site, LAST)
    assert (record.realized, record.estimated, record.audit_error) == (None, None, None)
    assert record.outcomes_known == 1
    assert drift_of(site, LAST).days == 7


def test_a_version_without_references_is_unclear_and_says_what_to_do(
    site: Answered, champion: ModelRecord
) -> None:
    """One that was evaluated by an older release; and a use case that never had a champion."""
    for day in WEEK:
        site.answer(day, champion)
    site.lake.remove("visits/references", ["1"])
    record = drift_of(site, LAST)
    assert (record.verdict, record.rows, record.days) == ("unclear", 420, 7)
    assert "materialize visits/evaluation again" in record.cause
    assert performance_of(site, LAST).realized is None
    # Its own answers tell which version it is, without a registry.
    assert drift_of(site, LAST, Serving(None)).model_version == 1
    with pytest.raises(MissingPartitionsError, match="visits/promotion first"):
        drift_of(site, "2024-04-20", Serving(None))
    with pytest.raises(MissingPartitionsError, match="visits/promotion first"):
        performance_of(site, "2024-04-20", Serving(None))
