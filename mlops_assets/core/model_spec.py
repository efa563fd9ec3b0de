"""How a use case's model is trained, judged and admitted."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_names import Name
from mlops_assets.core.spec_part import Spec

if TYPE_CHECKING:
    from mlops_assets.core.spec import UseCaseSpec


class TrainingSetSpec(Spec):
    """The window that a model is trained and judged on."""

    end: date = Field(description="First day after the window (ISO date).")
    days: int = Field(ge=3, le=36_600, description="Length of the window, in days.")
    validation_days: int = Field(
        default=7,
        ge=1,
        description="Days before the holdout that decide when training stops, in days. Default: 7.",
    )
    holdout_days: int = Field(
        default=14,
        ge=1,
        description="Last days of the window, kept from training for the evaluation, in days. "
        "Default: 14.",
    )


class RaySpec(Spec):
    """How a model is trained on a Ray cluster.

    The number of workers is part of the model: with another number, other rounding, other bytes.
    """

    workers: int = Field(
        default=2, ge=1, le=1000, description="Processes that share the rows. Default: 2."
    )
    cpus_per_worker: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Cores that each worker has for its share of the rows. Default: 1.",
    )
    lost_workers: int = Field(
        default=3,
        ge=0,
        description="Losses of workers that a training stands; after each, the rounds since its "
        "last checkpoint are trained again. Default: 3.",
    )


class ModelSpec(Spec):
    """How a model is trained."""

    engine: Literal["xgboost", "ray"] = Field(
        default="xgboost",
        description="Where XGBoost trains: xgboost in the step's own process, ray on the workers "
        "of a Ray cluster. Default: xgboost.",
    )
    ray: RaySpec = Field(
        default=RaySpec(),
        description="The workers of engine ray. Default: its fields' defaults.",
    )
    parameters: dict[str, float | int | str | bool] = Field(
        default={}, description="Parameters for the engine. Default: the engine's own."
    )
    rounds: int = Field(default=300, ge=1, description="Most boosting rounds. Default: 300.")
    early_stopping_rounds: int = Field(
        default=20,
        ge=1,
        description="Rounds without a better validation log-loss after which training stops. "
        "Default: 20.",
    )
    segment_rounds: int = Field(
        default=20,
        ge=1,
        description="Rounds between checkpoints: what an interruption without warning costs at "
        "most. It is part of the model: each segment draws rows and columns anew. Default: 20.",
    )
    seed: int = Field(default=7, ge=0, description="Base random seed. Default: 7.")


class EvaluationSpec(Spec):
    """How a model is judged on the holdout."""

    slices: list[Name] = Field(
        default=[], description="Features whose values split the holdout. Default: none."
    )
    report_rows: int = Field(
        default=5000,
        ge=100,
        le=50_000,
        description="Most rows per side in the Evidently report, in rows. Default: 5000.",
    )
    bootstrap_samples: int = Field(
        default=1000, ge=100, le=100_000, description="Resamples of days. Default: 1000."
    )


Metric = Literal["log_loss", "brier", "ece", "roc_auc"]


class GateRule(Spec):
    """One condition for promotion, judged by a confidence interval over resampled days.

    With ``against``, the challenger's gain on ``metric`` over that reference has to be at least
    ``at_least``; without it, the metric itself has to be within ``at_least`` and ``at_most``.
    """

    metric: Metric = Field(description="Metric that is judged.")
    against: Literal["base_rate", "champion"] | None = Field(
        default=None,
        description="Reference on the same rows. Gain is positive when the challenger is better. "
        "Default: none, the metric itself is judged.",
    )
    at_least: float | None = Field(
        default=None, description="Lower bound, in the metric's unit. Default: none."
    )
    at_most: float | None = Field(
        default=None, description="Upper bound, in the metric's unit. Default: none."
    )


class GateSpec(Spec):
    """Rules that decide whether a challenger may become champion."""

    rules: list[GateRule] = Field(min_length=1, description="All have to pass.")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Level of the intervals (0.5 to 1). Default: 0.95."
    )


def training_problems(spec: "UseCaseSpec") -> Iterator[SpecError]:
    """What contradicts each other in the windows of training, with its place."""
    training = spec.training_set
    again = spec.retraining.window_days
    if again is not None and training.validation_days + training.holdout_days >= again:
        yield SpecError(
            ("retraining", "window_days"),
            f"{again} days leave none to train on after {training.validation_days} days of "
            f"validation and {training.holdout_days} of holdout; lengthen the window",
        )
    if training.validation_days + training.holdout_days >= training.days:
        yield SpecError(
            ("training_set", "days"),
            f"{training.days} days leave none to train on after {training.validation_days} days of "
            f"validation and {training.holdout_days} of holdout; lengthen the window",
        )
    first = training.end - timedelta(days=training.days)
    if first < spec.start:
        yield SpecError(
            ("training_set", "days"),
            f"the window begins on {first}, before the data does on {spec.start}; "
            "shorten it or end it later",
        )
    if spec.end is not None and training.end > spec.end:
        yield SpecError(
            ("training_set", "end"), f"{training.end} is after the data ends on {spec.end}"
        )


def model_problems(spec: "UseCaseSpec") -> Iterator[SpecError]:
    """What contradicts each other in the model, its evaluation and its gate, with its place."""
    if spec.model.engine != "ray" and spec.model.ray != RaySpec():
        yield SpecError(
            ("model", "ray"), "only engine ray has workers: write engine: ray, or leave it out"
        )
    known = sorted(spec.feature_types)
    for n, name in enumerate(spec.evaluation.slices):
        if name not in known:
            yield SpecError(
                ("evaluation", "slices", n),
                f"there is no feature {name!r}; known: {', '.join(known)}",
            )
    for n, rule in enumerate(spec.gate.rules):
        if rule.at_least is None and rule.at_most is None:
            yield SpecError(("gate", "rules", n), "give at_least, at_most, or both")
        elif (
            rule.at_least is not None and rule.at_most is not None and rule.at_least > rule.at_most
        ):
            yield SpecError(
                ("gate", "rules", n),
                f"nothing is at least {rule.at_least} and at most {rule.at_most}; swap them",
            )
