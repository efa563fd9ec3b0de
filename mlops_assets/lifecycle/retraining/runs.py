"""The runs of retrainings: requested, requested again when lost, and how they ended."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlops_assets.adapters.prices import training_cost
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.retraining_guards import failed
from mlops_assets.core.retraining_records import Decision, Training
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import asset_key

STAGES = ("training_set", "model", "evaluation", "promotion", "endpoint")
"""What a retraining materializes."""

TRAINING = "mlops/retraining"
"""Run tag: the training that the run belongs to."""

GRACE = timedelta(minutes=2)
"""How old a training without a run is before its run is requested again. Whoever decided it is
about to start it; two daemons that start one run at the same moment do not see each other's."""

_LONGEST_TAG = 240

Runs = Mapping[str, Sequence[dg.RunRecord]]
"""Each training's runs by its run key, the first one first."""


def request(
    spec: UseCaseSpec, training: Training, window: Window, reasons: Iterable[str]
) -> dg.RunRequest:
    """The run of ``training``; Dagster starts one for a run key, however often it is requested."""
    op = asset_key(spec, "training_set").to_python_identifier()
    config = {"end": window.end.isoformat(), "days": len(window.days)}
    return dg.RunRequest(
        run_key=training.run_key,
        run_config={"ops": {op: {"config": config}}},
        asset_selection=[asset_key(spec, name) for name in STAGES],
        tags={
            "mlops/use_case": spec.name,
            TRAINING: training.run_key,
            "mlops/signal": training.signal_id,
            "mlops/reasons": _shortened("; ".join(reasons)),
            # The policy owns the retries: it counts them, and knows their cost.
            "dagster/max_retries": "0",
        },
    )


def runs_of(instance: dg.DagsterInstance, trainings: Iterable[Training]) -> Runs:
    """The runs of ``trainings``, in one query."""
    found: dict[str, list[dg.RunRecord]] = {training.run_key: [] for training in trainings}
    if found:
        records = instance.get_run_records(dg.RunsFilter(tags={TRAINING: list(found)}))
        for record in reversed(records):
            found[record.dagster_run.tags[TRAINING]].append(record)
    return found


def lost(training: Training, runs: Sequence[dg.RunRecord], now: datetime) -> bool:
    """Whether nobody starts the run of ``training`` unless it is requested again."""
    started = any(run.dagster_run.status != dg.DagsterRunStatus.NOT_STARTED for run in runs)
    return not started and abs(now - training.started) >= GRACE


def ended(
    spec: UseCaseSpec,
    training: Training,
    runs: Sequence[dg.RunRecord],
    instance: dg.DagsterInstance,
    now: datetime,
) -> Training | None:
    """``training`` with its end; None while a run of it goes on, or may still begin.

    A training may have several runs: somebody has re-executed one. Its cost is that of all.
    """
    begun = [run for run in runs if run.dagster_run.status != dg.DagsterRunStatus.NOT_STARTED]
    if not begun and failed(spec.retraining, training, now):
        end = {"outcome": "failed", "ended": now, "seconds": 0.0, "cost": 0.0}
        return training.model_copy(update=end)
    if not begun or not all(run.dagster_run.is_finished for run in begun):
        return None
    succeeded = [run for run in begun if run.dagster_run.is_success]
    last = (succeeded or begun)[-1]
    outcome = "failed"
    if succeeded:
        outcome = "succeeded"
    elif _cancelled_on_purpose(last, instance):
        outcome = "cancelled"
    seconds = sum((run.end_time or 0.0) - (run.start_time or run.end_time or 0.0) for run in begun)
    at = datetime.fromtimestamp(last.end_time, UTC) if last.end_time else now
    return training.model_copy(
        update={
            "outcome": outcome,
            # Runs have the machine's time, which is not the clock's in a replay.
            "ended": max(training.started, min(at, now)),
            "seconds": seconds,
            "cost": training_cost(seconds, profile_name(spec, "model")),
            "dagster_run_id": last.dagster_run.run_id,
        }
    )


def _cancelled_on_purpose(run: dg.RunRecord, instance: dg.DagsterInstance) -> bool:
    """Whether somebody asked for the end of ``run``; a process that is told to stop, as on a spot
    node that goes away, ends as cancelled too, without having been asked through Dagster.
    """
    if run.dagster_run.status != dg.DagsterRunStatus.CANCELED:
        return False
    asked = instance.get_records_for_run(
        run.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_CANCELING, limit=1
    )
    return bool(asked.records)


def says(decision: Decision) -> str:
    """``decision`` in one line: what, and why, with the numbers."""
    what = "no"
    if decision.retrain:
        what = f"retrain for signal {decision.signal_id}, attempt {decision.attempt}"
    elif decision.put_off is not None:
        what = f"signal {decision.signal_id} is put off ({decision.put_off})"
    return f"{what}, version {decision.champion_version} on {decision.day}: " + "; ".join(
        decision.reasons
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TAG else text[: _LONGEST_TAG - 1] + "…"
