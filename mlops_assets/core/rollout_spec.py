"""What a team writes about rollouts: the fields of ``rollout`` in defs.yaml."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from pydantic import Field

from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec_part import Spec

Unit = Literal["request", "hour", "day"]
"""What counts as one observation of a paired comparison."""


class QualityGuardSpec(Spec):
    """Log-loss of the challenger against the champion, on the same requests, as labels arrive.

    The difference is relative to the champion's log-loss: 0.01 is one per cent worse.
    """

    abort_above: float = Field(
        default=0.0,
        ge=-1,
        description="Relative difference of log-loss that aborts when the challenger's is surely "
        "greater. Default: 0, surely worse than the champion.",
    )
    promote_below: float = Field(
        default=0.01,
        description="Relative difference of log-loss that the challenger has to be surely below. "
        "Default: 0.01, at most one per cent worse.",
    )
    unit: Unit = Field(
        default="day",
        description="One observation: a `request`, or all of an `hour` or a `day`. Requests of one "
        "day share weather, news and holidays, so that single requests look surer than they are. "
        "Default: day.",
    )
    min_rows: int = Field(
        default=1000,
        ge=1,
        description="Labelled rows before this guard says anything, in rows. Default: 1000.",
    )
    labelled: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of an hour's or a day's requests (0 to 1) that must have labels before "
        "it counts: early labels are not like late ones. Default: 0.9.",
    )
    required: Literal["canary", "promotion", "never"] = Field(
        default="canary",
        description="What has to wait until quality is surely good enough: the first `canary` "
        "step, only the `promotion`, or nothing (`never`: labels may abort, but nobody waits for "
        "them). Default: canary.",
    )


class ScoreGuardSpec(Spec):
    """Scores of the challenger against the champion's, on the same requests, without labels.

    The number is the share of pairs of requests on which they disagree: the challenger ranks the
    two the other way round (one half where it ranks them the same), or its scores are beyond
    comparison with the champion's. Models of the same kind disagree on 0.1 to 0.3; one that knows
    nothing, or has the features of others, on a half.
    """

    abort_above: float = Field(
        default=0.4,
        gt=0,
        lt=1,
        description="Share of pairs (0 to 1) that aborts when it is surely greater. Default: 0.4.",
    )
    promote_below: float = Field(
        default=0.45,
        gt=0,
        lt=1,
        description="Share of pairs (0 to 1) that it has to be surely below. Default: 0.45.",
    )
    unit: Unit = Field(
        default="request",
        description="One observation: a pair of rows (`request`), or all of an `hour` or a `day`. "
        "Default: request; the guard is about the answers of the rollout itself.",
    )
    min_rows: int = Field(
        default=100,
        ge=1,
        description="Pairs of rows before this guard says anything, in pairs. Default: 100.",
    )


class ErrorGuardSpec(Spec):
    """Share of requests that fail: the challenger's less the champion's."""

    abort_above: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="Difference of the shares (0 to 1) that aborts when it is surely greater. "
        "Default: 0.005.",
    )
    promote_below: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Difference of the shares (0 to 1) that it has to be surely below. Default: "
        "0.01.",
    )
    min_requests: int = Field(
        default=500,
        ge=1,
        description="Requests before this guard lets a challenger pass; it may abort before. "
        "Default: 500.",
    )


class LatencyGuardSpec(Spec):
    """Share of requests slower than a quantile of the champion's: the challenger's less the
    champion's.
    """

    quantile: float = Field(
        default=0.99,
        gt=0,
        lt=1,
        description="Quantile (0 to 1) of the champion's latency that separates slow requests. "
        "Default: 0.99.",
    )
    abort_above: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Difference of the shares of slow requests (0 to 1) that aborts when it is "
        "surely greater. Default: 0.01.",
    )
    promote_below: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Difference of the shares of slow requests (0 to 1) that it has to be surely "
        "below. Default: 0.02.",
    )
    min_requests: int = Field(
        default=500,
        ge=1,
        description="Requests before this guard lets a challenger pass; it may abort before. "
        "Default: 500.",
    )


class RolloutSpec(Spec):
    """How a challenger that passed the gate comes to answer, and what takes it back.

    A guarded rollout needs requests: without any it waits, and a person is told after a while.
    """

    strategy: Literal["immediate", "guarded"] = Field(
        default="immediate",
        description="`guarded`: shadow, canary, then champion, watched for a while; `immediate`: "
        "champion at once. Default: immediate.",
    )
    shadow_minutes: float = Field(
        default=60,
        ge=0,
        description="Least minutes in which answers are compared and not returned, in minutes; 0 "
        "begins with the first step. Default: 60.",
    )
    steps: tuple[float, ...] = Field(
        default=(0.05, 0.25, 0.5),
        description="Shares of the callers (above 0, below 1) whom the challenger answers, one "
        "step after the other. Default: 0.05, 0.25, 0.5.",
    )
    step_minutes: float = Field(
        default=30, ge=0, description="Least minutes at each step, in minutes. Default: 30."
    )
    step_requests: int = Field(
        default=200,
        ge=0,
        description="Requests at each step, at least, whoever answers them. Default: 200.",
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="One less the share of rollouts (0 to 1) that are aborted, or promoted, "
        "wrongly, at most, however often one looks. Default: 0.95.",
    )
    quality: QualityGuardSpec | None = Field(
        default=QualityGuardSpec(),
        description="Guard over log-loss; null for none. Default: its fields' defaults.",
    )
    scores: ScoreGuardSpec | None = Field(
        default=ScoreGuardSpec(),
        description="Guard over scores; null for none. Default: its fields' defaults.",
    )
    errors: ErrorGuardSpec | None = Field(
        default=ErrorGuardSpec(),
        description="Guard over failed requests; null for none. Default: its fields' defaults.",
    )
    latency: LatencyGuardSpec | None = Field(
        default=LatencyGuardSpec(),
        description="Guard over slow requests; null for none. Default: its fields' defaults.",
    )
    ready_within_seconds: float = Field(
        default=60,
        ge=0,
        description="Seconds after which a replica that has not loaded its models takes the "
        "challenger back, in seconds. Default: 60.",
    )
    watch_hours: float = Field(
        default=24,
        ge=0,
        description="Hours after the promotion in which the former champion is kept for "
        "comparison and for the way back, in hours; 0 for none. Default: 24.",
    )
    max_age_days: float = Field(
        default=21,
        gt=0,
        description="Days after which a rollout without a decision is told to a person, in days. "
        "Default: 21.",
    )


def problems(spec: RolloutSpec) -> Iterator[SpecError]:
    """Each contradiction between the fields of ``spec``, with its place below ``rollout``."""
    for n, share in enumerate(spec.steps):
        if not 0 < share < 1:
            yield SpecError(
                ("rollout", "steps", n),
                f"{share} is no share above 0 and below 1; all callers have the challenger once it "
                "is promoted",
            )
    for n, (before, share) in enumerate(pairwise(spec.steps), start=1):
        if share <= before:
            yield SpecError(
                ("rollout", "steps", n),
                f"{share} is not above the step before it, {before}; write growing shares",
            )
    for name, guard in (
        ("quality", spec.quality),
        ("scores", spec.scores),
        ("errors", spec.errors),
        ("latency", spec.latency),
    ):
        if guard is not None and guard.promote_below <= guard.abort_above:
            yield SpecError(
                ("rollout", name, "promote_below"),
                f"{guard.promote_below} is not above abort_above {guard.abort_above}: a challenger "
                "between them would never be decided on; raise it",
            )
    if spec.strategy == "guarded" and spec.shadow_minutes == 0 and not spec.steps:
        yield SpecError(
            ("rollout", "strategy"),
            "guarded needs a shadow or a step: set shadow_minutes or steps, or choose immediate",
        )
