"""Ledgers whose entries are numbered and chained, append-only: in the lake, or in a bucket of their
own.

Each use case has a table of its own, so that what a sensor's tick reads does not grow with the
number of use cases. Its entries are numbered and each holds the digest of the one before, so that a
changed, cut or missing entry is found when the ledger is read. The number also decides races:
whoever decides writes the number that follows what it has read, and of several entries with one
number the first in the lake's order counts. The others are void, for every reader, for ever. So
exactly one of several writers wins, without a lock, and a killed one blocks nobody.

Nothing of a ledger is ever deleted, so that it may be in a bucket that keeps each version of each
object (S3 Object Lock): its log is not cleaned up, a compaction leaves the files that it joins, and
a vacuum is refused.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_assets.adapters import ledger_tables
from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import MissingPartitionsError, PermanentError, TransientError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, object]

FIRST = "0" * 64

# Files cost more to read than rows: a commit is a file until it is joined with the others.
_COMPACT_EVERY = 10


@dataclass(frozen=True)
class Ledgers(Lake):
    """Where ledgers are. A type of its own, since that may be elsewhere than the lake."""


@dataclass(frozen=True)
class Ledger:
    """A kind of ledger: ``name`` is its table's, below the use case's."""

    name: str
    forgets: str
    """What is lost when a damaged one is moved away."""
    marks: Mapping[str, type] = field(default_factory=dict[str, type])
    """Columns of its own, of bool, int or str, which tell entries apart without their record."""

    def table(self, use_case: str) -> str:
        """The table of the use case's ledger."""
        return f"{use_case}/{self.name}"

    @property
    def chained(self) -> tuple[str, ...]:
        """The columns that an entry's digest is over, beside the record."""
        before = ("use_case", "sequence", "previous", "kind", "at")
        return (*before, *self.marks, "writer")


@dataclass(frozen=True)
class Entry:
    """A counted entry; ``text`` is JSON, of what ``kind`` says."""

    kind: str
    at: datetime
    marks: Mapping[str, object]
    writer: str
    text: str


@dataclass(frozen=True)
class Chain:
    """A use case's entries at a Delta version of the ledger; ``tail`` is the last one's digest."""

    use_case: str
    version: int = -1
    tail: str = FIRST
    entries: tuple[Entry, ...] = field(default=(), repr=False)


def read(ledgers: Ledgers, ledger: Ledger, use_case: str) -> Chain:
    """The use case's ledger, empty where nothing was recorded.

    Raises PermanentError that names the entry when one is damaged, missing or out of order.
    """
    import pyarrow as pa

    name = ledger.table(use_case)
    # Before the rows: entries that come in between make an append look raced, which is looked up.
    version = ledgers.version(name)
    try:
        log = ledger_tables.read(ledgers, name)
    except MissingPartitionsError:
        return Chain(use_case, version)
    except pa.ArrowInvalid as error:
        where = f"ledger {name!r} at {ledgers.root}"
        raise _damaged(ledger, where, f"cannot be read ({error})") from error
    entries: list[Entry] = []
    tail = FIRST
    for row in log.to_pylist():
        where = f"entry {row['sequence']} of ledger {name!r} at {ledgers.root}"
        if row["use_case"] != use_case:
            raise _damaged(ledger, where, f"is of use case {row['use_case']!r}")
        if row["digest"] != _digest(ledger, row):
            raise _damaged(ledger, where, "is cut or was changed: its digest does not match")
        if row["sequence"] < len(entries):
            continue  # Void: somebody else's entry of this number came first.
        if row["sequence"] > len(entries) or row["previous"] != tail:
            raise _damaged(ledger, where, "does not follow the one before: an entry is missing")
        entries.append(_entry(ledger, row))
        tail = str(row["digest"])
    return Chain(use_case, version, tail, tuple(entries))


def append(
    ledgers: Ledgers,
    ledger: Ledger,
    known: Chain,
    kind: str,
    at: datetime,
    text: str,
    **marks: object,
) -> tuple[bool, Chain]:
    """Append an entry to what is ``known``: whether it counts, and the chain after it.

    It does not where somebody else's entry came first. Raises what the lake raises.
    """
    import pyarrow as pa

    row = row_of(ledger, known, kind, at, text, **marks)
    name = ledger.table(known.use_case)
    version = ledger_tables.append(
        ledgers, name, pa.Table.from_pylist([row], schema=schema(ledger))
    )
    if version % _COMPACT_EVERY == 0:
        # The row counts whatever becomes of this: where others write, the next one does it.
        with suppress(TransientError):
            ledger_tables.compact(ledgers, name)
    if version != known.version + 1:
        after = read(ledgers, ledger, known.use_case)
        return any(entry.writer == row["writer"] for entry in after.entries), after
    return True, after_row(ledger, known, row)


def row_of(
    ledger: Ledger, known: Chain, kind: str, at: datetime, text: str, **marks: object
) -> Row:
    """The row of the entry that follows ``known``."""
    row: Row = {
        "use_case": known.use_case,
        "sequence": len(known.entries),
        "previous": known.tail,
        "kind": kind,
        "at": at,
        **{name: marks[name] for name in ledger.marks},
        "writer": uuid.uuid4().hex,
        "record": text,
    }
    return {**row, "digest": _digest(ledger, row)}


def after_row(ledger: Ledger, known: Chain, row: Row) -> Chain:
    """``known`` with ``row``, its next one, as the version after."""
    entries = (*known.entries, _entry(ledger, row))
    return Chain(known.use_case, known.version + 1, str(row["digest"]), entries)


def schema(ledger: Ledger) -> "pa.Schema":
    """The columns of the ledger's table."""
    import pyarrow as pa

    types = {"sequence": pa.int64(), "at": pa.timestamp("us", tz="UTC")}
    of_kind = {bool: pa.bool_(), int: pa.int64(), str: pa.string()}
    types |= {name: of_kind[kind] for name, kind in ledger.marks.items()}
    names = (*ledger.chained, "record", "digest")
    return pa.schema([(name, types.get(name, pa.string())) for name in names])


def _entry(ledger: Ledger, row: Row) -> Entry:
    return Entry(
        kind=str(row["kind"]),
        at=_moment(row["at"]),
        marks={name: row[name] for name in ledger.marks},
        writer=str(row["writer"]),
        text=str(row["record"]),
    )


def _digest(ledger: Ledger, row: Row) -> str:
    parts = [row[name] for name in ledger.chained if name != "at"]
    text = json.dumps([*parts, _moment(row["at"]).timestamp(), row["record"]], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise PermanentError(f"a ledger has {value!r} where a time should be")
    return value


def _damaged(ledger: Ledger, where: str, how: str) -> PermanentError:
    return PermanentError(
        f"{where} {how}. Nothing is decided on it; restore the table's folder from a backup, or "
        f"move it away to begin anew, which forgets {ledger.forgets}"
    )
