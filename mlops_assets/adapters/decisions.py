"""The retraining ledger: every decision of every policy, and every training, append-only.

Each use case has a table of its own, so that what a sensor's tick reads does not grow with the
number of use cases. Its entries are numbered and each holds the digest of the one before, so that a
changed, cut or missing entry is found when the ledger is read. The number also decides races:
whoever decides writes the number that follows what it has read, and of several entries with one
number the first in the lake's order counts. The others are void, for every reader, for ever. So
exactly one of several evaluators wins, without a lock, and a killed one blocks nobody.

A decision to retrain is thereby the claim on its training. Who dies between the claim and the run
leaves a training in :func:`~mlops_assets.core.retraining_records.outstanding`; its run key makes
requesting it again harmless.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mlops_assets.core.errors import MissingPartitionsError, PermanentError, TransientError
from mlops_assets.core.retraining_records import (
    Decision,
    History,
    Training,
    after,
    with_training,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.adapters.lake import Lake


Recorded = Literal["recorded", "known", "lost"]
"""``recorded``: it counts and its writer alone may start its training; ``known``: the ledger had
it, recorded by somebody else or before; ``lost``: another decision came first, decide again."""

Row = dict[str, object]

_FIRST = "0" * 64
_CHAINED = ("use_case", "sequence", "previous", "kind", "at", "inputs", "retrain", "writer")
_ATTEMPTS = 20

# Files cost more to read than rows: a commit is a file until it is joined with the others.
_COMPACT_EVERY = 10


def table(use_case: str) -> str:
    """The table of the use case's ledger."""
    return f"{use_case}/retraining_decisions"


@dataclass(frozen=True)
class Entry:
    """A counted entry; ``text`` is the JSON of a Decision or a Training."""

    kind: str
    at: datetime
    inputs: str
    writer: str
    text: str


@dataclass(frozen=True)
class Book:
    """A use case's entries at a Delta version of the ledger; ``tail`` is the last one's digest."""

    use_case: str
    version: int = -1
    tail: str = _FIRST
    history: History = field(default_factory=History)
    entries: tuple[Entry, ...] = field(default=(), repr=False)

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


def book(lake: "Lake", use_case: str) -> Book:
    """The use case's ledger, empty where nothing was recorded.

    Raises PermanentError that names the entry when one is damaged, missing or out of order.
    """
    import pyarrow as pa

    name = table(use_case)
    # Before the rows: entries that come in between make an append look raced, which is looked up.
    version = lake.version(name)
    try:
        log = lake.read_log(name)
    except MissingPartitionsError:
        return Book(use_case, version)
    except pa.ArrowInvalid as error:
        raise _damaged(f"ledger {name!r} at {lake.root}", f"cannot be read ({error})") from error
    chain: list[Row] = []
    for row in log.to_pylist():
        where = f"entry {row['sequence']} of ledger {name!r} at {lake.root}"
        if row["use_case"] != use_case:
            raise _damaged(where, f"is of use case {row['use_case']!r}")
        if row["digest"] != _digest(row):
            raise _damaged(where, "is cut or was changed: its digest does not match")
        if row["sequence"] < len(chain):
            continue  # Void: somebody else's entry of this number came first.
        if row["sequence"] > len(chain) or row["previous"] != _tail(chain):
            raise _damaged(where, "does not follow the one before: an entry is missing")
        chain.append(row)
    return _book(lake, use_case, version, chain)


def record(lake: "Lake", read: Book, decision: Decision) -> Recorded:
    """Append ``decision``, which was taken on the history of ``read``.

    Start its training only when it is ``recorded``. The same use case, time and inputs are the same
    decision and are there once.
    """
    if decision.use_case != read.use_case:
        raise PermanentError(
            f"a decision of {decision.use_case} on the book of {read.use_case}: give its own"
        )
    if _knows(read, decision):
        return "known"
    row = _row(
        read,
        "decision",
        decision.decided_at,
        decision.model_dump_json(),
        inputs=decision.inputs,
        retrain=decision.retrain,
    )
    now = _append(lake, read, row)
    if now is None or any(entry.writer == row["writer"] for entry in now.entries):
        return "recorded"
    return "known" if _knows(now, decision) else "lost"


def record_training(lake: "Lake", training: Training) -> bool:
    """Append what is known of ``training`` now: its run, its end, or a manual one's start.

    False, with nothing written, when the ledger has it already, or has its end. Raises
    TransientError when others keep writing first.
    """
    for _ in range(_ATTEMPTS):
        read = book(lake, training.use_case)
        if with_training(read.history, training) == read.history:
            return False
        at = training.ended or training.started
        row = _row(read, "training", at, training.model_dump_json())
        now = _append(lake, read, row)
        if now is None or any(entry.writer == row["writer"] for entry in now.entries):
            return True
    raise TransientError(
        f"training {training.run_key} is not in its ledger at {lake.root}: others wrote first "
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


def _book(lake: "Lake", name: str, version: int, chain: list[Row]) -> Book:
    """The book of counted rows. Only what makes the history is parsed: most entries say no."""
    history = History()
    last = max((n for n, row in enumerate(chain) if row["kind"] == "decision"), default=-1)
    for n, row in enumerate(chain):
        if row["kind"] == "decision" and n != last and not row["retrain"]:
            continue
        try:
            text = str(row["record"])
            if row["kind"] == "decision":
                history = after(history, Decision.model_validate_json(text))
            else:
                history = with_training(history, Training.model_validate_json(text))
        except ValueError as error:
            raise PermanentError(
                f"entry {n} of ledger {table(name)!r} at {lake.root} is no {row['kind']} of "
                f"this release: read it with the release that wrote it ({error})"
            ) from error
    entries = tuple(
        Entry(
            kind=str(row["kind"]),
            at=_moment(row["at"]),
            inputs=str(row["inputs"]),
            writer=str(row["writer"]),
            text=str(row["record"]),
        )
        for row in chain
    )
    return Book(name, version, _tail(chain), history, entries)


def _tail(chain: list[Row]) -> str:
    return str(chain[-1]["digest"]) if chain else _FIRST


def _append(lake: "Lake", read: Book, row: Row) -> Book | None:
    """Appends ``row``; None when nobody came between reading and appending, else the book now."""
    import pyarrow as pa

    name = table(read.use_case)
    version = lake.append(name, pa.Table.from_pylist([row], schema=_schema()))
    raced = version != read.version + 1
    if version % _COMPACT_EVERY == 0:
        # The row counts whatever becomes of this: where others write, the next one does it.
        with suppress(TransientError):
            lake.compact(name)
    return book(lake, read.use_case) if raced else None


def _row(
    read: Book, kind: str, at: datetime, text: str, *, inputs: str = "", retrain: bool = False
) -> Row:
    row: Row = {
        "use_case": read.use_case,
        "sequence": len(read.entries),
        "previous": read.tail,
        "kind": kind,
        "at": at,
        "inputs": inputs,
        "retrain": retrain,
        "writer": uuid.uuid4().hex,
        "record": text,
    }
    return {**row, "digest": _digest(row)}


def _digest(row: Row) -> str:
    parts = [row[name] for name in _CHAINED if name != "at"]
    text = json.dumps([*parts, _moment(row["at"]).timestamp(), row["record"]], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    types = {
        "sequence": pa.int64(),
        "at": pa.timestamp("us", tz="UTC"),
        "retrain": pa.bool_(),
    }
    names = (*_CHAINED, "record", "digest")
    return pa.schema([(name, types.get(name, pa.string())) for name in names])


def _knows(read: Book, decision: Decision) -> bool:
    same = decision.decided_at, decision.inputs
    return any(
        entry.kind == "decision" and (entry.at, entry.inputs) == same for entry in read.entries
    )


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise PermanentError(f"a retraining ledger has {value!r} where a time should be")
    return value


def _damaged(where: str, how: str) -> PermanentError:
    return PermanentError(
        f"{where} {how}. Nothing is decided on it; restore the table's folder from a backup, or "
        "move it away to begin anew, which forgets cooldowns and budgets"
    )
