"""One look at a use case: end what has ended, ask the policy, record what it says, act on it.

A decision is recorded before it is acted on. Who dies in between leaves a training without a run,
which every later tick finds in the ledger and requests again.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import AwareDatetime

from mlops_assets.adapters import decisions, documents, prices
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.monitoring_records import DriftRecord, PerformanceRecord
from mlops_assets.core.records import PromotionRecord, Record
from mlops_assets.core.retraining import is_news, policy
from mlops_assets.core.retraining_guards import runs as still_runs
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    History,
    Signals,
    Training,
    after,
    outstanding,
)
from mlops_assets.core.retraining_spec import NeverSpec
from mlops_assets.core.signals import signals_of
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.retraining import runs
from mlops_assets.lifecycle.training_set import retraining_window

if TYPE_CHECKING:
    from mlops_assets.adapters.chain import Ledgers

CHECK_EVERY = timedelta(hours=1)
"""How long a tick trusts its cursor; after that it reads the ledger, which others write to."""

_ATTEMPTS = 5


class Cursor(Record):
    """What the last tick has seen. It only tells that there is nothing new: never what to do."""

    signals: str
    """Digest of the signals, the policy and the price."""
    checked: AwareDatetime
    since: str
    """When the last decision was taken, for people."""
    open: bool
    """Whether a signal is put off or a training has not ended."""
    entries: int
    """How many the ledger had; it never has fewer."""


def parsed(cursor: str | None) -> Cursor | None:
    """The cursor from its JSON; None for none, and for another release's."""
    try:
        return Cursor.model_validate_json(cursor) if cursor else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Decided:
    """A decision in the ledger: ``read`` is the ledger before it, ``history`` includes it."""

    decision: Decision
    read: decisions.Book
    history: History
    entries: int
    """How many the ledger has now, at least."""
    costs: Costs
    request: dg.RunRequest | None
    """The run of a decision to retrain that nobody else has recorded."""


@dataclass(frozen=True)
class Tick:
    """What a tick found and wants; ``log`` has a line for each thing that happened."""

    cursor: Cursor
    message: str
    requests: tuple[dg.RunRequest, ...] = ()
    log: tuple[str, ...] = ()
    decided: Decided | None = None


def tick(
    spec: UseCaseSpec,
    platform: Platform,
    instance: dg.DagsterInstance,
    cursor: Cursor | None,
    now: datetime,
) -> Tick:
    """Look at what is known, end what has ended, and decide; ``now`` in the use case's time zone.

    Raises PermanentError where the ledger or a document is damaged: nothing is decided on it.
    """
    never = isinstance(spec.retraining.policy, NeverSpec)
    if never and cursor is not None and not cursor.open and _same_day(cursor.checked, now):
        return Tick(cursor, f"the policy is never to retrain; unchanged since {cursor.since}")
    known = _known(spec, platform.documents_url)
    seen = _digest(spec, known)
    if cursor is not None and _nothing_new(cursor, seen, now):
        return Tick(cursor, f"unchanged since {cursor.since}")
    ledgers = platform.ledgers()
    before = _book(spec, ledgers, cursor)
    read, requests, log = _runs(spec, ledgers, before, known, instance, now)
    if known.signals is None:
        message = "; ".join([*log, known.missing])
        return Tick(_cursor(seen, read.history, len(read.entries), now), message, requests, log)
    stale = _stale(spec, instance) if spec.retraining.wait_for_inputs else ()
    signals = known.signals.model_copy(update={"stale_inputs": stale})
    decided = _decide(spec, ledgers, read, known, signals, now)
    if decided is None:
        unchanged = _cursor(seen, read.history, len(read.entries), now)
        message = "; ".join([*log, f"unchanged since {unchanged.since}"])
        return Tick(unchanged, message, requests, log)
    if decided.request is not None:
        requests = (*requests, decided.request)
    log = (*log, runs.says(decided.decision))
    cursor = _cursor(seen, decided.history, decided.entries, now)
    return Tick(cursor, "; ".join(log), requests, log, decided)


def _decide(
    spec: UseCaseSpec,
    ledgers: "Ledgers",
    read: decisions.Book,
    known: "_Known",
    signals: Signals,
    now: datetime,
) -> Decided | None:
    """What the policy says, recorded; None where the ledger says it already."""
    for _ in range(_ATTEMPTS):
        costs = prices.costs_of(spec, read.history)
        decision = policy(spec.retraining)(signals, read.history, costs, now)
        if not is_news(read.history.last, decision, now):
            return None
        history = after(read.history, decision)
        request = None
        if decision.retrain:
            # Before the decision is recorded: a training without a window could never run.
            request = _request(spec, history.trainings[-1], known, decision.reasons)
        recorded = decisions.record(ledgers, read, decision)
        if recorded != "lost":
            mine = recorded == "recorded"
            entries = len(read.entries) + mine
            return Decided(decision, read, history, entries, costs, request if mine else None)
        read = decisions.book(ledgers, spec.name)
    raise TransientError(
        f"others have decided about {spec.name} first {_ATTEMPTS} times; the next tick tries again"
    )


@dataclass(frozen=True)
class _Known:
    """What the documents say about the champion.

    ``until`` is the end of what can be trained on, where that is known; ``missing`` says why there
    are no signals.
    """

    signals: Signals | None
    until: date | None
    missing: str = ""


def _known(spec: UseCaseSpec, url: str) -> _Known:
    promotion = documents.read(url, spec.name, "promotion", PromotionRecord)
    champion = promotion.champion if promotion is not None else None
    if champion is None:
        return _Known(None, None, f"{spec.name} has no champion: promote a first model")
    drift = documents.read(url, spec.name, "drift", DriftRecord)
    performance = documents.read(url, spec.name, "performance", PerformanceRecord)
    trained_until = champion.training_set.end
    signals = signals_of(spec.name, drift, performance, champion.version, trained_until)
    until = performance.labelled_until if performance is not None else None
    missing = f"nothing is known about version {champion.version} yet"
    return _Known(signals, until or trained_until, missing)


def _digest(spec: UseCaseSpec, known: _Known) -> str:
    signals = known.missing if known.signals is None else known.signals.model_dump_json()
    price = prices.price_of(profile_name(spec, "model"))
    text = "\n".join([spec.retraining.model_dump_json(), price.model_dump_json(), signals])
    return hashlib.sha256(text.encode()).hexdigest()


def _nothing_new(cursor: Cursor, seen: str, now: datetime) -> bool:
    fresh = timedelta() <= now - cursor.checked < CHECK_EVERY
    return not cursor.open and cursor.signals == seen and fresh and _same_day(cursor.checked, now)


def _same_day(checked: datetime, now: datetime) -> bool:
    return checked.astimezone(now.tzinfo).date() == now.date()


def _cursor(seen: str, history: History, entries: int, now: datetime) -> Cursor:
    last = history.last
    pending = last is not None and last.state.pending is not None
    return Cursor(
        signals=seen,
        checked=now,
        since=f"{(last.decided_at if last else now).astimezone(now.tzinfo):%Y-%m-%d %H:%M}",
        open=pending or bool(outstanding(history)),
        entries=entries,
    )


def _book(spec: UseCaseSpec, ledgers: "Ledgers", cursor: Cursor | None) -> decisions.Book:
    """The ledger; PermanentError when it has fewer entries than before."""
    read = decisions.book(ledgers, spec.name)
    if cursor is not None and len(read.entries) < cursor.entries:
        raise PermanentError(
            f"ledger {decisions.table(spec.name)!r} at {ledgers.root} has {len(read.entries)} "
            f"entries and had {cursor.entries}: its end is cut. Nothing is decided on it; restore "
            "the table's folder from a backup, or, to begin anew, which forgets cooldowns and "
            "budgets, reset the sensor's cursor in Dagster's UI"
        )
    return read


def _runs(
    spec: UseCaseSpec,
    ledgers: "Ledgers",
    read: decisions.Book,
    known: _Known,
    instance: dg.DagsterInstance,
    now: datetime,
) -> tuple[decisions.Book, tuple[dg.RunRequest, ...], tuple[str, ...]]:
    """The ledger once the trainings that have ended are in it, what has to be requested again, and
    a line about each.
    """
    found = runs.runs_of(instance, outstanding(read.history))
    requests: list[dg.RunRequest] = []
    log: list[str] = []
    for training in outstanding(read.history):
        own = found[training.run_key]
        end = runs.ended(spec, training, own, instance, now)
        if end is not None:
            decisions.record_training(ledgers, end)
            log.append(
                f"training {end.run_key} {end.outcome} after {end.seconds:.0f} s, for "
                f"{end.cost:.4g} {prices.price_of(profile_name(spec, 'model')).currency}"
            )
        elif still_runs(spec.retraining, training, now) and runs.lost(training, own, now):
            requests.append(_request(spec, training, known, ("requested again",)))
            log.append(f"training {training.run_key} has no run: requested again")
    if len(log) > len(requests):
        read = decisions.book(ledgers, spec.name)
    return read, tuple(requests), tuple(log)


def _request(
    spec: UseCaseSpec, training: Training, known: _Known, reasons: Iterable[str]
) -> dg.RunRequest:
    window = retraining_window(spec, known.until or training.signal_day)
    return runs.request(spec, training, window, reasons)


def _stale(spec: UseCaseSpec, instance: dg.DagsterInstance) -> tuple[str, ...]:
    """The datasets that fail their freshness policy."""
    keys = [asset_key(spec, name) for name in spec.datasets]
    states = instance.get_freshness_state_records(keys)
    return tuple(
        sorted(
            key.to_user_string()
            for key, found in states.items()
            if found.freshness_state.value == "FAIL"
        )
    )
