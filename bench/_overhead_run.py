"""One process of the overhead benchmark: the stages through Dagster or without, timed."""

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window

USE_CASE = "flight_delays"
_ROOT = Path(__file__).resolve().parents[1]
_DEFS = _ROOT / "mlops_assets" / "defs" / USE_CASE


@dataclass
class Clock:
    """Seconds of each stage, in order: on the wall, and of processors.

    Processor seconds are of all threads, and of child processes that have ended.
    """

    wall: dict[str, float] = field(default_factory=dict[str, float])
    cpu: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The block's time is that of ``stage``."""
        wall, cpu = time.perf_counter(), _processor_seconds()
        yield
        self.wall[stage] = time.perf_counter() - wall
        self.cpu[stage] = _processor_seconds() - cpu


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def spec_of(days: int | None, port: int) -> UseCaseSpec:
    """The demo's use case on a port of its own, with a window of the first ``days`` days.

    Another window than the demo's gets parts in proportion and a gate that any model passes: what
    is compared is time, and an endpoint needs a champion.
    """
    import yaml

    attributes = yaml.safe_load((_DEFS / "defs.yaml").read_text())["attributes"]
    attributes["endpoint"] = {"port": port}
    demo = UseCaseSpec.model_validate(attributes)
    if days is None or days == demo.training_set.days:
        return demo
    part = max(1, days // 5)
    attributes["training_set"] = {
        "end": demo.start + timedelta(days=days),
        "days": days,
        "validation_days": part,
        "holdout_days": part,
    }
    attributes["gate"] = {"rules": [{"metric": "log_loss", "against": "champion", "at_least": 0}]}
    return UseCaseSpec.model_validate(attributes)


def _days_of(spec: UseCaseSpec) -> tuple[list[str], list[str]]:
    """The days that get data, and of those the one to predict: the day after the window."""
    end = spec.training_set.end
    first = end - timedelta(days=spec.training_set.days)
    every = list(Window(first, end + timedelta(days=1), spec.timezone).partitions)
    return every, every[-1:]


def through_dagster(folder: Path, days: int | None, port: int) -> Clock:
    """Each stage as a run in this process, on an instance configured as the repository's.

    Importing Dagster, loading the definitions and opening the instance count too.
    """
    clock = Clock()
    with clock.timed("set-up"):
        import dagster as dg

        from mlops_assets.adapters.functions import Functions
        from mlops_assets.lifecycle.assets import tables_by_days
        from mlops_assets.lifecycle.platform import Places, resources_at
        from mlops_assets.lifecycle.use_case import use_case_definitions

        spec = spec_of(days, port)
        definitions = dg.Definitions.merge(
            use_case_definitions(spec, Functions(f"mlops_assets.defs.{USE_CASE}", _DEFS)),
            dg.Definitions(
                resources=resources_at(Places.under(folder / "state")),
                executor=dg.in_process_executor,
            ),
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        # Its paths are relative to the working directory, which is the folder.
        shutil.copy(_ROOT / "dagster.yaml", folder)
        instance = dg.DagsterInstance.from_config(str(folder))
    data, asked = _days_of(spec)

    def run(assets: Sequence[str], partitions: Sequence[str] | None) -> None:
        tags = {}
        if partitions is not None:
            tags["dagster/asset_partition_range_start"] = partitions[0]
            tags["dagster/asset_partition_range_end"] = partitions[-1]
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey([spec.name, name]) for name in assets],
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )

    with instance:
        for stage, (with_days, without_days) in tables_by_days(spec).items():
            with clock.timed(stage):
                run(with_days, data)
                run(without_days, None)
        for name in ("training_set", "model", "evaluation", "promotion", "endpoint"):
            with clock.timed(name.replace("_", " ")):
                run([name], None)
        with clock.timed("predictions"):
            run(["predictions"], asked)
    return clock


def plain(folder: Path, days: int | None, port: int) -> Clock:
    """The functions that those assets call, one after another."""
    # The functions lie beside the assets, so importing them imports Dagster: not their cost.
    import dagster  # noqa: F401  # pyright: ignore[reportUnusedImport]

    clock = Clock()
    with clock.timed("set-up"):
        from mlops_assets.adapters.functions import Functions
        from mlops_assets.adapters.tracking import plain_run
        from mlops_assets.clock import now
        from mlops_assets.lifecycle import (
            datasets,
            endpoint,
            evaluation,
            feature_views,
            model,
            predictions,
            promotion,
            training_set,
        )
        from mlops_assets.lifecycle.platform import Places, Platform

        spec = spec_of(days, port)
        functions = Functions(f"mlops_assets.defs.{USE_CASE}", _DEFS)
        platform = Platform.at(Places.under(folder / "state"))
    data, asked = _days_of(spec)
    with clock.timed("datasets"):
        lake, ledgers = platform.lake(), platform.ledgers()
        for name, dataset in spec.datasets.items():
            datasets.ingest(spec, functions, name, lake, data if dataset.partitioned else None)
    with clock.timed("feature views"):
        for name, view in spec.feature_views.items():
            partitions = data if view.partitioned else None
            feature_views.compute(spec, functions, name, lake, partitions)
    with clock.timed("training set"):
        window = training_set.training_window(spec)
        frozen = training_set.build(spec, functions, lake, window)
    with clock.timed("model"):
        tracking = platform.tracking()
        with plain_run(tracking, spec.name, "plain") as run_id:
            trained = model.train_and_register(spec, frozen, lake, tracking, run_id)
    with clock.timed("evaluation"):
        url = platform.reports_url
        judged = evaluation.evaluate(spec, trained.record, lake, tracking, url)
    with clock.timed("promotion"):
        promoted = promotion.promote(spec, judged.record, ledgers, tracking, now(), "plain")
    with clock.timed("endpoint"):
        served = endpoint.deploy(spec, promoted, platform.endpoints_url, platform.documents_url)
    with clock.timed("predictions"):
        predictions.score(spec, functions, lake, served.release.champion, asked)
    return clock


def results_of(folder: Path) -> dict[str, object]:
    """What both sides have to agree on: the content of every table, and the champion's bytes."""
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.tracking import Tracking
    from mlops_assets.lifecycle.platform import Places

    places = Places.under(folder / "state")
    lake = Lake(places.lake)
    found: dict[str, object] = {}
    for folder_of_table in sorted((Path(places.lake) / USE_CASE).iterdir()):
        states = lake.states(f"{USE_CASE}/{folder_of_table.name}")
        found[folder_of_table.name] = {name: state.digest for name, state in states.items()}
    champion = Tracking(places.tracking, places.artifacts).champion(USE_CASE)
    return found | {"champion": champion and champion.sha256}


SIDES = {"dagster": through_dagster, "plain": plain}


def main() -> None:
    """Run one side in the working directory, and print its times and results as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=list(SIDES))
    parser.add_argument("--days", type=int)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    folder = Path.cwd()
    try:
        clock = SIDES[options.side](folder, options.days, options.port)
        results = results_of(folder)
    finally:
        from mlops_assets.adapters.endpoints import local
        from mlops_assets.lifecycle.platform import Places

        local.stop(USE_CASE, Places.under(folder / "state").endpoints)
    print(json.dumps({"wall": clock.wall, "cpu": clock.cpu, "results": results}))


if __name__ == "__main__":
    main()
