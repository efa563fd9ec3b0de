"""Sending what the alert log says is not delivered yet."""

import secrets
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mlops_assets.adapters.alerts import log
from mlops_assets.adapters.alerts.channels import Channel, RefusedMessageError
from mlops_assets.adapters.alerts.log import Delivery
from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import SEVERITIES, Entry, Policy, fold, storm_summary
from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake


@dataclass(frozen=True)
class Delivered:
    """How one entry fared in one channel in this flush; ``kept`` is sent by the next one."""

    entry: Entry
    channel: str
    outcome: Literal["delivered", "refused", "expired", "kept"]
    reason: str


def flush(
    lake: "Lake",
    channels: Sequence[Channel],
    policy: Policy,
    links: Links,
    now: datetime,
    *,
    use_case: str,
    pauses_s: Sequence[float] = (0.5, 2.0),
    budget_s: float = 30.0,
) -> list[Delivered]:
    """Sends to each channel what it has not got yet of a use case, the most severe first.

    Each channel has its own thread and fails alone. A transient failure is tried again after each
    of ``pauses_s``; a channel that still fails, or has to be mended, keeps the rest for the next
    flush, as does one that is not done after ``budget_s`` seconds. An entry reaches a channel at
    least once: again, with the same id, when this process dies before it has recorded the delivery,
    or when two processes flush at once. Summaries of storms that are due at ``now`` are recorded
    and sent too.

    Raises PermanentError for two channels of one name or a ``now`` without a time zone, and what
    the lake raises.
    """
    if now.tzinfo is None:
        raise PermanentError(f"the time of the flush, {now}, has no time zone: give one")
    names = [channel.name for channel in channels]
    if len(set(names)) < len(names):
        raise PermanentError(f"two channels have one name, of {', '.join(names)}: rename one")
    history, waiting = fold(log.entries(lake, use_case), policy)
    summaries = [storm_summary(history, name, now) for name in list(history.capped)]
    new = [entry for entry in summaries if entry is not None]
    log.append_entries(lake, new)
    ordered = sorted([*waiting, *new], key=_urgency, reverse=True)
    sent = log.deliveries(lake, use_case, {entry.id for entry in ordered})
    done = {(delivery.id, delivery.channel) for delivery in sent}
    todo = [
        (channel, [entry for entry in ordered if (entry.id, channel.name) not in done])
        for channel in channels
    ]
    report: list[Delivered] = []
    with ThreadPoolExecutor(max_workers=max(1, len(channels))) as pool:
        deadline = time.monotonic() + budget_s
        running = [
            pool.submit(_send_all, channel, left, policy, links, now, pauses_s, deadline)
            for channel, left in todo
            if left
        ]
        # As each ends: one that waits for a slow server does not put off what the others record.
        for finished in as_completed(running):
            results = finished.result()
            log.append_deliveries(lake, use_case, list(_final(results, now)))
            report.extend(results)
    return report


def _send_all(
    channel: Channel,
    left: Sequence[Entry],
    policy: Policy,
    links: Links,
    now: datetime,
    pauses_s: Sequence[float],
    deadline: float,
) -> list[Delivered]:
    results: list[Delivered] = []
    broken = ""
    for entry in left:
        if now - entry.alert.at > policy.deliver_within:
            reason = f"older than {policy.deliver_within} when the channel could be reached"
            results.append(Delivered(entry, channel.name, "expired", reason))
            continue
        if not broken and time.monotonic() > deadline:
            broken = f"channel {channel.name}: no time left in this flush"
        if broken:
            results.append(Delivered(entry, channel.name, "kept", broken))
            continue
        result = _send(channel, entry, links, pauses_s, deadline)
        results.append(result)
        broken = result.reason if result.outcome == "kept" else ""
    return results


def _send(
    channel: Channel, entry: Entry, links: Links, pauses_s: Sequence[float], deadline: float
) -> Delivered:
    reason = ""
    for pause_s in (*pauses_s, None):
        try:
            channel.send(entry, links)
        except RefusedMessageError as error:
            return Delivered(entry, channel.name, "refused", str(error))
        except TransientError as error:
            reason = str(error)
        except PermanentError as error:
            return Delivered(entry, channel.name, "kept", str(error))
        except Exception as error:  # noqa: BLE001 - a defect of one channel must not stop the others
            # Its words may hold a secret.
            reason = f"channel {channel.name}: {type(error).__name__} in its code"
            return Delivered(entry, channel.name, "kept", reason)
        else:
            return Delivered(entry, channel.name, "delivered", "")
        if pause_s is None or time.monotonic() + pause_s > deadline:
            break
        # Random, so that the processes of many use cases do not come back at the same moment.
        time.sleep(pause_s * secrets.SystemRandom().uniform(0.5, 1))
    return Delivered(entry, channel.name, "kept", reason)


def _urgency(entry: Entry) -> int:
    """What is over comes last."""
    return -1 if entry.event == "resolved" else SEVERITIES.index(entry.alert.severity)


def _final(results: Iterable[Delivered], now: datetime) -> Iterable[Delivery]:
    for result in results:
        if result.outcome != "kept":
            yield Delivery(
                id=result.entry.id,
                channel=result.channel,
                outcome=result.outcome,
                reason=result.reason,
                at=now,
            )
