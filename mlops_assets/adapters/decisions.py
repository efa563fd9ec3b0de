"""The retraining ledger: every decision of every policy, and every training, append-only.

A chained ledger of each use case (:mod:`~mlops_assets.adapters.chain`): of several evaluators that
decide at once exactly one wins.

A decision to retrain is thereby the claim on its training. Who dies between the claim and the run
leaves a training in :func:`~mlops_assets.core.retraining_records.outstanding`; its run key makes
requesting it again harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlops_assets.adapters import chain
from mlops_assets.adapters.chain import Chain, Entry, Ledgers
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.retraining_records import (
    Decision,
    History,
    Training,
    after,
    with_training,
)

LEDGER = chain.Ledger(
    "retraining_decisions", "cooldowns and budgets", {"inputs": str, "retrain": bool}
)

Recorded = Literal["recorded", "known", "lost"]
"""``recorded``: it counts and its writer alone may start its training; ``known``: the ledger had
it, recorded by somebody else or before; ``lost``: another decision came first, decide again."""

_ATTEMPTS = 20


def table(use_case: str) -> str:
    """The table of the use case's ledger."""
    return LEDGER.table(use_case)


@dataclass(frozen=True)
class Book:
    """A use case's ledger, and the history that its entries amount to."""

    chain: Chain
    history: History = field(default_factory=History)

    @property
    def use_case(self) -> str:
        """Whose ledger it is."""
        return self.chain.use_case

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry: JSON of a Decision or a Training."""
        return self.chain.entries

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision, in the order of recording."""
        return self.newest(self.taken)

    @property
    def taken(self) -> int:
        """How many decisions there are."""
        return sum(entry.kind == "decision" for entry in self.entries)

    def newest(self, most: int) -> tuple[Decision, ...]:
        """The last ``most`` decisions, 1 or more, in the order of recording."""
        made = [entry.text for entry in self.entries if entry.kind == "decision"]
        return tuple(Decision.model_validate_json(text) for text in made[-most:])


def book(ledgers: Ledgers, use_case: str) -> Book:
    """The use case's ledger, empty where nothing was recorded.

    Raises PermanentError that names the entry when one is damaged, missing or out of order.
    """
    return _book(ledgers, chain.read(ledgers, LEDGER, use_case))


def record(ledgers: Ledgers, read: Book, decision: Decision) -> Recorded:
    """Append ``decision``, which was taken on the history of ``read``.

    Start its training only when it is ``recorded``. The same use case, time and inputs are the same
    decision and are there once.
    """
    if decision.use_case != read.use_case:
        raise PermanentError(
            f"a decision of {decision.use_case} on the book of {read.use_case}: give its own"
        )
    if _knows(read.chain, decision):
        return "known"
    counts, now = chain.append(
        ledgers,
        LEDGER,
        read.chain,
        "decision",
        decision.decided_at,
        decision.model_dump_json(),
        inputs=decision.inputs,
        retrain=decision.retrain,
    )
    if counts:
        return "recorded"
    return "known" if _knows(now, decision) else "lost"


def record_training(ledgers: Ledgers, training: Training) -> bool:
    """Append what is known of ``training`` now: its run, its end, or a manual one's start.

    False, with nothing written, when the ledger has it already, or has its end. Raises
    TransientError when others keep writing first.
    """
    for _ in range(_ATTEMPTS):
        read = book(ledgers, training.use_case)
        if with_training(read.history, training) == read.history:
            return False
        at = training.ended or training.started
        text = training.model_dump_json()
        marks = {"inputs": "", "retrain": False}
        counts, _ = chain.append(ledgers, LEDGER, read.chain, "training", at, text, **marks)
        if counts:
            return True
    raise TransientError(
        f"training {training.run_key} is not in its ledger at {ledgers.root}: others wrote first "
        f"{_ATTEMPTS} times; try again"
    )


def history_markdown(use_case: str, newest: Sequence[Decision], earlier: int) -> str:
    """A Markdown table of the ``newest`` decisions, latest first, after ``earlier`` others."""
    if not newest:
        return "No decision has been recorded."
    lines = ["| decided at (UTC) | day | decision | signal | reasons |", "|---|---|---|---|---|"]
    for decision in reversed(newest):
        says = "**retrain**" if decision.retrain else f"put off: {decision.put_off}"
        if decision.signal_id is None:
            says = "no"
        # A bar or a line break would end the cell.
        reasons = "; ".join(decision.reasons).replace("|", "\\|").replace("\n", " ")
        signal = f"{decision.signal_id} #{decision.attempt}" if decision.signal_id else ""
        lines.append(
            f"| {decision.decided_at:%Y-%m-%d %H:%M} | {decision.day} | {says} | {signal} "
            f"| {reasons} |"
        )
    if earlier > 0:
        lines.append(f"\n{earlier} earlier decisions are in table `{table(use_case)}`.")
    return "\n".join(lines)


def _book(ledgers: Ledgers, read: Chain) -> Book:
    """The book of counted entries. Only what makes the history is parsed: most entries say no."""
    history = History()
    made = [n for n, entry in enumerate(read.entries) if entry.kind == "decision"]
    last = max(made, default=-1)
    for n, entry in enumerate(read.entries):
        if entry.kind == "decision" and n != last and not entry.marks["retrain"]:
            continue
        try:
            if entry.kind == "decision":
                history = after(history, Decision.model_validate_json(entry.text))
            else:
                history = with_training(history, Training.model_validate_json(entry.text))
        except ValueError as error:
            raise PermanentError(
                f"entry {n} of ledger {table(read.use_case)!r} at {ledgers.root} is no "
                f"{entry.kind} of this release: read it with the release that wrote it ({error})"
            ) from error
    return Book(read, history)


def _knows(read: Chain, decision: Decision) -> bool:
    same = decision.decided_at, decision.inputs
    return any(
        entry.kind == "decision" and (entry.at, entry.marks["inputs"]) == same
        for entry in read.entries
    )
