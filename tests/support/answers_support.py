"""A real model of the tests' use case, and what its endpoint logs about a day's events."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import xgboost
from lifecycle_support import Project

from mlops_assets import clock
from mlops_assets.adapters.endpoints.state import paths_of
from mlops_assets.core.inference import (
    dump_model,
    encode,
    encode_frame,
    feature_types,
    load_model,
    predict,
)
from mlops_assets.core.prediction_log import PredictionRecord
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.datasets import dataset_asset
from mlops_assets.lifecycle.feature_views import feature_view_asset
from mlops_assets.lifecycle.outcomes import outcomes_asset
from mlops_assets.lifecycle.platform import resources_at
from mlops_assets.lifecycle.prediction_log import prediction_log_asset
from mlops_assets.lifecycle.training_set import events_with_features
from mlops_assets.serving.prediction_log import PredictionLog

BEFORE, DAY, NEXT = "2024-03-05", "2024-03-06", "2024-03-07"
BOTH = ["prediction_log", "outcomes"]
SETTLED = datetime(2024, 3, 20, tzinfo=UTC)
"""All labels of those days are known."""


def define(project: Project) -> None:
    """Give ``project`` the assets that answers pass through, and no others."""
    spec, functions = project.spec, project.functions
    project.definitions = dg.Definitions(
        assets=[
            *(dataset_asset(spec, functions, name) for name in spec.datasets),
            *(feature_view_asset(spec, functions, name) for name in spec.feature_views),
            prediction_log_asset(spec),
            outcomes_asset(spec, functions),
        ],
        resources=resources_at(project.places),
    )


def known(project: Project, *days: str) -> pl.DataFrame:
    """The events of ``days`` with the features that the lake has."""
    window = window_of(days, project.spec.timezone)
    return events_with_features(project.spec, project.functions, project.lake, window)


def make_model(project: Project, folder: Path, day: str, version: int = 1) -> ServedModel:
    """A model that is trained on ``day``; each version has other bytes."""
    rows = known(project, day)
    categories = tuple(sorted(rows["shop_name"].unique().to_list()))
    signature = Signature(
        inputs=tuple(
            FeatureField(name=name, type=kind, categories=categories if kind == "category" else ())
            for name, kind in project.spec.feature_types.items()
        ),
        output=project.spec.label.name,
    )
    labels = (rows["minutes"] > 20).cast(pl.Int8).to_numpy()
    data = xgboost.DMatrix(
        encode_frame(rows, signature),
        np.asarray(labels, dtype=np.float32),
        feature_types=feature_types(signature),
        enable_categorical=True,
    )
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    content = dump_model(xgboost.train(parameters, data, 5 * version), signature)
    artifact = folder / f"model-{version}.ubj"
    artifact.write_bytes(content)
    return ServedModel(
        version=version, sha256=hashlib.sha256(content).hexdigest(), artifact=str(artifact)
    )


@dataclass
class Endpoint:
    """Writes what a server that serves ``served`` would log."""

    project: Project
    served: ServedModel
    role: str = "champion"
    returned: bool = True
    rollout: str = ""

    @property
    def log_dir(self) -> Path:
        """Where the server keeps its log."""
        return paths_of(self.project.spec.name, self.project.places.endpoints).predictions

    def answer(
        self,
        rows: pl.DataFrame,
        *,
        early: timedelta = timedelta(0),
        changes: Mapping[str, object] | None = None,
        without: Sequence[str] = (),
        at: datetime | None = None,
        named: bool = True,
        request: str = "r",
    ) -> None:
        """Log one request for each of ``rows``, ``early`` before its event, or ``at`` an instant.

        ``changes`` replace features before they are sent, by column; the scores follow from what
        was sent. Features ``without`` are ones that the model does not have.
        """
        types = self.project.spec.feature_types
        sent = rows.select(list(types)).with_columns(
            **{name: pl.lit(value, rows.schema[name]) for name, value in (changes or {}).items()}
        )
        content = Path(self.served.artifact).read_bytes()
        model = load_model(content, self.served.sha256)
        columns = {name: sent[name].to_list() for name in types}
        scores = predict(model, encode(columns, model.signature)).tolist()
        log = PredictionLog(self.log_dir, f"{request}{self.served.version}")
        for n, row in enumerate(rows.iter_rows(named=True)):
            log.write(
                PredictionRecord(
                    time=at or row["event_time"] - early,
                    request=f"{request}-{row['event_id']}",
                    use_case=self.project.spec.name,
                    version=self.served.version,
                    sha256=self.served.sha256,
                    categories={
                        name: [columns[name][n]]
                        for name, kind in types.items()
                        if kind == "category" and name not in without and self.returned
                    },
                    floats={
                        name: [columns[name][n]]
                        for name, kind in types.items()
                        if kind == "float" and name not in without and self.returned
                    },
                    scores=[scores[n]],
                    events=[row["event_id"]] if named else None,
                    role=self.role,
                    returned=self.returned,
                    rollout=self.rollout,
                )
            )
        log.close()


def at(folder: Path, now: datetime, speed: float = 0.0) -> None:
    """Make it ``now``."""
    clock.write(folder / "clock.json", clock.ReplayClock(now, datetime.now(UTC), speed))


def materializations(project: Project, name: str) -> dict[str, dg.AssetMaterialization]:
    """The latest materialization of each partition."""
    records = project.instance.fetch_materializations(project.key(name), limit=100).records
    latest: dict[str, dg.AssetMaterialization] = {}
    for record in records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        latest.setdefault(event.partition, event)
    return latest


def numbers(project: Project, name: str, day: str) -> dict[str, object]:
    """The latest metadata of a partition."""
    metadata = materializations(project, name)[day].metadata
    return {key: value.value for key, value in metadata.items()}


def data_version(project: Project, name: str, day: str) -> str:
    """The latest data version of a partition."""
    return (materializations(project, name)[day].tags or {})["dagster/data_version"]


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    """What the check ``name`` said in a run."""
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == name]
    return found
