"""How rollouts read: their guards, their history, and who serves what, as Markdown and lines."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from mlops_assets.core.promotion_ledger import (
    Begun,
    Chosen,
    Decided,
    LedgerRecord,
    State,
    Wanted,
    at_of,
    folded,
)
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.rollout_records import GuardVerdict, RolloutDecision


def guards_markdown(guards: Sequence[GuardVerdict]) -> str:
    """A table of what each guard says, with its numbers."""
    if not guards:
        return "No guard has said anything yet."
    lines = [
        "| guard | verdict | value | interval | aborts above | passes below | rows | reason |",
        "|---|---|---:|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {one.guard} | **{one.verdict}** | {_number(one.value)} "
        f"| {_number(one.low)} to {_number(one.high)} | {one.abort_above:g} "
        f"| {one.promote_below:g} | {one.rows:,} | {_cell(one.reason)} |"
        for one in guards
    ]
    return "\n".join(lines)


def history_markdown(
    records: Sequence[LedgerRecord], most: int = 30, *, waits: bool = False
) -> str:
    """A table of the last ``most`` entries, latest first, of ``waits`` only if asked for."""
    chosen = [one for one in records if waits or not _is_wait(one)]
    if not chosen:
        return "Nothing has been decided."
    lines = ["| at (UTC) | what | by | why |", "|---|---|---|---|"]
    for one in reversed(chosen[-most:]):
        what, by, why = _said(one)
        lines.append(f"| {at_of(one):%Y-%m-%d %H:%M:%S} | {_cell(what)} | {by} | {_cell(why)} |")
    if len(chosen) > most:
        lines.append(f"\n{len(chosen) - most} earlier ones are in the ledger.")
    return "\n".join(lines)


def live_at(records: Iterable[LedgerRecord], moment: datetime) -> State:
    """What the ledger said at ``moment``: of entries with later times nothing."""
    return folded(record for record in records if at_of(record) <= moment)


def serving(wanted: Wanted | None) -> str:
    """What is served, in one line."""
    if wanted is None:
        return "nothing"
    text = f"version {wanted.champion.version}"
    if wanted.challenger is None:
        return text
    other = wanted.challenger.version
    match wanted.mode:
        case "shadow":
            return f"{text}; version {other} in shadow"
        case "canary":
            return f"{text}; version {other} in canary, for {wanted.share:.0%} of the callers"
        case _:
            return f"{text}; watched, with version {other} beside it"


def decision_line(decision: RolloutDecision, by: str) -> str:
    """A decision in one line, for a terminal."""
    where = f"{decision.stage} {decision.share:.0%}"
    reason = decision.reasons[0] if decision.reasons else ""
    overdue = " (overdue)" if decision.overdue else ""
    at = f"{decision.decided_at:%Y-%m-%d %H:%M:%S}"
    return f"{at}  {where:<11} {decision.action}{overdue}, by {by}: {reason}"


def _is_wait(record: LedgerRecord) -> bool:
    return isinstance(record, Decided) and record.decision.action == "wait"


def _said(record: LedgerRecord) -> tuple[str, str, str]:
    match record:
        case PromotionRecord():
            reason = record.reasons[0] if record.reasons else ""
            return f"version {record.version}: **{record.decision}**", "the gate", reason
        case Begun(rollout=rollout):
            what = f"version {rollout.challenger}: **{rollout.stage}** ({rollout.rollout_id})"
            return what, record.by, record.reason
        case Decided(decision=decision):
            share = f" {decision.share_after:.0%}" if decision.action == "step" else ""
            reason = decision.reasons[0] if decision.reasons else ""
            return f"{decision.rollout_id}: **{decision.action}**{share}", record.by, reason
        case Chosen():
            return f"version {record.champion.version}: **chosen**", record.by, record.reason


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    # A bar or a line break would end the cell.
    return text.replace("|", "\\|").replace("\n", " ")
