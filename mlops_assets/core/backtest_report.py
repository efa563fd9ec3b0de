"""What a backtest has found: a document, a table for people, and YAML to paste."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import yaml

from mlops_assets.core.candidates import ANY_PSI, AS_CONFIGURED, CALENDAR, NEVER, Candidate
from mlops_assets.core.hindsight import regret
from mlops_assets.core.records import Record
from mlops_assets.core.replay import (
    LossMatrix,
    Replay,
    Segment,
    choose,
    mean_loss,
    next_day,
    segment,
)
from mlops_assets.core.retraining_spec import RetrainingSpec

WEEK_DAYS = 7
BASELINES = (NEVER, CALENDAR, ANY_PSI)
"""What a policy has to beat."""

_THRIFT = 0.9
"""Share of what the naive trigger costs that the chosen policy may cost: less, and not by luck."""


class Part(Record):
    """A policy on some of the days: mean log-loss (nats), trainings started, and their cost."""

    log_loss: float
    trainings: int
    cost: float


class PolicyResult(Record):
    """A policy over all days."""

    name: str
    window_days: int | None
    """Length of its training windows; None for everything so far."""
    first: Part
    """On the days before the split, on which the policy is chosen."""
    second: Part
    whole: Part
    regret: float
    """Log-loss (nats) above the best choice of as many trainings in hindsight."""
    affordable: bool
    """Whether the first part kept the budget; never so for what cannot be configured."""
    weekly: tuple[float | None, ...]
    """Log-loss of each week; None without labelled rows."""
    trained: tuple[date, ...]
    """First days after those that were decided on to retrain."""
    promoted: tuple[date, ...]
    """Ends of the training windows of the models that took over."""


class BacktestSummary(Record):
    """A backtest. ``policies`` are in the order of their log-loss on the first part."""

    use_case: str
    first: date
    split: date
    """First day that the choice has not seen."""
    end: date
    """First day after."""
    every_days: int
    """Days between the ends of training windows."""
    models: int
    budget: float | None
    """Most that the trainings of the first part may cost; None for no bound."""
    price_per_training: float
    currency: str
    training_seconds: float
    """Mean over the models."""
    source: str
    """Where the rows came from."""
    weeks: tuple[date, ...]
    """First day of each week."""
    chosen: str
    beats_baselines: bool
    """Whether, on the second part, the chosen policy has a lower log-loss than never, every 28 days
    and the PSI trigger, with fewer trainings than the last."""
    policies: tuple[PolicyResult, ...]

    @property
    def best(self) -> PolicyResult:
        """The result of the chosen policy."""
        return next(found for found in self.policies if found.name == self.chosen)

    @property
    def compared(self) -> tuple[PolicyResult, ...]:
        """The policies that the chosen one is held against: the baselines and the configured."""
        names = (*BASELINES, AS_CONFIGURED)
        found = (self.policy(name) for name in names if name != self.chosen)
        return tuple(policy for policy in found if policy is not None)

    def policy(self, name: str) -> PolicyResult | None:
        """The result of the policy ``name``, if it took part."""
        return next((found for found in self.policies if found.name == name), None)


def default_budget(replays: Mapping[str, Replay], split: date) -> float | None:
    """What the trainings before ``split`` may cost when nobody says: somewhat less than those of
    the naive trigger; None, no bound, when it took no part or did not train there.
    """
    naive = replays.get(ANY_PSI)
    if naive is None:
        return None
    cost = segment(naive, naive.days[0], split).cost
    return _THRIFT * cost if cost else None


def results_of(
    candidates: Sequence[Candidate],
    replays: Mapping[str, Replay],
    matrices: Mapping[int | None, LossMatrix],
    split: date,
    budget: float | None,
) -> tuple[str, tuple[PolicyResult, ...]]:
    """The name of the policy chosen before ``split``, and each one's result.

    ``replays`` by the candidates' names, over the days of ``matrices`` (by ``window_days``), which
    are all the same. What cannot be configured is judged, but not chosen. Raises PermanentError as
    :func:`mlops_assets.core.replay.choose` does.
    """
    choice = choose(
        {c.name: replays[c.name] for c in candidates if not c.naive_drift}, split, budget
    )
    affordable = {standing.name: standing.affordable for standing in choice.standings}

    def result(candidate: Candidate) -> PolicyResult:
        found = replays[candidate.name]
        first, end = found.days[0], next_day(found.days[-1])
        window = candidate.retraining.window_days
        started = [decision.day for decision in found.decisions if decision.retrain]
        return PolicyResult(
            name=candidate.name,
            window_days=window,
            first=_part(segment(found, first, split)),
            second=_part(segment(found, split, end)),
            whole=_part(segment(found, first, end)),
            regret=max(0.0, regret(found, matrices[window])),
            affordable=affordable.get(candidate.name, False),
            weekly=_weekly(found),
            trained=tuple(map(next_day, started)),
            promoted=found.promoted,
        )

    results = sorted(
        map(result, candidates), key=lambda r: (r.first.log_loss, r.first.cost, r.name)
    )
    return choice.name, tuple(results)


def beats_baselines(chosen: str, policies: Sequence[PolicyResult]) -> bool:
    """Whether ``chosen`` reaches the goal on the second part, among ``policies``."""
    by_name = {found.name: found for found in policies}
    second = by_name[chosen].second
    others = [by_name[name].second for name in BASELINES if name in by_name]
    trigger = by_name.get(ANY_PSI)
    return all(second.log_loss < other.log_loss for other in others) and (
        trigger is None or second.trainings < trigger.second.trainings
    )


def week_starts(days: Sequence[date]) -> tuple[date, ...]:
    """The first day of each week from the first of ``days`` (ascending) to the last."""
    count = (days[-1] - days[0]).days // WEEK_DAYS + 1
    return tuple(days[0] + timedelta(days=WEEK_DAYS * n) for n in range(count))


def table_markdown(summary: BacktestSummary) -> str:
    """All policies, those with the lowest log-loss on the first part first."""
    best = summary.best
    within = ""
    if summary.budget is not None:
        within = f", for at most {summary.budget:.3g} {summary.currency} on these days"
    lines = [
        f"Chosen on {summary.first} to before {summary.split}{within}, and reported on the days "
        f"from {summary.split} to before {summary.end}. Log-loss in nats; a training costs "
        f"{summary.price_per_training:.3g} {summary.currency}.",
        "",
        "| policy | log-loss, first part | log-loss, second part | trainings, first + second | "
        "took over | cost | regret |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for found in summary.policies:
        name = f"**{found.name}** (chosen)" if found is best else found.name
        lines.append(
            f"| {name} | {found.first.log_loss:.4f} | {found.second.log_loss:.4f} | "
            f"{found.first.trainings} + {found.second.trainings} | {len(found.promoted)} | "
            f"{found.whole.cost:.3g} | {found.regret:.4f} |"
        )
    return "\n".join(lines) + "\n"


def recommended_yaml(summary: BacktestSummary, retraining: RetrainingSpec) -> str:
    """The ``retraining:`` of defs.yaml that the backtest recommends, with its reasons."""
    chosen = summary.best
    told = [
        f"`{summary.chosen}` was chosen on {summary.first} to before {summary.split}.",
        f"From then to before {summary.end}: log-loss {chosen.second.log_loss:.4f} with "
        f"{chosen.second.trainings} trainings.",
    ]
    told += [
        f"{other.name}: {other.second.log_loss:.4f} with {other.second.trainings} trainings."
        for other in summary.compared
    ]
    fields = retraining.model_dump(mode="json", exclude_defaults=True)
    fields["policy"] = retraining.policy.model_dump(mode="json", exclude_unset=True) | {
        "kind": retraining.policy.kind
    }
    comments = "".join(f"# {line}\n" for line in told)
    return comments + yaml.safe_dump({"retraining": fields}, sort_keys=False)


def _part(found: Segment) -> Part:
    return Part(log_loss=found.log_loss, trainings=found.trainings, cost=found.cost)


def _weekly(found: Replay) -> tuple[float | None, ...]:
    weeks: list[float | None] = []
    for start in week_starts(found.days):
        inside = np.array([0 <= (day - start).days < WEEK_DAYS for day in found.days], bool)
        loss = mean_loss(found.loss[inside], found.rows[inside])
        weeks.append(None if np.isnan(loss) else loss)
    return tuple(weeks)
