"""Datasets from files and databases, and training sets that would leak."""

from pathlib import Path

import polars as pl
import pytest
import visits.sources as generated
from lifecycle_support import Project, make_project, spec_of_visits
from sqlalchemy import create_engine

from mlops_assets.core.errors import LeakageError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.training_set import build, training_window

DAYS = ("2024-03-29", "2024-04-01")
DATA = ("2024-03-01", "2024-04-11")


def _changed(spec: UseCaseSpec, **changes: object) -> UseCaseSpec:
    return UseCaseSpec.model_validate({**spec.model_dump(), **changes})


def _with_source(kind: str, folder: Path) -> dict[str, object]:
    """The generated visits of two months in a file or database, as a source."""
    days = [day.isoformat() for day in pl.date_range(
        pl.date(2024, 3, 1), pl.date(2024, 4, 11), eager=True)]  # fmt: skip
    frame = generated.visits(window_of(days, "Europe/Berlin"))
    if kind == "parquet":
        frame.write_parquet(folder / "visits.parquet")
        return {"kind": kind, "location": str(folder / "visits.parquet")}
    if kind == "csv":
        iso = "%Y-%m-%dT%H:%M:%S%.6fZ"
        frame.with_columns(
            pl.col("visited_at", "settled_at").dt.strftime(iso)
        ).write_csv(folder / "visits.csv")  # fmt: skip
        return {"kind": kind, "location": f"file://{folder / 'visits.csv'}"}
    engine = create_engine(f"sqlite:///{folder / 'visits.db'}")
    iso = "%Y-%m-%d %H:%M:%S%.6f+00:00"
    frame.with_columns(pl.col("visited_at", "settled_at").dt.strftime(iso)).to_pandas().to_sql(
        "visits", engine, index=False
    )
    return {
        "kind": "sql",
        "location": f"sqlite:///{folder / 'visits.db'}",
        "query": "SELECT * FROM visits WHERE datetime(visited_at) >= datetime(:start) "
        "AND datetime(visited_at) < datetime(:end)",
    }


@pytest.mark.parametrize("kind", ["parquet", "csv", "sql"])
def test_a_dataset_from_a_file_or_database_equals_the_one_from_a_function(
    project: Project, tmp_path: Path, kind: str
) -> None:
    """Where rows come from does not change what they are: digests are equal."""
    assert project.run(["visits"], DAYS).success
    expected = project.lake.states("visits/visits")
    datasets = project.spec.model_dump()["datasets"]
    datasets["visits"]["source"] = _with_source(kind, tmp_path)
    other = make_project(tmp_path / "other", project.instance, 8999)
    other = Project(
        _changed(other.spec, datasets=datasets), other.places, other.instance, other.faults_file
    )
    assert other.run(["visits"], DAYS).success
    found = other.lake.states("visits/visits")
    assert {p: s.digest for p, s in found.items()} == {p: s.digest for p, s in expected.items()}


def test_a_feature_that_is_the_label_stops_the_training_set(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the feature; nothing is frozen."""
    from visits import features

    honest = features.visit

    def leaking(window: object, visits: pl.DataFrame) -> pl.DataFrame:
        outcome = pl.when(pl.col("returned") == 1).then(pl.lit("a")).otherwise(pl.lit("b"))
        return honest(window, visits.with_columns(outcome.alias("shop")))

    monkeypatch.setattr(features, "visit", leaking)
    project.run(["visits", "shops"], DATA)
    assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
    with pytest.raises(LeakageError, match="shop_name"):
        build(project.spec, project.functions, project.lake, training_window(project.spec))
    assert project.lake.version("visits/training_sets") == -1


def test_an_event_that_comes_twice_stops_the_training_set(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event must not be trained on and judged on."""
    from visits import features

    honest = features.events
    monkeypatch.setattr(
        features, "events", lambda window, visits: pl.concat([honest(window, visits)] * 2)
    )
    project.run(["visits", "shops"], DATA)
    assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
    with pytest.raises(LeakageError, match="event_id"):
        build(project.spec, project.functions, project.lake, training_window(project.spec))


def test_a_use_case_needs_no_yaml() -> None:
    """The factories take plain specs; the YAML is one way to write them."""
    assert spec_of_visits().feature_types == {
        "minutes": "float",
        "shop_name": "category",
        "shop_return_share": "float",
        "shop_size": "float",
    }
