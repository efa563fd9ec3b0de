"""Tuning: what a study of trials keeps, when it ends, and what it says.

A trial trains on the train part of a frozen training set and is judged by its log-loss on the
validation part, at the round where early stopping cuts it. The holdout belongs to the evaluation:
no trial sees it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from mlops_assets.core.records import Record
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.tuning_spec import TuningSpec, Value, contains

_SCHEME = 1
"""Counted up with what makes a trial another one for the same description."""

_SHOWN = 20

State = Literal["complete", "pruned", "failed"]


class TrialRecord(Record):
    """A trial that has ended.

    ``log_loss`` is that of the validation part: of a complete trial at its best round, of a pruned
    one at the last that was reported. A failed one (its process ended, or it was taken over) has
    none; its seconds are paid all the same, and what it tried is tried again.
    """

    number: int
    state: State
    parameters: dict[str, Value]
    log_loss: float | None
    rounds: int
    seconds: float
    reason: str
    mlflow_run_id: str


class TuningRecord(Record):
    """What a study has found so far."""

    use_case: str
    study: str
    training_set: str
    """Digest of the training set."""
    trials: tuple[TrialRecord, ...]
    stopped: str
    """Why no further trial was begun."""
    cost: float
    currency: str
    price_per_hour: float
    budget: float | None
    mlflow_run_id: str
    """Of the study; each trial's is nested below it."""

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest log-loss, the first one of equals."""
        return best_of(self.trials)

    @property
    def now(self) -> TrialRecord | None:
        """The trial with the parameters that defs.yaml had, when all that vary stand there."""
        found = next((one for one in self.trials if one.state == "complete"), None)
        return found if found is not None and found.reason == AS_CONFIGURED else None


AS_CONFIGURED = "as model.parameters has them"


def best_of(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the lowest log-loss, the first one of equals."""
    complete = [(one.log_loss, one.number, one) for one in trials if one.state == "complete"]
    found = min(((loss, n, one) for loss, n, one in complete if loss is not None), default=None)
    return None if found is None else found[2]


def settings_of(spec: UseCaseSpec, tuning: TuningSpec) -> dict[str, object]:
    """All that the outcome of a trial depends on beside the training set, as JSON."""
    fixed = {
        name: value for name, value in spec.model.parameters.items() if name not in tuning.space
    }
    return {
        "scheme": _SCHEME,
        "space": {name: each.model_dump() for name, each in tuning.space.items()},
        "search": tuning.model_dump(include={"patience", "startup_trials", "seed"}),
        "first": configured(spec, tuning),
        "model": spec.model.model_dump(include={"engine", "early_stopping_rounds", "seed"}),
        "rounds": tuning.rounds or spec.model.rounds,
        "fixed": fixed,
        "features": dict(spec.feature_types),
    }


def study_name(spec: UseCaseSpec, tuning: TuningSpec, training_set: str) -> str:
    """The study of a training set's digest and of what is searched, and how.

    How many trials it has, and what they may cost, is no part of it: either may be raised later.
    """
    settings = json.dumps(settings_of(spec, tuning), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return f"{spec.name}-{training_set[:16]}-{digest[:16]}"


def configured(spec: UseCaseSpec, tuning: TuningSpec) -> dict[str, Value]:
    """What ``model.parameters`` has of the space, inside its bounds: the first trial's."""
    known = spec.model.parameters
    return {
        name: known[name]
        for name, each in tuning.space.items()
        if name in known and contains(each, known[name])
    }


def rounded(value: Value) -> Value:
    """A number with decimals in four digits, as a person would write it: it is what is tried."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def cost_of(seconds: float, price_per_hour: float) -> float:
    """What ``seconds`` cost."""
    return seconds / 3600 * price_per_hour


def spent(trials: Sequence[TrialRecord], price_per_hour: float) -> float:
    """What ``trials`` have cost, failed ones too."""
    return cost_of(sum(one.seconds for one in trials), price_per_hour)


def finished(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that count: what failed is tried again."""
    return [one for one in trials if one.state != "failed"]


def enough(
    trials: Sequence[TrialRecord], most: int, budget: float | None, price_per_hour: float
) -> str | None:
    """Why no further trial is to be begun; None: begin one.

    A trial is expected to take as long as the longest one so far. The first one is always begun:
    nothing is known about it.
    """
    done = finished(trials)
    if len(done) >= most:
        return f"{len(done)} trials of {most} have ended"
    if budget is None or not trials:
        return None
    so_far = spent(trials, price_per_hour)
    next_one = cost_of(max(one.seconds for one in trials), price_per_hour)
    if so_far + next_one <= budget:
        return None
    return (
        f"the next trial may cost {next_one:.4g}, as the longest one did, and {so_far:.4g} of the "
        f"budget of {budget:.4g} are spent after {len(done)} of {most} trials"
    )


def numbers_of(record: TuningRecord) -> dict[str, float]:
    """What Dagster charts."""
    states = [one.state for one in record.trials]
    numbers: dict[str, float] = {
        "complete": states.count("complete"),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "cost": record.cost,
        "seconds": sum(one.seconds for one in record.trials),
        "cost_of_pruned": cost_of(
            sum(one.seconds for one in record.trials if one.state == "pruned"),
            record.price_per_hour,
        ),
    }
    if record.best is not None and record.best.log_loss is not None:
        numbers |= {"validation_log_loss": record.best.log_loss, "best_trial": record.best.number}
    if record.now is not None and record.now.log_loss is not None:
        numbers["validation_log_loss_now"] = record.now.log_loss
    return numbers


def to_paste(spec: UseCaseSpec, best: TrialRecord) -> str:
    """The YAML of ``model.parameters`` with the best trial's."""
    import yaml

    parameters = {**spec.model.parameters, **best.parameters}
    return yaml.safe_dump({"model": {"parameters": parameters}}, sort_keys=False)


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that count, best first; pruned ones after all complete ones."""
    return sorted(
        finished(trials), key=lambda one: (one.state != "complete", one.log_loss or 0, one.number)
    )


def said_of(record: TuningRecord) -> list[str]:
    """How the study stands, in sentences."""
    best, now = record.best, record.now
    done = finished(record.trials)
    pruned = sum(one.state == "pruned" for one in done)
    lines = [
        f"{len(done)} trials, {pruned} of them pruned, {record.cost:.4g} {record.currency}; "
        f"stopped because {record.stopped}.",
    ]
    if best is not None and now is not None and now.log_loss is not None:
        gain = now.log_loss - (best.log_loss or 0)
        lines.append(
            f"Validation log-loss {best.log_loss:.5f} with trial {best.number}, {gain:.5f} below "
            f"{now.log_loss:.5f} of the parameters in defs.yaml."
        )
    return lines


def trials_markdown(record: TuningRecord) -> str:
    """A Markdown table of the best trials, and how the study stands."""
    best, done = record.best, finished(record.trials)
    lines = said_of(record)
    names = list(dict.fromkeys(name for one in done for name in one.parameters))
    lines += [
        "",
        f"| trial | log-loss | {' | '.join(names)} | rounds | seconds | |",
        f"|---:|---:|{'---:|' * len(names)}---:|---:|---|",
    ]
    for one in ranked(done)[:_SHOWN]:
        shown = " | ".join(_cell(one.parameters, name) for name in names)
        bold = "**" if one == best else ""
        loss = "" if one.log_loss is None else f"{bold}{one.log_loss:.5f}{bold}"
        said = one.reason.replace("|", "\\|")
        lines.append(
            f"| {one.number} | {loss} | {shown} | {one.rounds} | {one.seconds:.1f} | {said} |"
        )
    if len(done) > _SHOWN:
        lines.append(f"\n{len(done) - _SHOWN} more are in MLflow.")
    return "\n".join(lines) + "\n"


def _cell(parameters: Mapping[str, Value], name: str) -> str:
    return str(parameters.get(name, "")).replace("|", "\\|")
