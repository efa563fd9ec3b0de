"""A day of flights, asked about by the flight alone: every feature is the one of training."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast

import polars as pl
import pytest

import mlops_assets
from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.online_store import open_store
from mlops_assets.core.online_spec import OnlineSpec
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.requests import PredictionRequest, request_schema
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT, problems
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import table_name, view_lookback_days
from mlops_assets.lifecycle.online import materialize
from mlops_assets.lifecycle.online_config import config_of, looked_up
from mlops_assets.lifecycle.source_tables import tables_from_sources
from mlops_assets.lifecycle.training_set import events_with_features
from mlops_assets.serving.online_features import OnlineFeatures
from mlops_assets.testing import load_spec

FOLDER = Path(mlops_assets.__file__).parent / "defs" / "flight_delays"
COLUMNS = [
    "scheduled_arrival", "carrier", "tailnum", "origin", "dest", "distance", "hour", "minute",
]  # fmt: skip
TEXTS = {"carrier", "tailnum", "origin", "dest"}
EVERY = 7
"""One flight in so many is asked about: of all hours, airports and carriers."""


def test_a_flight_gets_the_features_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nine views: seven looked up by four keys, one unpartitioned, one computed from the flight.
    The store was filled before the day's first request and not again.
    """
    plain = load_spec(FOLDER / "defs.yaml")
    online = OnlineSpec(computed=["schedule"], event_columns=COLUMNS)
    # Without the checks of raw rows, which take longer than everything else here.
    datasets = {n: d.model_copy(update={"suite": None}) for n, d in plain.datasets.items()}
    spec = plain.model_copy(update={"online": online, "datasets": datasets})
    assert not list(problems(spec))
    functions = Functions("mlops_assets.defs.flight_delays", FOLDER)
    window = Window(date(2013, 1, 4), date(2013, 1, 5), spec.timezone)
    tables = tables_from_sources(spec, functions, window)
    lake = Lake(str(tmp_path / "lake"))
    for name, view in looked_up(spec).items():
        table = table_name(spec, name)
        days = window.with_lookback(view_lookback_days(view)).partitions
        rows = {day: tables.read(table, [day] if view.partitioned else None) for day in days}
        key = [*view.entity, EVENT_TIME, KNOWN_AT]
        lake.write(table, rows if view.partitioned else {"all": rows[days[0]]}, key)

    lead = timedelta(minutes=spec.events.lead_minutes)
    config = config_of(spec, functions, str(tmp_path / "online"))
    store = open_store(config.url, 1.0)
    done = materialize(spec, config, lake, store, window.start_time - lead)
    assert len(done.written) == 8
    features = OnlineFeatures(config, store)

    clock_file = tmp_path / "clock.json"
    monkeypatch.setenv(clock.ENV, str(clock_file))
    flights = pl.DataFrame(tables.read(table_name(spec, "flights"), window.partitions))
    expected = events_with_features(spec, functions, tables, window)
    asked = expected.select(EVENT_ID, "asked_at").join(flights, on=EVENT_ID, maintain_order="left")
    asked = asked.gather_every(EVERY)
    base = request_schema(
        Signature(
            inputs=tuple(FeatureField(name=n, type=t) for n, t in spec.feature_types.items()),
            output="late",
        )
    )
    answered: list[dict[str, object]] = []
    for flight in asked.iter_rows(named=True):
        clock.restart(clock_file, cast("datetime", flight["asked_at"]))
        texts = {name: [flight[name]] for name in TEXTS}
        texts["scheduled_arrival"] = [flight["scheduled_arrival"].isoformat()]
        numbers = {name: [flight[name]] for name in COLUMNS if name not in texts}
        request, _ = features.complete(
            PredictionRequest(1, texts, numbers, [flight[EVENT_ID]], None), base
        )
        answered.append({name: column[0] for name, column in request.columns.items()})
    wanted = expected.gather_every(EVERY)
    assert wanted.height > 100
    for name, kind in spec.feature_types.items():
        dtype = pl.Float32 if kind == "float" else pl.String
        column = pl.Series([row[name] for row in answered], dtype=dtype, strict=False)
        assert column.to_list() == wanted[name].to_list(), name
        assert column.null_count() < wanted.height, name
