"""A backtest of the tests' use case: the models of live runs, each trained once, and replayed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle_support import FOLDER, Project, make_project

from mlops_assets.adapters.backtest_cache import Cache, key_of
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.tracking import Tracking
from mlops_assets.core.backtest_records import VERSION
from mlops_assets.core.backtest_report import BacktestSummary
from mlops_assets.core.candidates import Candidate, candidates
from mlops_assets.core.daily_profiles import daily
from mlops_assets.core.drift import DriftThresholds, compare
from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.monitoring import drift_record, performance_record
from mlops_assets.core.performance_days import realized_days
from mlops_assets.core.profiles import profile
from mlops_assets.core.retraining_spec import RetrainingSpec
from mlops_assets.core.signals import signals_of
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.backtest.asset import backtest_asset
from mlops_assets.lifecycle.backtest.drift import drift_against
from mlops_assets.lifecycle.backtest.engine import Options, backtest, training_ends
from mlops_assets.lifecycle.backtest.gate import gate
from mlops_assets.lifecycle.backtest.matrix import Cell, fill, losses, model_of, scores
from mlops_assets.lifecycle.backtest.rows import ARRIVAL, NIGHTS, Span, read_span
from mlops_assets.lifecycle.backtest.signals import labels_of, watch
from mlops_assets.lifecycle.monitoring.performance_days import find_performance
from mlops_assets.lifecycle.monitoring.references import read_references
from mlops_assets.lifecycle.platform import Places, resources_at
from mlops_assets.lifecycle.source_tables import tables_from_sources
from mlops_assets.lifecycle.training_set import DAY, LABEL_KNOWN_AT, retraining_window

BOTH = RetrainingSpec.model_validate(
    {
        "policy": {
            "kind": "any_of",
            "policies": [
                {"kind": "performance", "worse_by": 0.02},
                {"kind": "drift", "above": 0.1},
            ],
        }
    }
)
DATA = ("2024-03-01", "2024-04-30")
FUNCTIONS = Functions("visits", FOLDER)


@dataclass
class Killed(Exception):  # noqa: N818 - it stands for a signal, not for an error
    """What a kill does to the process."""


@dataclass(frozen=True)
class Dying(Cache):
    """A cache whose process dies just before the n-th write."""

    writes: int = 0
    seen: list[str] = field(default_factory=list[str], hash=False)

    def put(self, key: str, content: bytes) -> None:
        """Write, or die."""
        if len(self.seen) == self.writes:
            raise Killed
        self.seen.append(key)
        super().put(key, content)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """All data and features in the lake."""
    with dg.DagsterInstance.ephemeral() as instance:
        project = make_project(tmp_path_factory.mktemp("live"), instance, 8931)
        assert project.run(["visits", "shops"], DATA).success
        assert project.run(["visit", "shop_returns", "shop_sizes"], DATA).success
        yield project


@pytest.fixture(scope="module")
def spec(live: Project) -> UseCaseSpec:
    """The use case with a cooldown that five days apart does not break."""
    return live.spec.model_copy(update={"retraining": RetrainingSpec(cooldown_days=5)})


@pytest.fixture(scope="module")
def span(spec: UseCaseSpec) -> Span:
    """All its rows, from the sources."""
    window = Window(spec.start, date(2024, 5, 1), spec.timezone)
    return read_span(spec, FUNCTIONS, tables_from_sources(spec, FUNCTIONS, window), window)


@pytest.fixture(scope="module")
def windows(spec: UseCaseSpec) -> list[Window]:
    """Three retrainings on everything so far."""
    return [retraining_window(spec, date(2024, 4, day)) for day in (10, 17, 24)]


@pytest.fixture(scope="module")
def filled(
    spec: UseCaseSpec,
    span: Span,
    windows: list[Window],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[Window, Cell], Cache]:
    """Their models, trained."""
    cache = Cache(str(tmp_path_factory.mktemp("cache")))
    return fill(spec, span, windows, cache), cache


def trained(
    spec: UseCaseSpec, span: Span, windows: list[Window], cache: Cache
) -> tuple[dict[Window, Cell], int]:
    """The matrix, and how many of its models were trained for it."""
    counted: list[bool] = []
    cells = fill(spec, span, windows, cache, lambda _done, new: counted.append(new))
    assert len(counted) == len(windows)
    return cells, sum(counted)


def same(one: dict[Window, Cell], other: dict[Window, Cell]) -> bool:
    """Equal but for the seconds, which nobody repeats."""

    def of(cells: dict[Window, Cell]) -> list[object]:
        return [
            (w, c.key, c.scored, c.fitted.model_copy(update={"seconds": 0.0}))
            for w, c in cells.items()
        ]

    return of(one) == of(other)


@pytest.fixture(scope="module")
def stages(live: Project) -> list[dg.ExecuteInProcessResult]:
    """Two live trainings: the team's own training set, and a later one on everything so far."""
    config = {"ops": {"visits__training_set": {"config": {"end": "2024-04-24", "days": 54}}}}
    return [
        live.run(["training_set", "model", "evaluation", "promotion"], config=chosen)
        for chosen in (None, config)
    ]


def test_a_backtest_trains_the_models_and_applies_the_gate_of_live_runs(
    live: Project,
    spec: UseCaseSpec,
    span: Span,
    stages: list[dg.ExecuteInProcessResult],
    tmp_path: Path,
) -> None:
    """The same bytes, and the same verdict on the challenger against the same champion."""
    assert all(result.success for result in stages)
    models = [result.asset_value(live.key("model")) for result in stages]
    windows = [
        Window(model.training_set.first, model.training_set.end, spec.timezone) for model in models
    ]
    assert (windows[0].first, windows[1].first) == (date(2024, 3, 17), date(2024, 3, 1))
    cache = Cache(str(tmp_path))
    cells = fill(spec, span, windows, cache)
    for model, cell in zip(models, cells.values(), strict=True):
        assert cell.fitted.sha256 == model.sha256
        assert (cell.fitted.rows, cell.fitted.rounds) == (model.training_set.rows, model.rounds)

    evaluation = stages[1].asset_value(live.key("evaluation"))
    assert evaluation.champion_version == models[0].version
    promotes = gate(spec, span, cells, cache)
    champion, challenger = (window.end for window in windows)
    assert promotes(champion, challenger) == (evaluation.verdict == "pass")
    assert promotes(champion, champion) is False
    (kept,) = [file.name for file in tmp_path.iterdir() if file.name.startswith("verdict")]
    assert (cache.get(kept) or b"").decode() == evaluation.verdict


def test_performance_and_drift_are_those_that_live_assets_find(
    live: Project, spec: UseCaseSpec, span: Span, stages: list[dg.ExecuteInProcessResult]
) -> None:
    """For the same champion on the same days, from what an endpoint would have logged."""
    model = stages[0].asset_value(live.key("model"))
    window = Window(model.training_set.first, model.training_set.end, spec.timezone)
    cache = Cache(f"{live.places.artifacts}/backtest-of-a-test")
    cells = fill(spec, span, [window], cache)
    (cell,) = cells.values()
    day, served_from = date(2024, 4, 19), date(2024, 4, 12)
    night = datetime(2024, 4, 20, 3, tzinfo=ZoneInfo(spec.timezone)).astimezone(UTC)
    rows = span.between(served_from, day + timedelta(days=1))
    known = pl.col(LABEL_KNOWN_AT) <= night
    outcomes = rows.select(
        "event_id",
        "event_time",
        "asked_at",
        pl.Series("score", scores(model_of(cell.key, cell.fitted, cache), rows), pl.Float32),
        pl.lit(model.version, pl.Int64).alias("model_version"),
        pl.lit(model.sha256).alias("model_sha256"),
        pl.lit("champion").alias("role"),
        pl.when(known).then(LABEL).alias(LABEL).cast(pl.Int32),
        known.alias("outcome_known"),
        pl.when(known).then(LABEL_KNOWN_AT).alias(LABEL_KNOWN_AT),
        DAY,
    )
    tables = {
        str(name): part.drop(DAY).to_arrow()
        for (name,), part in outcomes.partition_by(DAY, as_dict=True).items()
    }
    live.lake.write("visits/outcomes", tables, ["event_time", "event_id"])
    tracking = Tracking(live.places.tracking, live.places.artifacts)
    performed = find_performance(spec, live.lake, tracking, sorted(tables))[-1].record
    drift = drift_against(spec, span, window, cell.fitted.importances)(day)
    expected = signals_of(
        spec.name,
        drift_record(spec.name, day, model.version, drift),
        performed,
        model.version,
        window.end,
    )
    signals = watch(spec, span, cells, labels_of(span))
    found = signals(Candidate("both", BOTH))(day, window.end, served_from)
    assert expected is not None
    assert expected.realized is not None
    assert expected.estimated is not None
    said = expected.model_dump(exclude={"champion_version"})
    for name, value in found.model_dump(exclude={"champion_version"}).items():
        # A day's sums are not added up in the same order.
        close = isinstance(value, dict) and name != "drift"
        assert value == (pytest.approx(said[name], rel=1e-6) if close else said[name]), name

    references = read_references(spec, live.lake, model.version)
    assert references is not None
    names = list(spec.feature_types)
    week = rows.filter(pl.col(DAY) >= "2024-04-13").with_columns(pl.lit(0.5).alias("score"))
    current = {
        date.fromisoformat(str(name)): profile(part, references.layout)
        for (name,), part in week.partition_by(DAY, as_dict=True).items()
    }
    against = compare(
        daily(references.answers, references.layout).select(names),
        daily(current, references.layout).select(names),
        importance=references.summary.importances,
        thresholds=DriftThresholds(
            distance=spec.monitoring.drift_distance, model=spec.monitoring.drift_of_model
        ),
    )
    assert drift.drift == pytest.approx(against.drift, rel=1e-9)
    assert (drift.verdict, drift.reference_rows) == (against.verdict, against.reference_rows)
    for ours, theirs in zip(drift.columns, against.columns, strict=True):
        assert (ours.column, ours.verdict) == (theirs.column, theirs.verdict)
        assert (ours.importance, ours.p_value) == pytest.approx(
            (theirs.importance, theirs.p_value), rel=1e-9
        )


def test_the_lake_and_the_sources_give_the_same_rows(
    live: Project, spec: UseCaseSpec, span: Span
) -> None:
    """Down to the digest of every day; the lake says which day it lacks."""
    rows = read_span(spec, FUNCTIONS, live.lake, span.window)
    assert rows.digests == span.digests
    with pytest.raises(MissingPartitionsError):
        later = Window(span.window.first, date(2024, 5, 3), spec.timezone)
        read_span(spec, FUNCTIONS, live.lake, later)


def test_what_is_in_the_cache_is_not_trained_again(
    spec: UseCaseSpec, span: Span, windows: list[Window], filled: tuple[dict[Window, Cell], Cache]
) -> None:
    """Nor when there are more windows; another parameter is another model."""
    cells, cache = filled
    again, count = trained(spec, span, windows, cache)
    assert count == 0
    assert again == cells
    more = [*windows, retraining_window(spec, date(2024, 4, 27))]
    assert trained(spec, span, more, cache)[1] == 1
    deeper = spec.model_copy(
        update={"model": spec.model.model_copy(update={"parameters": {"max_depth": 2}})}
    )
    assert trained(deeper, span, windows[:1], cache)[1] == 1


@pytest.mark.parametrize("writes", range(6))
def test_a_backtest_that_was_killed_goes_on_where_it_was(
    spec: UseCaseSpec,
    span: Span,
    windows: list[Window],
    filled: tuple[dict[Window, Cell], Cache],
    tmp_path: Path,
    writes: int,
) -> None:
    """Killed between any two writes, it trains what lacks its document, and arrives at the same."""
    with pytest.raises(Killed):
        fill(spec, span, windows, Dying(str(tmp_path), writes))
    cells, count = trained(spec, span, windows, Cache(str(tmp_path)))
    # A model takes three writes: its file, its document, its scores.
    assert count == len(windows) - (writes + 1) // 3
    assert same(cells, filled[0])


@pytest.mark.parametrize("damage", ["cut", "foreign", "garbage", "empty"])
def test_a_damaged_cache_is_computed_again(
    spec: UseCaseSpec,
    span: Span,
    windows: list[Window],
    filled: tuple[dict[Window, Cell], Cache],
    tmp_path: Path,
    damage: str,
) -> None:
    """Whatever file it is: it is replaced, and the result is the same."""
    cache = Cache(str(tmp_path))
    fill(spec, span, windows[:2], cache)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    other = {file: files[n - 1].read_bytes() for n, file in enumerate(files)}
    for file in files:
        data = file.read_bytes()
        broken = {"cut": data[:-7], "foreign": other[file], "garbage": b"\x00\xff\n", "empty": b""}
        file.write_bytes(broken[damage])
    cells, count = trained(spec, span, windows[:2], cache)
    assert count == 2
    assert same(cells, {window: filled[0][window] for window in windows[:2]})
    assert trained(spec, span, windows[:2], cache)[1] == 0


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.data())
def test_the_cache_gives_what_was_put_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    """A cut or a changed byte anywhere makes the entry absent."""
    cache = Cache(str(tmp_path_factory.mktemp("entry")))
    key = key_of("thing", {"a": 1})
    assert cache.get(key) is None
    cache.put(key, content)
    assert cache.get(key) == content
    file = Path(cache.url) / key
    raw = file.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    file.write_bytes(raw[:at])
    assert cache.get(key) is None
    flipped = bytes([raw[at] ^ data.draw(st.integers(1, 255))])
    file.write_bytes(raw[:at] + flipped + raw[at + 1 :])
    assert cache.get(key) is None


def test_the_matrix_holds_each_models_loss_on_each_later_day(
    spec: UseCaseSpec, span: Span, windows: list[Window], filled: tuple[dict[Window, Cell], Cache]
) -> None:
    """Equal to scoring the day by itself; a model has no loss before its window's end."""
    cells, cache = filled
    matrix = losses(cells, date(2024, 4, 10), date(2024, 5, 1))
    assert matrix.trained_until == tuple(window.end for window in windows)
    assert len(matrix.days) == 21
    assert np.isnan(matrix.loss[1, :7]).all()
    assert not np.isnan(matrix.loss[1, 7:]).any()
    cell = cells[windows[1]]
    rows = span.between(date(2024, 4, 20), date(2024, 4, 21))
    found = scores(model_of(cell.key, cell.fitted, cache), rows)
    y = rows["label"].to_numpy()
    loss = -np.mean(y * np.log(found) + (1 - y) * np.log(1 - found))
    assert matrix.loss_of(windows[1].end, date(2024, 4, 20)) == pytest.approx(loss, rel=1e-9)


def test_signals_are_those_of_the_days_that_the_champion_answered(
    spec: UseCaseSpec, span: Span, windows: list[Window], filled: tuple[dict[Window, Cell], Cache]
) -> None:
    """Through the live builders, from the labels that were there in the night."""
    cells, cache = filled
    cell, day = cells[windows[0]], date(2024, 4, 20)
    labels = labels_of(span)
    candidate = next(
        c for c in candidates(spec.retraining) if c.looks_at_performance and not c.looks_at_drift
    )
    signals = watch(spec, span, cells, labels)(candidate)(day, windows[0].end, date(2024, 4, 16))
    # What settles within two hours is known by three in the morning.
    rows = span.between(date(2024, 4, 16), date(2024, 4, 21))
    found = scores(model_of(cell.key, cell.fitted, cache), rows)
    realized = realized_days(
        rows[DAY].to_list(), rows["label"].to_numpy(), found, versions=VERSION, roles="champion"
    )
    record = performance_record(
        spec.name,
        day,
        VERSION,
        realized=realized,
        estimated=(),
        reference=cell.fitted.reference,
        labelled_until=date(2024, 4, 21),
        outcomes_known=1.0,
    )
    assert record.realized is not None
    assert signals.realized is not None
    assert signals.realized.loss == pytest.approx(record.realized.loss)
    assert signals.realized.low == pytest.approx(record.realized.low)
    assert signals.realized.reference == pytest.approx(record.realized.reference)
    assert signals.labelled_until == date(2024, 4, 21)
    assert signals.estimated is not None
    assert signals.drift is None
    # A champion of two days has too few of its own to be judged by.
    fresh = watch(spec, span, cells, labels)(candidate)(day, windows[0].end, date(2024, 4, 19))
    assert fresh.realized is None


def test_labels_that_come_later_are_not_looked_at_before(
    spec: UseCaseSpec, windows: list[Window]
) -> None:
    """With labels two nights late, the newest labelled day is two days back."""
    assert timedelta(hours=3) == ARRIVAL
    window = Window(spec.start, date(2024, 5, 1), spec.timezone)
    late = read_span(spec, FUNCTIONS, tables_from_sources(spec, FUNCTIONS, window), window)
    late = Span(late.window, late.events.with_columns(pl.lit(2).alias(NIGHTS)), late.digests)
    labels = labels_of(late)
    day = date(2024, 4, 20)
    assert labels.until(day) == day - timedelta(days=1)
    assert labels.known_by(day, day) == 0
    assert labels.known_by(day, day + timedelta(days=2)) == labels.events[day] == 60


def test_the_asset_compares_policies_and_recommends_one(live: Project, spec: UseCaseSpec) -> None:
    """Table, plot, numbers and YAML in the UI, and the same in files; on request only."""
    asset = backtest_asset(spec, FUNCTIONS)
    assert not asset.automation_conditions_by_key
    places = Places.under(Path(live.places.lake).parent)

    def run() -> dg.AssetMaterialization:
        result = dg.materialize(
            [asset],
            resources=resources_at(places),
            instance=live.instance,
            run_config={
                "ops": {"visits__backtest": {"config": {"every_days": 7, "first": "2024-04-10"}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
        (found,) = result.asset_materializations_for_node("visits__backtest")
        return found

    found = run()
    metadata = found.metadata
    assert {"chosen", "policies", "loss_over_time", "recommended", "regret"} <= set(metadata)
    folder = Path(str(metadata["report"].value)).parent
    summary = BacktestSummary.model_validate_json((folder / "summary.json").read_text())
    assert summary.source == "the lake"
    assert summary.models == 3
    assert (summary.first, summary.end) == (date(2024, 4, 10), date(2024, 5, 1))
    assert metadata["chosen"].value == summary.chosen
    read = yaml.safe_load((folder / "recommended.yaml").read_text())["retraining"]
    RetrainingSpec.model_validate(read)
    png = (folder / "policies.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert summary.chosen in (folder / "policies.md").read_text()
    never = summary.policy("never")
    assert never is not None
    assert never.whole.trainings == 0
    before = {name: (folder / name).read_bytes() for name in ("summary.json", "policies.png")}
    run()
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_options_that_leave_nothing_to_replay_are_refused(spec: UseCaseSpec) -> None:
    """With what to choose instead."""
    ends, until = training_ends(spec, Options(every_days=5))
    assert ends == [date(2024, 4, 10) + timedelta(days=5 * n) for n in range(5)]
    assert until == date(2024, 5, 1)
    with pytest.raises(PermanentError, match="give 1 or more"):
        training_ends(spec, Options(every_days=0))
    with pytest.raises(PermanentError, match="the data ends on 2024-05-01"):
        training_ends(spec, Options(until=date(2024, 6, 1)))
    with pytest.raises(PermanentError, match="are 11 days"):
        training_ends(spec, Options(until=date(2024, 4, 21)))


def test_a_backtest_without_a_lake_reads_the_sources(spec: UseCaseSpec, tmp_path: Path) -> None:
    """And says so; progress is told from nothing to all."""
    from mlops_assets.adapters.lake import Lake

    told: list[tuple[str, float, float]] = []
    found = backtest(
        spec,
        FUNCTIONS,
        Lake(str(tmp_path / "lake")),
        Cache(str(tmp_path / "cache")),
        Options(every_days=10, windows=(None, 24)),
        lambda what, done, total: told.append((what, done, total)),
    )
    assert found.summary.source == "the sources"
    for step in ("rows", "models", "policies"):
        share = [done / total for what, done, total in told if what == step]
        assert share == sorted(share)
        assert share[-1] == 1
    windowed = [policy for policy in found.summary.policies if policy.window_days == 24]
    assert windowed
