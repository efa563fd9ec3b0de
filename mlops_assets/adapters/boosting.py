"""Rounds of XGBoost that may be cut and continued to the same bytes.

What makes them so, in XGBoost 3.2 (found by reading its source, held by tests):

- With ``seed_per_iteration`` the process-wide generator is seeded with the base seed and the
  round's number before each round: rows are sampled alike wherever the round runs.
- The sampler of columns has a generator of its own, seeded from that one when the tree updater is
  made. Loading the configuration makes the updater anew, without a copy of the booster.
- The intercept is estimated in the first round and is part of the model from then on.
- On CPUs the margins of a continued booster, computed at once, are those of one that was never cut:
  leaves are added tree by tree, in one order, in 32 bits. A GPU adds them up first and is off by
  rounding: there, the booster is read from its own bytes where it may be cut, as if it had been.

``xgboost.train`` would do none of this: it counts rounds from 0 again, forgets the losses before
and the margins of its cache, and copies the booster.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.core.errors import InterruptedTrainingError
from mlops_assets.core.segments import PARTS, Plan, exact_rounds

if TYPE_CHECKING:
    import xgboost

    from mlops_assets.adapters.checkpoints import Keeper
    from mlops_assets.adapters.interruption import Interruption
    from mlops_assets.core.spec import ModelSpec

OnRound = Callable[[int, float, float], None]
"""Told after each round: rounds done, log-loss on the train part, on the validation part."""

DRAWS = {"seed_per_iteration": True}
"""What XGBoost has to be told beside the parameters, for its rounds to be independent."""


@dataclass(frozen=True)
class Boosted:
    """A booster with all rounds that were trained, their losses by part, and where it began."""

    booster: "xgboost.Booster"
    losses: dict[str, list[float]]
    resumed_from: int


@dataclass(frozen=True)
class Course:
    """How a training went: where it began, what its checkpoints took, how often it was cut.

    ``segments`` and ``checkpoints`` are those of this attempt, ``seconds`` what it spent on saving.
    ``interruptions`` are all that a checkpoint outlived. ``refused`` says which checkpoints were
    not trained on, and why. ``url`` is their folder, None where none were kept.
    """

    device: str = "cpu"
    resumed_from: int = 0
    segments: int = 0
    checkpoints: int = 0
    seconds: float = 0.0
    failures: int = 0
    interruptions: int = 0
    refused: tuple[str, ...] = ()
    url: str | None = None


def course_of(boosted: Boosted, plan: Plan, device: str, keeper: "Keeper | None") -> Course:
    """How the training of ``boosted`` went."""
    segments = plan.segments(boosted.resumed_from, len(boosted.losses["validation"]))
    if keeper is None:
        return Course(device=device, segments=segments)
    return Course(
        device=device,
        resumed_from=boosted.resumed_from,
        segments=segments,
        checkpoints=keeper.saved,
        seconds=keeper.seconds,
        failures=keeper.failures,
        interruptions=keeper.interruptions,
        refused=tuple(keeper.refused),
        url=keeper.url,
    )


def boost(
    parameters: Mapping[str, object],
    matrices: "Mapping[str, xgboost.QuantileDMatrix]",
    plan: Plan,
    *,
    keeper: "Keeper | None" = None,
    interruption: "Interruption | None" = None,
    on_round: OnRound | None = None,
    saves: bool = True,
) -> Boosted:
    """Train as ``plan`` says, from the newest checkpoint of ``keeper`` on.

    ``matrices`` are those of the train and the validation part, by name. Of several processes that
    train one booster together, all give the same ``keeper`` and one of them ``saves``. When
    ``interruption`` has received a signal, it trains on to where it can be cut, saves, and raises
    InterruptedTrainingError.
    """
    training = _Training(parameters, matrices, plan)
    resumed_from = 0 if keeper is None else training.restore(keeper)
    while not plan.is_finished(training.losses):
        training.add_round()
        if on_round is not None:
            on_round(training.done, *(training.losses[part][-1] for part in PARTS))
        told = interruption is not None and interruption.received is not None
        ends = told and plan.can_be_cut(training.losses)
        if keeper is not None and saves and (ends or plan.is_saved(training.losses)):
            keeper.save(training.done, training.losses, training.raw())
        if ends:
            raise InterruptedTrainingError(
                f"the process was told to end, and training did after round {training.done} of at "
                f"most {plan.rounds}: run it again, and it goes on from the last checkpoint"
            )
    return Boosted(training.booster, training.losses, resumed_from)


def boost_until_told(
    parameters: Mapping[str, object],
    matrices: "Mapping[str, xgboost.QuantileDMatrix]",
    plan: Plan,
    keeper: "Keeper | None",
    on_round: OnRound | None,
) -> Boosted:
    """As :func:`boost`, with SIGTERM and SIGINT as interruptions where there is a ``keeper``.

    Raises what the handler of SIGINT raises, where that was the signal.
    """
    from mlops_assets.adapters.interruption import noticed, pass_on

    if keeper is None:
        return boost(parameters, matrices, plan, on_round=on_round)
    with noticed() as told:
        try:
            return boost(
                parameters, matrices, plan, keeper=keeper, interruption=told, on_round=on_round
            )
        except InterruptedTrainingError:
            pass_on(told)
            raise


class _Training:
    """A booster under way, with the losses of all its rounds."""

    def __init__(
        self,
        parameters: Mapping[str, object],
        matrices: "Mapping[str, xgboost.QuantileDMatrix]",
        plan: Plan,
    ) -> None:
        self._parameters = dict(parameters) | DRAWS
        self._matrices = [(matrices[part], part) for part in PARTS]
        self._plan = plan
        self._begin(None)
        self.losses: dict[str, list[float]] = {part: [] for part in PARTS}

    @property
    def done(self) -> int:
        """Rounds trained."""
        return len(self.losses["validation"])

    def restore(self, keeper: "Keeper") -> int:
        """Go on from the newest checkpoint that can be used; returns its rounds, 0 without one."""
        import xgboost as xgb

        for checkpoint in keeper.found():
            if not self._plan.can_be_cut(checkpoint.losses):
                keeper.refuse(checkpoint.rounds, "it was saved inside a segment")
                continue
            try:
                self._begin(checkpoint.model)
                rounds = self.booster.num_boosted_rounds()
            except xgb.core.XGBoostError as error:
                keeper.refuse(checkpoint.rounds, str(error).strip().partition("\n")[0])
                continue
            if rounds != checkpoint.rounds:
                keeper.refuse(checkpoint.rounds, f"its model has {rounds} rounds")
                continue
            self.losses = {part: list(checkpoint.losses[part]) for part in PARTS}
            keeper.resume(checkpoint)
            return checkpoint.rounds
        self._begin(None)
        return 0

    def add_round(self) -> None:
        """Train the next round, and append its losses."""
        if self._plan.is_exact(self.done):
            if self.done and self._parameters.get("device", "cpu") != "cpu":
                self._begin(self.raw())
            self.booster.load_config(self._config)
        (train_data, _), *_ = self._matrices
        self.booster.update(train_data, self.done)
        # "[12]\ttrain-logloss:0.41\tvalidation-logloss:0.44"
        said = self.booster.eval_set(self._matrices, self.done)
        for part, field in zip(PARTS, said.split("\t")[1:], strict=True):
            self.losses[part].append(float(field.rpartition(":")[2]))

    def raw(self) -> bytes:
        """The booster with all its rounds, as UBJSON."""
        return bytes(self.booster.save_raw("ubj"))

    def _begin(self, model: bytes | None) -> None:
        import xgboost as xgb

        # The matrices are named at once, so that their margins are kept from round to round.
        self.booster = xgb.Booster(
            self._parameters,
            [matrix for matrix, _ in self._matrices],
            model_file=None if model is None else bytearray(model),
        )
        self._config = self.booster.save_config()


def plan_of(spec: "ModelSpec", rows: int, features: int) -> Plan:
    """The plan of a training on ``rows`` rows of the train part, of all processes together."""
    return Plan(
        rounds=spec.rounds,
        segment_rounds=spec.segment_rounds,
        early_stopping_rounds=spec.early_stopping_rounds,
        exact_rounds=exact_rounds(spec.segment_rounds, rows, features),
    )
