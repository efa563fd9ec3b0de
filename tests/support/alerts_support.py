"""Alerts of one use case, for tests."""

from datetime import UTC, datetime, timedelta

from mlops_assets.core.alert_text import Links
from mlops_assets.core.alerts import (
    Alert,
    Entry,
    Policy,
    Severity,
)

START = datetime(2013, 4, 1, 12, tzinfo=UTC)
POLICY = Policy(repeat_after=timedelta(hours=6), most_per_hour=3)
LINKS = Links("http://dagster:3000/", "https://docs.example.org/runbooks/")


def alert_of(
    hours: float = 0, severity: Severity = "warning", subject: str = "weather", **changes: object
) -> Alert:
    """An alert, so many hours after START."""
    fields: dict[str, object] = {
        "kind": "drift",
        "severity": severity,
        "use_case": "flight_delays",
        "subject": subject,
        "owners": ("team:flights",),
        "cause": "the PSI of temp is 0.31 (limit 0.25) over 7 days",
        "page": "/assets/flight_delays/drift",
        "at": START + timedelta(hours=hours),
    }
    return Alert.model_validate({**fields, **changes})


def events_of(entries: list[Entry]) -> list[str]:
    """What each entry says has happened."""
    return [entry.event for entry in entries]


def entry_with(event: str = "raised", **changes: object) -> Entry:
    """An entry about an alert with ``changes``, as the log has it."""
    return Entry.model_validate(
        {
            "id": "0123456789abcdef",
            "event": event,
            "alert": alert_of(**changes),  # pyright: ignore[reportArgumentType]
            "reason": "new",
        }
    )
