"""What becomes of rollouts, as alerts."""

from collections.abc import Collection, Iterable

from mlops_assets.core.alert_text import asset_page
from mlops_assets.core.alert_watch import Open, Seen, Teller, of_kind
from mlops_assets.core.alerts import Alert
from mlops_assets.core.promotion_ledger import Chosen, Decided, LedgerRecord, State, followed

_PAGE = "rollout"


def rollouts(
    teller: Teller,
    numbered: Iterable[tuple[int, LedgerRecord]],
    first: int,
    opened: Collection[Open],
) -> Seen:
    """Notices of what ended or promoted a rollout, from the ledger's entry ``first`` on; and, for
    as long as it lasts, that one is overdue. ``numbered`` are the ledger's entries.
    """
    notices: list[Alert] = []
    state = State()
    for number, record in numbered:
        before, state = state, followed(state, record)
        if number >= first:
            notices += _told(teller, before, record)
    late = _overdue(teller, state)
    ended = {
        one.key: "it was decided"
        for one in of_kind(opened, "rollout_overdue")
        if late is None or one.key != late.key
    }
    return Seen(() if late is None else (Open(alert=late),), ended, tuple(notices))


def _told(teller: Teller, before: State, record: LedgerRecord) -> Iterable[Alert]:
    page = asset_page([teller.use_case, _PAGE])
    if isinstance(record, Chosen):
        replaced = before.wanted.champion.version if before.wanted else "none"
        cause = (
            f"{record.by} made version {record.champion.version} champion in the place of version "
            f"{replaced}: {record.reason}"
        )
        subject = f"version {record.champion.version}, {record.at:%Y-%m-%d %H:%M:%S}"
        yield teller.alert("rollback", "critical", subject, cause, page)
    if not isinstance(record, Decided) or before.under_way is None:
        return
    decision, rollout = record.decision, before.under_way.rollout
    reason = decision.reasons[0] if decision.reasons else "no reason was given"
    new, former, by = rollout.challenger, rollout.champion, record.by
    match decision.action:
        case "promote":
            cause = f"{by} promoted version {new} in the place of version {former}: {reason}"
            yield teller.alert("promoted", "info", f"version {new}", cause, page)
        case "abort":
            cause = f"{by} dropped version {new}, version {former} serves on: {reason}"
            yield teller.alert("rollout_aborted", "warning", rollout.rollout_id, cause, page)
        case "rollback":
            cause = f"{by} took version {new} back, version {former} serves again: {reason}"
            yield teller.alert("rollback", "critical", rollout.rollout_id, cause, page)
        case _:
            pass


def _overdue(teller: Teller, state: State) -> Alert | None:
    known = state.under_way
    if known is None or known.last is None or not known.last.overdue:
        return None
    waits = "; ".join(known.last.reasons)
    cause = f"version {known.rollout.challenger} is in {known.rollout.stage}: {waits}"
    page = asset_page([teller.use_case, _PAGE])
    return teller.alert("rollout_overdue", "warning", known.rollout.rollout_id, cause, page)
