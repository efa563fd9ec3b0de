"""The promotion ledger: what was decided about challengers, append-only.

A chained ledger of each use case (:mod:`~mlops_assets.adapters.chain`): decisions of the gate, and
those about rollouts with their evidence. Each is recorded before it is acted on, and what is to be
served follows from the entries alone (:mod:`~mlops_assets.core.promotion_ledger`): of several that
decide at once exactly one wins, and whoever is killed is made up for by the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlops_assets.adapters import chain
from mlops_assets.adapters.chain import Chain, Entry, Ledgers
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.promotion_ledger import (
    Begun,
    Chosen,
    Decided,
    LedgerRecord,
    State,
    at_of,
    folded,
    followed,
)
from mlops_assets.core.records import PromotionRecord

LEDGER = chain.Ledger("promotions", "what was served when", {"version": int, "decision": str})

_KINDS: dict[str, type[LedgerRecord]] = {
    "gate": PromotionRecord,
    "begun": Begun,
    "decided": Decided,
    "chosen": Chosen,
}
_ATTEMPTS = 20


def table(use_case: str) -> str:
    """The table of the use case's ledger."""
    return LEDGER.table(use_case)


@dataclass(frozen=True)
class Book:
    """A use case's ledger, and what its entries amount to.

    Without the waits of rollouts that are over: they are most entries, and change nothing.
    """

    chain: Chain
    numbered: tuple[tuple[int, LedgerRecord], ...] = field(default=(), repr=False)
    """The entries with their numbers, in the order of recording."""
    state: State = field(default_factory=State)

    @property
    def records(self) -> list[LedgerRecord]:
        """The entries, in the order of recording."""
        return [record for _, record in self.numbered]

    @property
    def gate(self) -> list[PromotionRecord]:
        """Each decision of the gate, in the order of recording; a repeated one once."""
        found: dict[tuple[object, ...], PromotionRecord] = {}
        for entry in self.records:
            if isinstance(entry, PromotionRecord):
                found.setdefault(_identity(entry), entry)
        return list(found.values())


_last_read: dict[tuple[str, str], Book] = {}
"""A tick without news parses nothing: the book of each ledger as it was read last."""

_MOST_KEPT = 256


def book(ledgers: Ledgers, use_case: str) -> Book:
    """The use case's ledger, empty where nothing was recorded.

    Raises PermanentError that names the entry when one is damaged, missing or out of order.
    """
    known = _last_read.get((ledgers.root, use_case))
    if known is not None and known.chain.version == ledgers.version(table(use_case)):
        return known
    return _kept(ledgers, _parsed(ledgers, chain.read(ledgers, LEDGER, use_case)))


def append(ledgers: Ledgers, read: Book, record: LedgerRecord) -> tuple[bool, Book]:
    """Append ``record``, which was decided on ``read``: whether it counts, and the book after it.

    It does not where somebody else's entry came first: decide again.
    """
    kind = next(name for name, each in _KINDS.items() if isinstance(record, each))
    version, decision = _marks(read.state, record)
    counts, after = chain.append(
        ledgers,
        LEDGER,
        read.chain,
        kind,
        at_of(record),
        record.model_dump_json(),
        version=version,
        decision=decision,
    )
    alone = len(after.entries) == len(read.chain.entries) + 1
    # What begins leaves the waits before it behind.
    if counts and alone and kind != "begun":
        numbered = (*read.numbered, (len(read.chain.entries), record))
        return True, _kept(ledgers, Book(after, numbered, folded([record], read.state)))
    return counts, _kept(ledgers, _parsed(ledgers, after))


def record(ledgers: Ledgers, decision: PromotionRecord) -> bool:
    """Append a decision of the gate; False, with nothing written, when the ledger has it already.

    The same use case, version, evaluation and outcome are the same decision, whenever and by
    whichever run it is taken. Raises TransientError when others keep writing first.
    """
    for _ in range(_ATTEMPTS):
        read = book(ledgers, decision.use_case)
        if any(_identity(known) == _identity(decision) for known in read.gate):
            return False
        if append(ledgers, read, decision)[0]:
            return True
    raise TransientError(
        f"the decision about version {decision.version} is not in the ledger at {ledgers.root}: "
        f"others wrote first {_ATTEMPTS} times; try again"
    )


def decisions(ledgers: Ledgers, use_case: str) -> list[PromotionRecord]:
    """Each decision of the gate about ``use_case``, in the order of recording.

    Raises PermanentError for a damaged ledger.
    """
    return book(ledgers, use_case).gate


def history_markdown(entries: Sequence[PromotionRecord], most: int = 20) -> str:
    """A Markdown table of the last ``most`` decisions of the gate, latest first."""
    if not entries:
        return "No decision has been recorded."
    lines = [
        "| decided at (UTC) | version | decision | champion after | reason |",
        "|---|---:|---|---:|---|",
    ]
    for entry in reversed(entries[-most:]):
        champion = "none" if entry.champion is None else str(entry.champion.version)
        # A bar or a line break would end the cell.
        reason = (entry.reasons[0] if entry.reasons else "").replace("|", "\\|").replace("\n", " ")
        lines.append(
            f"| {entry.decided_at:%Y-%m-%d %H:%M} | {entry.version} | **{entry.decision}** "
            f"| {champion} | {reason} |"
        )
    if len(entries) > most:
        where = table(entries[0].use_case)
        lines.append(f"\n{len(entries) - most} earlier decisions are in table `{where}`.")
    return "\n".join(lines)


def everything(ledgers: Ledgers, use_case: str) -> list[LedgerRecord]:
    """Each entry of the ledger, all waits included, in the order of recording."""
    read = chain.read(ledgers, LEDGER, use_case)
    return [_record(ledgers, read, n, entry) for n, entry in enumerate(read.entries)]


def _parsed(ledgers: Ledgers, read: Chain) -> Book:
    begun = max((n for n, entry in enumerate(read.entries) if entry.kind == "begun"), default=0)
    numbered: list[tuple[int, LedgerRecord]] = []
    entries: list[Entry] = []
    state = State()
    for number, entry in enumerate(read.entries):
        if number < begun and entry.kind == "decided" and entry.marks["decision"] == "wait":
            entries.append(replace(entry, text=""))  # Kept in memory by each sensor, for years.
            state = replace(state, entries=number + 1)
            continue
        entries.append(entry)
        record = _record(ledgers, read, number, entry)
        numbered.append((number, record))
        state = followed(state, record)
    return Book(replace(read, entries=tuple(entries)), tuple(numbered), state)


def _record(ledgers: Ledgers, read: Chain, number: int, entry: Entry) -> LedgerRecord:
    try:
        return _KINDS[entry.kind].model_validate_json(entry.text)
    except (KeyError, ValueError) as error:
        raise PermanentError(
            f"entry {number} of ledger {table(read.use_case)!r} at {ledgers.root} is no "
            f"{entry.kind} of this release: read it with the release that wrote it ({error})"
        ) from error


def _kept(ledgers: Ledgers, read: Book) -> Book:
    while len(_last_read) >= _MOST_KEPT:
        _last_read.pop(next(iter(_last_read)))
    _last_read[ledgers.root, read.chain.use_case] = read
    return read


def _marks(state: State, record: LedgerRecord) -> tuple[int, str]:
    match record:
        case PromotionRecord():
            return record.version, record.decision
        case Begun():
            return record.rollout.challenger, "begun"
        case Decided():
            known = state.under_way
            return known.challenger.version if known else 0, record.decision.action
        case Chosen():
            return record.champion.version, "chosen"


def _identity(entry: PromotionRecord) -> tuple[object, ...]:
    return entry.use_case, entry.version, entry.evaluation_digest, entry.decision
