"""Training in segments: when it saves, when it ends, which rounds it keeps, and what it is.

A training is a list of boosting rounds. Every few rounds it begins with fresh generators, whose
seed comes from the base seed and the round's number: there it may be cut, continued in another
process, and be the same list. Early stopping is a function of the log-losses so far: there is no
other state.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_assets.core.records import Signature

SCHEME = 1
"""Counted up with what makes other rounds of the same data and parameters."""

PARTS = ("train", "validation")
"""The parts of a training set whose log-loss each round reports, in this order."""

MOST_CELL_ROUNDS = 300_000_000
"""Rows times features times rounds that may lie between a request to end and the place where a
training can be cut: about 5 seconds of one core, which every grace period has."""

Losses = Mapping[str, Sequence[float]]
"""The log-loss after each round, in order, by part: as many rounds in both."""


@dataclass(frozen=True)
class Plan:
    """How many rounds at most, and after which it saves; all at least 1.

    ``exact_rounds`` is after how many rounds each a training begins with fresh generators, and can
    be cut and continued to the same bytes; ``segment_rounds`` is a multiple of it.
    """

    rounds: int
    segment_rounds: int
    early_stopping_rounds: int
    exact_rounds: int

    def ends_segment(self, done: int) -> bool:
        """Whether ``done`` rounds are a whole number of segments."""
        return done > 0 and done % self.segment_rounds == 0

    def is_exact(self, done: int) -> bool:
        """Whether a training that is cut after ``done`` rounds can go on to the same bytes."""
        return done % self.exact_rounds == 0

    def is_finished(self, losses: Losses) -> bool:
        """Whether no further round is to be trained."""
        validation = losses["validation"]
        waited = len(validation) - kept_rounds(validation) if validation else 0
        return len(validation) >= self.rounds or waited >= self.early_stopping_rounds

    def is_saved(self, losses: Losses) -> bool:
        """Whether a checkpoint is due: a segment ends, or the training does."""
        return self.ends_segment(len(losses["validation"])) or self.is_finished(losses)

    def can_be_cut(self, losses: Losses) -> bool:
        """Whether all rounds so far can be kept: none is trained again."""
        return self.is_exact(len(losses["validation"])) or self.is_finished(losses)

    def segments(self, first: int, done: int) -> int:
        """How many segments the rounds after ``first`` up to ``done`` are part of."""
        if done == first:
            return 0
        return math.ceil(done / self.segment_rounds) - first // self.segment_rounds


def exact_rounds(segment_rounds: int, rows: int, features: int) -> int:
    """After how many rounds each a training on so many rows and features begins afresh.

    That costs 1 to 2 ms, so that small trainings do it once a segment; a large one does it so often
    that it can be saved in time. Divides ``segment_rounds``.
    """
    most = max(1, MOST_CELL_ROUNDS // max(1, rows * features))
    return max(n for n in range(1, min(most, segment_rounds) + 1) if segment_rounds % n == 0)


def kept_rounds(validation: Sequence[float]) -> int:
    """The number of rounds up to the best: the first that no earlier one equals or beats.

    ``validation`` has at least one log-loss. As XGBoost's own early stopping: a NaN beats nothing,
    and nothing beats a NaN that came first.
    """
    best = 0
    for number, loss in enumerate(validation):
        if loss < validation[best]:
            best = number
    return best + 1


def training_key(
    *,
    training_set: str,
    signature: Signature,
    parameters: Mapping[str, object],
    plan: Plan,
    device: str,
    xgboost: str,
    machine: str,
) -> str:
    """The sha256 (hexadecimal) of all that a training's rounds depend on.

    ``training_set`` is the digest of the rows; ``signature`` has the features in order, their types
    and categories; ``parameters`` are all that XGBoost is told, the seed too, but neither threads
    nor device. ``device`` (cpu, cuda) and ``machine`` (the processor's architecture) round
    differently.
    """
    depends_on = {
        "scheme": SCHEME,
        "training_set": training_set,
        "signature": signature.model_dump(mode="json"),
        "parameters": dict(parameters),
        "rounds": plan.rounds,
        "early_stopping_rounds": plan.early_stopping_rounds,
        "exact_rounds": plan.exact_rounds,
        "device": device,
        "xgboost": xgboost,
        "machine": machine,
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
