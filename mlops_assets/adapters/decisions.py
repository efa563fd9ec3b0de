"""The retraining ledger: every decision of every policy, and every training, append-only.

The entries of a use case are numbered and each holds the digest of the one before, so that a
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
from collections.abc import Collection, Sequence
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

TABLE = "retraining_decisions"

Recorded = Literal["recorded", "known", "lost"]
"""``recorded``: it counts and its writer alone may start its training; ``known``: the ledger had
it, recorded by somebody else or before; ``lost``: another decision came first, decide again."""

Row = dict[str, object]

_FIRST = "0" * 64
_CHAINED = ("use_case", "sequence", "previous", "kind", "at", "inputs", "retrain", "writer")
_ATTEMPTS = 20


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
        return tuple(
            Decision.model_validate_json(entry.text)
            for entry in self.entries
            if entry.kind == "decision"
        )


def books(lake: "Lake", use_cases: Collection[str]) -> dict[str, Book]:
    """Each use case's part of the ledger, by its name, in one reading; empty ones included.

    Raises PermanentError that names the entry when one of theirs is damaged, missing or out of
    order.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # Before the rows: entries that come in between make an append look raced, which is looked up.
    version = lake.version(TABLE)
    found = {name: Book(name, version) for name in use_cases}
    try:
        log = lake.read_log(TABLE)
    except MissingPartitionsError:
        return found
    except pa.ArrowInvalid as error:
        raise _damaged(f"ledger {TABLE!r} at {lake.root}", f"cannot be read ({error})") from error
    counted: dict[str, list[Row]] = {}
    for row in log.filter(pc.field("use_case").isin(list(use_cases))).to_pylist():
        use_case, sequence = row["use_case"], row["sequence"]
        where = f"entry {sequence} of {use_case} in ledger {TABLE!r} at {lake.root}"
        if row["digest"] != _digest(row):
            raise _damaged(where, "is cut or was changed: its digest does not match")
        chain = counted.setdefault(use_case, [])
        if sequence < len(chain):
            continue  # Void: somebody else's entry of this number came first.
        if sequence > len(chain) or row["previous"] != (chain[-1]["digest"] if chain else _FIRST):
            raise _damaged(where, "does not follow the one before: an entry is missing")
        chain.append(row)
    return found | {name: _book(lake, name, version, rows) for name, rows in counted.items()}


def book(lake: "Lake", use_case: str) -> Book:
    """One use case's part of the ledger. See :func:`books`."""
    return books(lake, [use_case])[use_case]


def record(lake: "Lake", read: Book, decision: Decision) -> Recorded:
    """Append ``decision``, which was taken on the history of ``read``.

    Start its training only when it is ``recorded``. The same use case, time and inputs are the same
    decision and are there once.
    """
    return record_all(lake, [(read, decision)])[0]


def record_all(lake: "Lake", taken: Sequence[tuple[Book, Decision]]) -> list[Recorded]:
    """:func:`record` for decisions of different use cases, in one commit."""
    names = [decision.use_case for _, decision in taken]
    for (read, _), name in zip(taken, names, strict=True):
        if names.count(name) > 1 or read.use_case != name:
            raise PermanentError(
                f"a decision of {name} on the book of {read.use_case}: give each use case once, "
                "with its own book"
            )
    rows: dict[str, Row] = {
        decision.use_case: _row(
            read,
            "decision",
            decision.decided_at,
            decision.model_dump_json(),
            inputs=decision.inputs,
            retrain=decision.retrain,
        )
        for read, decision in taken
        if not _knows(read, decision)
    }
    writers = _append(lake, [read for read, _ in taken], list(rows.values()))
    results: list[Recorded] = []
    for _, decision in taken:
        now = writers.get(decision.use_case)
        if decision.use_case not in rows:
            results.append("known")
        elif now is None or any(e.writer == rows[decision.use_case]["writer"] for e in now.entries):
            results.append("recorded")
        else:
            results.append("known" if _knows(now, decision) else "lost")
    return results


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
        now = _append(lake, [read], [row]).get(training.use_case)
        if now is None or any(entry.writer == row["writer"] for entry in now.entries):
            return True
    raise TransientError(
        f"training {training.run_key} is not in ledger {TABLE!r} at {lake.root}: others wrote "
        f"first {_ATTEMPTS} times; try again"
    )


def decisions_markdown(decisions: Sequence[Decision], most: int = 20) -> str:
    """A Markdown table of the last ``most`` decisions, latest first."""
    if not decisions:
        return "No decision has been recorded."
    lines = ["| decided at (UTC) | day | decision | signal | reasons |", "|---|---|---|---|---|"]
    for decision in reversed(decisions[-most:]):
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
    if len(decisions) > most:
        lines.append(f"\n{len(decisions) - most} earlier decisions are in table `{TABLE}`.")
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
                f"entry {n} of {name} of ledger {TABLE!r} at {lake.root} is no {row['kind']} of "
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
    return Book(name, version, str(chain[-1]["digest"]), history, entries)


def _append(lake: "Lake", read: Sequence[Book], rows: list[Row]) -> dict[str, Book]:
    """Appends ``rows``; empty when nobody came between reading and appending, else all books."""
    import pyarrow as pa

    if not rows:
        return {}
    version = lake.append(TABLE, pa.Table.from_pylist(rows, schema=_schema()))
    if all(version == one.version + 1 for one in read):
        return {}
    return books(lake, [one.use_case for one in read])


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
        raise PermanentError(f"ledger {TABLE!r} has {value!r} where a time should be")
    return value


def _damaged(where: str, how: str) -> PermanentError:
    return PermanentError(
        f"{where} {how}. Nothing is decided on it; restore the table's folder from a backup, or "
        "move it away to begin anew, which forgets cooldowns and budgets"
    )
