"""Where a step's next attempt runs, or why there is none: interruptions apart from errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlops_assets.core.compute import ComputeProfile
from mlops_assets.core.compute_pods import End
from mlops_assets.core.records import Record

_HOPELESS: Mapping[End, str] = {
    "memory": "the same again would end the same",
    "disk": "the same again would end the same",
    "image": "the same again would end the same",
    "configuration": "the same again would end the same",
    "deadline": "what it did until then is kept where it saves checkpoints; raise the profile's "
    "runtime_seconds, and materialize the asset again",
    "failed": "the step failed",
    "succeeded": "the step succeeded",
}
"""Ends that another attempt does not change."""

_FIRST_DELAY_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 120.0


class Attempt(Record):
    """One attempt of a step: where it was placed, and how it ended."""

    number: int
    """From 0."""
    profile: str
    """That it was placed with; a spot profile's last attempt has its fallback."""
    capacity: str
    launched: datetime
    begun: datetime | None = None
    """When the step itself started, after the pod had a node and an image."""
    ended: datetime | None = None
    end: End | None = None
    reason: str = ""

    @property
    def seconds(self) -> float:
        """How long the step ran; 0 for one that never started."""
        if self.begun is None or self.ended is None:
            return 0.0
        # Nodes have clocks of their own.
        return max(0.0, (self.ended - self.begun).total_seconds())


@dataclass(frozen=True)
class Placement:
    """The next attempt: with which profile, how long from now, and why."""

    profile: str
    delay_seconds: float
    reason: str


@dataclass(frozen=True)
class Stop:
    """There is no next attempt."""

    reason: str


def place(
    name: str, profiles: Mapping[str, ComputeProfile], attempts: Sequence[Attempt]
) -> Placement | Stop:
    """The next attempt of a step whose asset names the profile ``name``.

    ``attempts`` are those so far, in order, each with its end. Interruptions and errors have
    budgets of their own: what a spot market does says nothing about the code, and a bug is not
    tried again because spot nodes were taken away.
    """
    profile = profiles[name]
    if not attempts:
        return Placement(name, 0.0, "the first attempt")
    last = attempts[-1]
    end = last.end or "interrupted"
    interruptions = sum(attempt.end in ("interrupted", None) for attempt in attempts)
    errors = sum(attempt.end in ("error", "crashed") for attempt in attempts)
    if end == "unschedulable":
        return _without_node(name, profile, attempts)
    spent = _spent(name, profile, last, interruptions, errors)
    if spent is not None:
        return Stop(spent)
    counted = (
        f"interruption {interruptions} of at most {profile.attempts - 1}"
        if end == "interrupted"
        else f"error {errors} of at most {profile.error_retries}"
    )
    delay = 0.0 if end == "interrupted" else _delay(errors)
    if profile.fallback is not None and (
        last.profile == profile.fallback or interruptions == profile.attempts - 1
    ):
        return Placement(profile.fallback, delay, f"{counted}: the last one is on on-demand")
    return Placement(name, delay, counted)


def _spent(
    name: str, profile: ComputeProfile, last: Attempt, interruptions: int, errors: int
) -> str | None:
    """Why there is no further attempt, None when there is one."""
    if last.end is not None and last.end in _HOPELESS:
        return f"{last.reason}; {_HOPELESS[last.end]}"
    if interruptions >= profile.attempts:
        return (
            f"interrupted {interruptions} times, the last time because {last.reason}; the profile "
            f"{name!r} allows {profile.attempts} attempts"
        )
    if errors > profile.error_retries:
        return (
            f"{errors} attempts ended with errors, the last one because {last.reason}; the profile "
            f"{name!r} allows {profile.error_retries} retries"
        )
    return None


def _without_node(
    name: str, profile: ComputeProfile, attempts: Sequence[Attempt]
) -> Placement | Stop:
    last = attempts[-1]
    if profile.fallback is not None and last.profile != profile.fallback:
        return Placement(profile.fallback, 0.0, f"no capacity for {name!r}: {last.reason}")
    return Stop(
        f"{last.reason}; add nodes that fit the profile {last.profile!r}, correct its "
        "node_selector and tolerations, or raise its schedule_seconds"
    )


def _delay(errors: int) -> float:
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** (errors - 1))
