"""What a team writes about retraining: the fields of ``retraining`` in defs.yaml."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_part import Spec


class NeverSpec(Spec):
    """Keep the model for ever."""

    kind: Literal["never"] = Field(default="never", description="Default: never.")


class EverySpec(Spec):
    """Retrain by the calendar."""

    kind: Literal["every"] = Field(description="`every`.")
    days: int = Field(
        ge=1, le=3660, description="Days from the start of one training to the next, in days."
    )


class DriftSpec(Spec):
    """Retrain when the features' distribution has moved away from the champion's training data."""

    kind: Literal["drift"] = Field(description="`drift`.")
    above: float = Field(
        ge=0,
        description="Level above which the drift number (drift per feature, weighted by the "
        "feature's importance) asks for a retraining.",
    )
    evaluations: int = Field(
        default=1,
        ge=1,
        le=366,
        description="Evaluations on different days, without one below the level between them, "
        "after which it asks. Default: 1.",
    )
    clear_below: float | None = Field(
        default=None,
        ge=0,
        description="Level below which the number has to fall before it can ask again. Default: "
        "none, it asks again as long as it holds.",
    )


class PerformanceSpec(Spec):
    """Retrain when the champion's log-loss is worse than it was on its holdout."""

    kind: Literal["performance"] = Field(description="`performance`.")
    worse_by: float = Field(
        description="Level of excess log-loss over the model's holdout, in nats, from which it "
        "asks for a retraining."
    )
    source: Literal["realized", "estimated"] = Field(
        default="realized",
        description="Loss on outcomes, or the estimate without labels. Default: realized.",
    )
    judged_by: Literal["interval", "value"] = Field(
        default="interval",
        description="`interval`: the lower end of the loss's interval has to be that much worse, "
        "so that noise does not ask; `value`: the loss itself. Default: interval.",
    )
    evaluations: int = Field(
        default=1,
        ge=1,
        le=366,
        description="Evaluations on different days, without one below the level between them, "
        "after which it asks. Default: 1.",
    )
    clear_below: float | None = Field(
        default=None,
        description="Level of excess log-loss, in nats, below which it has to fall before it can "
        "ask again. Default: none, it asks again as long as it holds.",
    )


class FreshnessSpec(Spec):
    """Retrain when the champion has not seen the last days."""

    kind: Literal["freshness"] = Field(description="`freshness`.")
    max_age_days: int = Field(
        ge=1,
        le=3660,
        description="Most days from the end of the champion's training window until today, in "
        "days.",
    )


class AnyOfSpec(Spec):
    """Retrain when one of several policies asks for it."""

    kind: Literal["any_of"] = Field(description="`any_of`.")
    policies: "list[PolicySpec]" = Field(min_length=2, description="Of which one is enough.")


class AllOfSpec(Spec):
    """Retrain when several policies ask for it on the same day."""

    kind: Literal["all_of"] = Field(description="`all_of`.")
    policies: "list[PolicySpec]" = Field(min_length=2, description="Which all have to ask.")


LeafSpec = NeverSpec | EverySpec | DriftSpec | PerformanceSpec | FreshnessSpec

PolicySpec = Annotated[LeafSpec | AnyOfSpec | AllOfSpec, Field(discriminator="kind")]


class RetrainingSpec(Spec):
    """When the champion is trained again, and what holds that back.

    What asks while something holds it back is put off: it is kept, and starts a training when
    nothing holds it back any more. A champion that was trained on the day of the signal, however
    it came about, answers it.
    """

    policy: PolicySpec = Field(
        default=NeverSpec(), description="What asks for a retraining. Default: never."
    )
    window_days: int | None = Field(
        default=None,
        ge=3,
        le=36_600,
        description="Length of the window that a retraining trains on, in days, up to the newest "
        "labelled day. Default: everything since `start`.",
    )
    cooldown_days: int = Field(
        default=7,
        ge=0,
        le=3660,
        description="Calendar days from the start of a training until another signal may start "
        "one, in days. A retry of a failed training does not wait for it. Default: 7.",
    )
    budget_per_month: float | None = Field(
        default=None,
        gt=0,
        description="Upper bound of what trainings may cost in a calendar month, in the currency "
        "of the price table; failed ones count. Default: no bound.",
    )
    attempts_per_signal: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Upper bound of trainings started for one signal, the first included; then it "
        "is given up. Default: 3.",
    )
    attempts_per_day: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Upper bound of trainings started in one calendar day, for any reason. "
        "Default: 3.",
    )
    lost_after_hours: float = Field(
        default=24,
        gt=0,
        le=8784,
        description="Hours after its start from which a training without an end counts as failed. "
        "Choose more than the longest takes. Default: 24.",
    )
    new_days: int = Field(
        default=1,
        ge=0,
        le=366,
        description="Labelled days that the champion was not trained on, without which a training "
        "waits, in days. Default: 1.",
    )
    wait_for_inputs: bool = Field(
        default=True,
        description="Whether a training waits while an input fails its freshness policy. Default: "
        "true.",
    )
    keep_put_off: bool = Field(
        default=True,
        description="Whether what was put off still starts a training when the policy does not "
        "hold any more by then (else it is dropped, which the ledger says). Default: true.",
    )


def leaves(policy: PolicySpec, path: str = "policy") -> Iterator[tuple[str, LeafSpec]]:
    """Each policy that is no combination, with its dotted place, in the order of writing."""
    if isinstance(policy, AnyOfSpec | AllOfSpec):
        for n, part in enumerate(policy.policies):
            yield from leaves(part, f"{path}.policies.{n}")
    else:
        yield path, policy


def problems(spec: RetrainingSpec) -> Iterator[SpecError]:
    """Each contradiction between the fields of ``spec``, with its place below ``retraining``."""
    combined = isinstance(spec.policy, AnyOfSpec | AllOfSpec)
    for path, leaf in leaves(spec.policy):
        at = ("retraining", *(int(part) if part.isdigit() else part for part in path.split(".")))
        if isinstance(leaf, NeverSpec) and combined:
            yield SpecError(at, "'never' in a combination decides nothing or all; remove it")
        if isinstance(leaf, EverySpec) and leaf.days < spec.cooldown_days:
            yield SpecError(
                (*at, "days"),
                f"every {leaf.days} days is sooner than the cooldown of {spec.cooldown_days} days "
                "allows; lengthen it or shorten cooldown_days",
            )
        level = _level(leaf)
        if level is not None and level[1] > level[0]:
            yield SpecError(
                (*at, "clear_below"),
                f"{level[1]} is above the level {level[0]} that asks, so that both would hold; "
                "choose a lower one",
            )


def _level(leaf: LeafSpec) -> tuple[float, float] | None:
    """The level that asks and the one that clears, where both are given."""
    if isinstance(leaf, DriftSpec) and leaf.clear_below is not None:
        return leaf.above, leaf.clear_below
    if isinstance(leaf, PerformanceSpec) and leaf.clear_below is not None:
        return leaf.worse_by, leaf.clear_below
    return None
