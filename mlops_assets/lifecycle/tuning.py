"""Tuning: better parameters for the model, looked for within a number of trials and a budget.

Nothing here changes the model: what was found is YAML to review and to paste.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import TrainingSetRecord
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.core.tuning import (
    AS_CONFIGURED,
    TuningRecord,
    configured,
    enough,
    numbers_of,
    spent,
    study_name,
    to_paste,
    trials_markdown,
)
from mlops_assets.core.tuning_spec import TuningSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.training_set import PART, read_training_set

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.devices import Device
    from mlops_assets.adapters.tuning import Asked
    from mlops_assets.adapters.tuning_runs import StudyRuns
    from mlops_assets.adapters.xgboost_engine import TrainedModel

ASSET = "tuning"

Tell = Callable[[str], None]
"""Called with a sentence about each trial."""

OnRound = Callable[[int, float, float], None]


class TuningConfig(dg.Config):
    """Other limits than those in defs.yaml, for one run."""

    trials: int | None = None
    """Most trials of the study; default: tuning.trials of defs.yaml."""
    budget_usd: float | None = None
    """Most that they may cost, in USD; default: tuning.budget_usd of defs.yaml."""


@dataclass(frozen=True)
class Limits:
    """When a study ends."""

    trials: int
    budget: float | None


def limits_of(tuning: TuningSpec, trials: int | None, budget: float | None) -> Limits:
    """The use case's limits, or those given. Raises PermanentError for what is none."""
    if trials is not None and trials < 1:
        raise PermanentError(f"trials: {trials} is no number of trials, 1 or more")
    if budget is not None and not 0 < budget < float("inf"):
        raise PermanentError(f"budget: {budget} is no amount above 0")
    return Limits(trials or tuning.trials, tuning.budget_usd if budget is None else budget)


def tune(
    spec: UseCaseSpec,
    training_set: TrainingSetRecord,
    platform: Platform,
    *,
    trials: int | None = None,
    budget: float | None = None,
    tell: Tell = lambda _: None,
    dagster_run_id: str = "",
    on_round: OnRound = lambda *_: None,
) -> TuningRecord:
    """Go on with the study of ``training_set`` until it has its trials, or its budget is spent.

    A trial that no process told the end of is failed, and tried again. Raises PermanentError where
    the use case has no ``tuning``, for limits and parameters that are none and when another process
    goes on with the same study, TransientError when a database is busy or away.
    """
    import polars as pl

    from mlops_assets.adapters.devices import device
    from mlops_assets.adapters.prices import price_of
    from mlops_assets.adapters.tuning import open_study, storage_url
    from mlops_assets.adapters.tuning_runs import end_run, study_runs

    tuning = tuning_of(spec)
    limits = limits_of(tuning, trials, budget)
    price = price_of(profile_name(spec, ASSET))
    # A GPU that is demanded and missing is said before anything is begun.
    here = device(tell)
    name = study_name(spec, tuning, training_set.digest)
    tracking = platform.tracking()
    study = open_study(storage_url(platform.tracking_uri, platform.tuning_url), name, tuning)
    for cut in study.fail_unfinished():
        tell(f"trial {cut.number} was cut after {cut.seconds:.1f} s: it is tried again")
        if cut.mlflow_run_id:
            end_run(tracking, cut.mlflow_run_id, "KILLED")
    done = study.trials()
    if done:
        tell(f"study {name} goes on after {len(done)} trials")
    rows = read_training_set(spec, platform.lake(), training_set)
    # The holdout judges the model that comes of this: nothing is chosen by it.
    frame = rows.filter(pl.col(PART).is_in(["train", "validation"]))
    first = configured(spec, tuning)
    with study_runs(tracking, spec.name, name, study.mlflow_run_id(), dagster_run_id) as runs:
        study.note_mlflow_run(runs.run_id)
        while (stopped := enough(done, limits.trials, limits.budget, price.per_hour)) is None:
            asked = study.ask(first)
            as_is = asked.slot == 0 and first.keys() == tuning.space.keys()
            left = None if limits.budget is None else limits.budget - spent(done, price.per_hour)
            seconds = None if left is None or not done else left / price.per_hour * 3600
            told = _tried(spec, frame, asked, runs, here, seconds, as_is, on_round)
            tell(told)
            done = study.trials()
        record = TuningRecord(
            use_case=spec.name,
            study=name,
            training_set=training_set.digest,
            trials=tuple(done),
            stopped=stopped,
            cost=spent(done, price.per_hour),
            currency=price.currency,
            price_per_hour=price.per_hour,
            budget=limits.budget,
            mlflow_run_id=runs.run_id,
        )
        best = record.best
        numbers = {"trials": float(len(done)), "cost": record.cost}
        if best is not None and best.log_loss is not None:
            numbers["best_log_loss"] = best.log_loss
        runs.log(runs.run_id, {}, numbers, {"tuning.stopped": stopped})
    tell(f"stopped: {stopped}")
    return record


def _tried(
    spec: UseCaseSpec,
    frame: "pl.DataFrame",
    asked: "Asked",
    runs: "StudyRuns",
    here: "Device",
    most_seconds: float | None,
    as_is: bool,
    on_round: OnRound,
) -> str:
    """Train the trial and tell the study how it ended; a sentence about it."""
    from mlops_assets.adapters.tuning import REPORT_EVERY, Pruned
    from mlops_assets.adapters.tuning_runs import REASON_TAG, STATE_TAG
    from mlops_assets.adapters.xgboost_engine import train

    begun = time.perf_counter()
    history: dict[str, list[float]] = {"train_log_loss": [], "validation_log_loss": []}

    def each_round(number: int, training: float, validation: float) -> None:
        history["train_log_loss"].append(training)
        history["validation_log_loss"].append(validation)
        on_round(number, training, validation)
        if number % REPORT_EVERY:
            return
        seconds = time.perf_counter() - begun
        asked.report(number, min(history["validation_log_loss"]), seconds)
        if most_seconds is not None and seconds > most_seconds:
            raise Pruned(f"the budget was spent at round {number}")

    model = spec.model.model_copy(
        update={
            "parameters": {**spec.model.parameters, **asked.parameters},
            "rounds": tuning_of(spec).rounds or spec.model.rounds,
        }
    )
    with runs.trial(asked.number, asked.parameters) as run_id:
        asked.note(mlflow_run_id=run_id)
        trained: TrainedModel | None = None
        reason = AS_CONFIGURED if as_is else ""
        try:
            trained = train(
                frame,
                spec.feature_types,
                label=LABEL,
                part=PART,
                spec=model,
                output=spec.label.name,
                on_round=each_round,
                device=here,
            )
        except Pruned as pruned:
            reason = str(pruned)
        except BaseException as error:
            asked.note(reason=f"{type(error).__name__}", seconds=time.perf_counter() - begun)
            asked.end("failed")
            raise
        seconds = time.perf_counter() - begun
        losses = history["validation_log_loss"]
        rounds, loss = len(losses), min(losses, default=0.0)
        if trained is not None:
            rounds, history = trained.rounds, trained.history
            loss = history["validation_log_loss"][rounds - 1]
        state = "pruned" if trained is None else "complete"
        numbers = {"validation_log_loss_best": loss, "rounds": float(rounds), "seconds": seconds}
        runs.log(run_id, history, numbers, {STATE_TAG: state, REASON_TAG: reason})
        asked.note(rounds=rounds, seconds=seconds, log_loss=loss, reason=reason)
        # The end last: what is cut before it has not ended, and is tried again.
        asked.end(state, None if trained is None else loss)
    said = f" ({reason})" if reason else ""
    return f"trial {asked.number}: {loss:.5f} after {rounds} rounds, {seconds:.1f} s{said}"


def tuning_of(spec: UseCaseSpec) -> TuningSpec:
    """The use case's ``tuning``; PermanentError when it has none."""
    if spec.tuning is None:
        raise PermanentError(
            f"{spec.name} has no `tuning:` in its defs.yaml, which says what is searched: add it, "
            "docs/tuning.md shows how"
        )
    return spec.tuning


def keep(spec: UseCaseSpec, record: TuningRecord, platform: Platform, plot: bytes) -> list[str]:
    """Write the table, the plot and the YAML among the reports; returns their places."""
    from mlops_assets.adapters.storage import join, write_bytes

    files = {"trials.md": trials_markdown(record).encode(), "trials.png": plot}
    if record.best is not None:
        files["parameters.yaml"] = to_paste(spec, record.best).encode()
    folder = join(platform.reports_url, spec.name, ASSET)
    for name, content in files.items():
        write_bytes(join(folder, name), content)
    return [join(folder, name) for name in files]


def tuning_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that looks for better parameters, materialized by hand or by a schedule.

    It has no condition: what costs money does not follow from data.
    """

    @dg.asset(
        **common(
            spec,
            ASSET,
            f"Better parameters for the model of {spec.label.name}: trials on the training set, "
            "judged on its validation part. On request; changes nothing by itself.",
            [spec.model.engine, "optuna", "mlflow"],
        ),
        **placed(spec, ASSET),
        ins={"training_set": dg.AssetIn(asset_key(spec, "training_set"))},
    )
    def _tuning(
        context: dg.AssetExecutionContext,
        config: TuningConfig,
        platform: Platform,
        training_set: TrainingSetRecord,
    ) -> dg.MaterializeResult[TuningRecord]:
        from mlops_assets.adapters.figures import markdown_image
        from mlops_assets.adapters.tuning_plot import tuning_plot

        record = tune(
            spec,
            training_set,
            platform,
            trials=config.trials,
            budget=config.budget_usd,
            tell=context.log.info,
            dagster_run_id=context.run.run_id,
        )
        plot = tuning_plot(record)
        places = keep(spec, record, platform, plot)
        return dg.MaterializeResult(
            value=record,
            metadata={
                **numbers_of(record),
                "stopped": record.stopped,
                "study": record.study,
                "mlflow_run_id": record.mlflow_run_id,
                "trials_table": dg.MetadataValue.md(trials_markdown(record)),
                "best_so_far": dg.MetadataValue.md(markdown_image(plot, "best over trials")),
                "report": dg.MetadataValue.path(places[0]),
                **(
                    {"to_paste": dg.MetadataValue.md(f"```yaml\n{to_paste(spec, best)}```")}
                    if (best := record.best) is not None
                    else {}
                ),
            },
        )

    return _tuning
