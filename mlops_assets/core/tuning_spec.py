"""What a team writes about tuning: the fields of ``tuning`` in defs.yaml."""

from collections.abc import Iterator

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_part import Spec

Value = float | int | str | bool
"""Of a parameter of the model."""


class Range(Spec):
    """Numbers from ``low`` to ``high``, both included."""

    low: int | float = Field(
        description="Lower bound, itself included. Whole numbers are tried only where both ends "
        "are written without a decimal point, so write 0.0 to 5.0 for a number with decimals."
    )
    high: int | float = Field(description="Upper bound, itself included.")
    step: int | float | None = Field(
        default=None, gt=0, description="Distance of the values from each other. Default: any."
    )
    log: bool = Field(
        default=False,
        description="Whether values are drawn by their logarithm, as for a learning rate. "
        "Default: false.",
    )

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Choice(Spec):
    """One of several values."""

    choices: list[Value] = Field(min_length=2, description="The values to choose from.")


class TuningSpec(Spec):
    """How better parameters of the model are looked for."""

    space: dict[str, Range | Choice] = Field(
        min_length=1,
        description="Each parameter of the model that is varied: `low` and `high`, or `choices`. "
        "Other parameters stay as `model.parameters` has them.",
    )
    trials: int = Field(
        default=30, ge=1, le=10_000, description="Upper bound of a study's trials. Default: 30."
    )
    budget_usd: float | None = Field(
        default=None,
        gt=0,
        description="Upper bound of what a study's trials may cost, in USD, at the price of the "
        "compute profile of the asset `tuning`. Default: no limit.",
    )
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Most boosting rounds of a trial. Default: `model.rounds`.",
    )
    patience: int = Field(
        default=20,
        ge=1,
        description="Rounds that every trial may take; later one is stopped that is worse than the "
        "median of the trials before it at the same round. Default: 20.",
    )
    startup_trials: int = Field(
        default=5,
        ge=1,
        description="The first trials, of which each takes all its rounds and has parameters that "
        "are drawn at random. Default: 5.",
    )
    seed: int = Field(default=7, ge=0, description="Random seed of the search. Default: 7.")


def problems(spec: TuningSpec) -> Iterator[SpecError]:
    """Each contradiction in ``spec``, with its place."""
    for name, each in spec.space.items():
        at = ("tuning", "space", name)
        if isinstance(each, Choice):
            if len(set(map(repr, each.choices))) < len(each.choices):
                yield SpecError((*at, "choices"), "the same value stands there twice")
        elif each.low >= each.high:
            yield SpecError((*at, "low"), f"{each.low} is not below high, {each.high}: swap them")
        elif each.log and (each.low <= 0 or each.step is not None):
            yield SpecError((*at, "log"), "needs a low above 0, and no step")
        elif each.whole and isinstance(each.step, float):
            yield SpecError((*at, "step"), f"{each.step} is no whole number, as low and high are")
        elif each.step is not None and each.step > each.high - each.low:
            yield SpecError((*at, "step"), f"{each.step} leads past high from low: make it smaller")


def contains(each: Range | Choice, value: Value) -> bool:
    """Whether ``value`` may be tried."""
    if isinstance(each, Choice):
        return any(value == choice and type(value) is type(choice) for choice in each.choices)
    if isinstance(value, bool | str) or not each.low <= value <= each.high:
        return False
    if each.whole and not float(value).is_integer():
        return False
    steps = 0.0 if each.step is None else (value - each.low) / each.step
    return abs(steps - round(steps)) < 1e-8
