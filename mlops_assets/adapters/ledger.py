"""The promotion ledger: what was decided about each challenger, append-only, in the lake.

A decision is recorded before the alias ``champion`` moves. A run that is killed between the two
leaves a decision that :func:`pending` finds, and never a champion that nobody decided on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.records import PromotionRecord

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake

TABLE = "promotions"


def record(lake: "Lake", decision: PromotionRecord) -> bool:
    """Append ``decision``; False, with nothing written, when the ledger has it already.

    The same use case, version, evaluation and outcome are the same decision, whenever and by
    whichever run it is taken.
    """
    import pyarrow as pa

    if any(_identity(known) == _identity(decision) for known in decisions(lake, decision.use_case)):
        return False
    schema = pa.schema(
        [
            ("use_case", pa.string()),
            ("version", pa.int64()),
            ("decision", pa.string()),
            ("decided_at", pa.timestamp("us", tz="UTC")),
            ("record", pa.string()),
        ]
    )
    row = {
        **decision.model_dump(include={"use_case", "version", "decision", "decided_at"}),
        "record": decision.model_dump_json(),
    }
    lake.append(TABLE, pa.Table.from_pylist([row], schema=schema))
    return True


def decisions(lake: "Lake", use_case: str) -> list[PromotionRecord]:
    """Each decision about ``use_case``, in the order of recording.

    Two runs that record the same decision at once both append it; the first one counts.
    Raises PermanentError for an entry that is no decision.
    """
    import pyarrow.compute as pc

    try:
        table = lake.read_log(TABLE)
    except MissingPartitionsError:
        return []  # Nothing was decided yet.
    found: dict[tuple[object, ...], PromotionRecord] = {}
    for text in table.filter(pc.field("use_case") == use_case)["record"].to_pylist():
        try:
            entry = PromotionRecord.model_validate_json(text)
        except ValueError as error:
            raise PermanentError(
                f"table {TABLE!r} of the lake has an entry for {use_case} that is no decision of "
                f"this release: read it with the release that wrote it ({error})"
            ) from error
        found.setdefault(_identity(entry), entry)
    return list(found.values())


def pending(lake: "Lake", use_case: str, champion_version: int | None) -> PromotionRecord | None:
    """The last promotion of ``use_case``, when the alias still names the version before it.

    ``champion_version`` is what the alias names now, None for nothing. An alias on any other
    version was moved on purpose, and is left alone.
    """
    promotions = [entry for entry in decisions(lake, use_case) if entry.decision == "promoted"]
    if not promotions:
        return None
    last = promotions[-1]
    return last if last.previous_version == champion_version else None


def history_markdown(entries: Sequence[PromotionRecord], most: int = 20) -> str:
    """A Markdown table of the last ``most`` decisions, latest first."""
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
        lines.append(f"\n{len(entries) - most} earlier decisions are in table `{TABLE}`.")
    return "\n".join(lines)


def _identity(entry: PromotionRecord) -> tuple[object, ...]:
    return entry.use_case, entry.version, entry.evaluation_digest, entry.decision
