"""How an alert reads: on a terminal, in Markdown, in a chat, as JSON."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from mlops_assets.core.alerts import KINDS, NOTICES, Entry, Kind

WHAT_TO_DO: dict[Kind, str] = {
    "failed_run": "open the run, read the error of the first failed step, fix its cause and "
    "launch what failed again",
    "failed_check": "open the check, look at the rows that failed, and correct the data or the "
    "expectation",
    "drift": "find out whether the source broke or the world changed, and mend the one or let "
    "the retraining policy answer the other",
    "performance_loss": "see since when and on which rows the model is worse, and retrain or go "
    "back",
    "freshness": "find out why the source has no data for the partition, and materialize it when "
    "it has",
    "volume": "compare the partition with the source: rows are missing, or came twice",
    "skew": "compare what the endpoint saw with the lake, and mend the feature that differs",
    "retraining_started": "nothing, unless the reasons look wrong",
    "retraining_put_off": "raise the month's budget, make trainings cheaper, or wait for the next "
    "month",
    "promoted": "nothing, unless the model should not serve",
    "refused": "read which rule of the gate failed; the champion still serves",
    "rollback": "find out what the model did wrong before it is tried again; the former champion "
    "serves",
    "rollout_aborted": "read which guard aborted; the champion serves on",
    "rollout_overdue": "see what the rollout waits for, and promote or abort it by hand",
    "endpoint_down": "look at the endpoint's log and start it again",
    "storm": "look for one cause behind the alerts that were held back",
}

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~])")
_SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class Links:
    """Where links lead: base URLs of Dagster's UI and of the runbooks' folder."""

    dagster: str = "http://127.0.0.1:3000"
    runbooks: str = "docs/runbooks"


def asset_page(key: Sequence[str], partition: str | None = None) -> str:
    """Path of an asset's page in Dagster's UI, at ``partition`` if given."""
    path = "/assets/" + "/".join(quote(part, safe="") for part in key)
    if partition is None:
        return path
    return f"{path}?{urlencode({'view': 'partitions', 'partition': partition})}"


def run_page(run_id: str) -> str:
    """Path of a run's page in Dagster's UI."""
    return f"/runs/{quote(run_id, safe='')}"


def runbook(kind: Kind, links: Links) -> str:
    """Where the runbook of ``kind`` is."""
    return f"{links.runbooks.rstrip('/')}/{kind}.md"


def page(entry: Entry, links: Links) -> str:
    """Where the alert is to be seen in Dagster's UI."""
    base = links.dagster.rstrip("/")
    return f"{base}/{entry.alert.page.lstrip('/')}" if entry.alert.page else base


def title(entry: Entry) -> str:
    """One line: how severe, whose, what and about what."""
    alert = entry.alert
    state = "resolved" if entry.event == "resolved" else alert.severity
    return f"[{state}] {alert.use_case}: {alert.kind.replace('_', ' ')}, {alert.subject}"


def as_text(entry: Entry, links: Links) -> str:
    """Some lines for a terminal or a mail, without a line break at the end."""
    lines = [title(entry), f"  {entry.alert.cause}"]
    if entry.event != "resolved":
        lines.append(f"  to do: {WHAT_TO_DO[entry.alert.kind]}")
        lines.append(f"  runbook: {runbook(entry.alert.kind, links)}")
    lines.append(f"  look: {page(entry, links)}")
    lines.append(f"  {_footer(entry)}")
    return "\n".join(lines)


def as_markdown(entry: Entry, links: Links) -> str:
    """A heading line and paragraphs; words of the alert are never read as markup."""
    parts = [f"**{_escaped(title(entry))}**", _escaped(entry.alert.cause)]
    seen = f"[Dagster]({page(entry, links)})"
    if entry.event != "resolved":
        parts.append(f"To do: {WHAT_TO_DO[entry.alert.kind]}.")
        seen = f"[Runbook]({runbook(entry.alert.kind, links)}) · {seen}"
    return "\n\n".join([*parts, seen, _escaped(_footer(entry))])


def as_slack(entry: Entry, links: Links) -> str:
    """Slack's own markup, for the field ``text`` of a message."""
    lines = [f"*{_slack(title(entry))}*", _slack(entry.alert.cause)]
    if entry.event != "resolved":
        where = runbook(entry.alert.kind, links)
        shown = f"<{where}|runbook>" if "://" in where else where
        lines.append(f"To do: {WHAT_TO_DO[entry.alert.kind]} ({shown})")
    lines.append(f"<{page(entry, links)}|Dagster> · {_slack(_footer(entry))}")
    return "\n".join(lines)


def as_json(entry: Entry, links: Links) -> str:
    """One line of JSON with everything that the other forms say, in a stable order."""
    alert = entry.alert
    fields = {
        "id": entry.id,
        "event": entry.event,
        **alert.model_dump(mode="json", exclude={"page"}),
        "title": title(entry),
        "reason": entry.reason,
        "withheld": entry.withheld,
        "what_to_do": WHAT_TO_DO[alert.kind],
        "runbook": runbook(alert.kind, links),
        "link": page(entry, links),
    }
    return json.dumps(fields, ensure_ascii=False, allow_nan=False)


def counts_markdown(entries: Iterable[Entry]) -> str:
    """A Markdown table: how many entries of each event, by use case and kind."""
    counts: dict[tuple[str, Kind], dict[str, int]] = {}
    for entry in entries:
        key = (entry.alert.use_case, entry.alert.kind)
        row = counts.setdefault(key, {"raised": 0, "suppressed": 0, "capped": 0, "resolved": 0})
        row[entry.event] += 1
    if not counts:
        return "No alert has been recorded."
    lines = [
        "| use case | kind | raised | suppressed | capped | resolved |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for use_case, kind in sorted(counts, key=lambda key: (key[0], KINDS.index(key[1]))):
        row = counts[use_case, kind]
        resolved = "" if kind in NOTICES else str(row["resolved"])
        lines.append(
            f"| {_escaped(use_case)} | {kind.replace('_', ' ')} | {row['raised']} "
            f"| {row['suppressed']} | {row['capped']} | {resolved} |"
        )
    return "\n".join(lines)


def _footer(entry: Entry) -> str:
    alert = entry.alert
    words = [f"{alert.at:%Y-%m-%d %H:%M} UTC", ", ".join(alert.owners), entry.reason]
    if entry.withheld and alert.kind != "storm":
        words.append(f"{entry.withheld} observed in between and not sent")
    return ", ".join(word for word in words if word)


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _slack(text: str) -> str:
    return "".join(_SLACK.get(char, char) for char in text)
