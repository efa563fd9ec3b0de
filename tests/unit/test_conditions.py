"""What the platform's state amounts to as alerts, and what ends them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core import conditions, happenings
from mlops_assets.core.alert_watch import (
    CAPPED_AGAIN,
    Open,
    Seen,
    Teller,
    Watch,
    applied,
    has_news,
    settled,
)
from mlops_assets.core.alerts import History, Policy, fold, judge
from mlops_assets.core.happenings import CheckRun, RunEnd
from mlops_assets.core.monitoring_records import (
    Alarm,
    AlarmKind,
    AlarmsRecord,
    DriftRecord,
    LossRecord,
    PerformanceRecord,
)

NOW = datetime(2013, 4, 1, 7, tzinfo=UTC)
TELLER = Teller("flight_delays", ("team:flights",), NOW)
DAY = date(2013, 3, 31)


def _drift(verdict: str, drift: float = 0.06, version: int = 3) -> DriftRecord:
    return DriftRecord.model_validate(
        {
            "use_case": "flight_delays",
            "day": DAY,
            "model_version": version,
            "drift": drift,
            "verdict": verdict,
            "drifted": ["temp"],
            "unclear": [],
            "rows": 6500,
            "days": 7,
            "cause": "temp drifted",
        }
    )


def _loss(verdict: str) -> LossRecord:
    return LossRecord.model_validate(
        {
            "loss": 0.52,
            "low": None,
            "high": None,
            "reference": 0.48,
            "verdict": verdict,
            "reason": "because",
            "rows": 10,
            "days": 7,
        }
    )


def _performance(
    realized: str | None, estimated: str | None = None, bias: float | None = None
) -> PerformanceRecord:
    return PerformanceRecord(
        use_case="flight_delays",
        day=DAY,
        model_version=3,
        realized=_loss(realized) if realized else None,
        estimated=_loss(estimated) if estimated else None,
        labelled_until=DAY,
        outcomes_known=1,
        audit_bias=bias,
    )


def _subjects(seen: Seen) -> list[tuple[str, str]]:
    return [(one.alert.subject, one.alert.severity) for one in seen.holds]


@pytest.mark.parametrize(
    ("verdict", "size", "told"),
    [
        ("drift", 0.06, [("version 3", "warning")]),
        ("drift", 0.2, [("version 3", "critical")]),
        ("unclear", 0.9, []),
        ("stable", 0.01, []),
    ],
)
def test_only_drift_that_is_certain_is_told(
    verdict: str, size: float, told: list[tuple[str, str]]
) -> None:
    """Its severity goes by its size against the limit."""
    assert _subjects(conditions.drift(TELLER, _drift(verdict, size), 0.05, ())) == told


def test_a_new_version_ends_what_was_told_about_the_last() -> None:
    """Even while its own verdict is unclear."""
    opened = conditions.drift(TELLER, _drift("drift"), 0.05, ()).holds
    assert conditions.drift(TELLER, _drift("unclear"), 0.05, opened).ended == {}
    seen = conditions.drift(TELLER, _drift("unclear", version=4), 0.05, opened)
    assert list(seen.ended) == [opened[0].key]


def _alarms(*found: tuple[AlarmKind, tuple[str, ...]]) -> AlarmsRecord:
    alarms = tuple(
        Alarm(kind=kind, day=DAY, columns=columns, severity="warning", cause="it is odd")
        for kind, columns in found
    )
    return AlarmsRecord(use_case="flight_delays", day=DAY, alarms=alarms)


def test_alarms_of_days_hold_until_a_day_without_them_whatever_the_versions() -> None:
    """Neither drift nor performance of a model ends them; nor does a day that nobody can judge."""
    opened = conditions.day_alarms(
        TELLER, _alarms(("shift", ("temp", "dewp")), ("labels", ())), ()
    ).holds
    assert [(one.alert.kind, one.alert.subject) for one in opened] == [
        ("drift", "shift temp"),
        ("performance_loss", "labels"),
    ]
    assert conditions.drift(TELLER, _drift("stable", version=4), 0.05, opened).ended == {}
    assert conditions.performance(TELLER, _performance("held"), opened).ended == {}
    for kind in ("missing_day", "volume"):
        assert conditions.day_alarms(TELLER, _alarms((kind, ())), opened) == Seen()
    other = conditions.drift(TELLER, _drift("drift"), 0.05, ()).holds
    seen = conditions.day_alarms(TELLER, _alarms(("shift", ("temp",))), (*opened, *other))
    assert list(seen.ended) == [opened[1].key]


@pytest.mark.parametrize(
    ("realized", "estimated", "told", "ends"),
    [
        ("fell", "held", [("version 3", "critical")], False),
        ("held", "fell", [("version 3", "warning")], False),
        (None, "fell", [("version 3", "warning")], False),
        ("held", "inconclusive", [], True),
        ("inconclusive", "held", [], False),
        (None, "held", [], True),
        (None, None, [], False),
    ],
)
def test_outcomes_count_before_estimates(
    realized: str | None, estimated: str | None, told: list[tuple[str, str]], ends: bool
) -> None:
    """A fall on either is told; what ends it are outcomes, and estimates only without them."""
    opened = conditions.performance(TELLER, _performance("fell"), ()).holds
    seen = conditions.performance(TELLER, _performance(realized, estimated), opened)
    assert _subjects(seen) == told
    assert bool(seen.ended) == ends


def test_estimates_that_miss_the_outcomes_are_told_apart_from_the_loss() -> None:
    """From a tenth of the holdout's loss on, in either direction."""
    for bias in (-0.05, 0.05):
        seen = conditions.performance(TELLER, _performance("held", bias=bias), ())
        assert _subjects(seen) == [("estimates of version 3", "warning")]
        better = conditions.performance(TELLER, _performance("held", bias=0.01), seen.holds)
        assert list(better.ended) == [seen.holds[0].key]


def test_a_check_that_does_not_block_is_nobodys_alert() -> None:
    """But for volume and skew, which have their own kinds."""
    run = CheckRun("flights", "warnings", False, False, "3 warn")
    assert happenings.happened(TELLER, run, ()) == Seen()
    for name in ("volume", "skew"):
        seen = happenings.happened(TELLER, replace(run, check=name), ())
        assert [one.alert.kind for one in seen.holds] == [name]


def test_a_check_without_days_ends_when_it_passes() -> None:
    """A table without partitions is one subject."""
    run = CheckRun("planes", "expectations", False, True, "2 keys are doubled")
    opened = happenings.happened(TELLER, run, ()).holds
    assert [one.alert.subject for one in opened] == ["planes expectations"]
    passed = happenings.happened(TELLER, replace(run, passed=True), opened)
    assert list(passed.ended) == [opened[0].key]


def test_two_blocking_checks_of_a_day_do_not_end_each_other() -> None:
    """Nor does a check of another asset whose name begins alike."""
    refused = CheckRun(
        "weather", "expectations", False, True, "", frozenset({"2013-03-31"}), {"2013-03-31": "no"}
    )
    opened = happenings.happened(TELLER, refused, ()).holds
    for asset, check in (("weather", "contract"), ("weather_hourly", "expectations")):
        fine = CheckRun(asset, check, True, True, "", frozenset({"2013-03-31"}))
        assert happenings.happened(TELLER, fine, opened).ended == {}


def test_a_run_of_some_of_the_failed_assets_ends_nothing_yet() -> None:
    """The rest has to succeed too."""
    failed = RunEnd("r1", False, frozenset({"model", "schedule"}), "it broke")
    opened = happenings.happened(TELLER, failed, ()).holds
    assert [one.alert.subject for one in opened] == ["model, schedule"]
    half = happenings.happened(TELLER, RunEnd("r2", True, frozenset({"model"})), opened)
    assert (half.ended, [one.members for one in half.holds]) == ({}, [("schedule",)])
    done = RunEnd("r3", True, frozenset({"schedule", "planes"}))
    assert list(happenings.happened(TELLER, done, half.holds).ended) == [opened[0].key]


def test_an_outage_is_one_alert_and_another_gap_is_another() -> None:
    """Its subject stays its first day while it goes on, also when the first days came late."""
    days = [date(2013, 3, n) for n in (10, 11, 20)]
    first = happenings.late(TELLER, "weather", days, "UTC", 12, ())
    assert [one.alert.subject for one in first.holds] == [
        "weather from 2013-03-10",
        "weather from 2013-03-20",
    ]
    grown = [date(2013, 3, n) for n in (11, 12)]
    later = happenings.late(TELLER, "weather", grown, "UTC", 12, first.holds)
    assert [one.alert.subject for one in later.holds] == ["weather from 2013-03-10"]
    assert [key[2] for key in later.ended] == ["weather from 2013-03-20"]


def test_what_cannot_be_asked_just_now_neither_fails_nor_works_again() -> None:
    """And a failed run of an asset called like the prefix is another matter."""
    opened = happenings.broken(TELLER, "document", {"drift": "damaged"}, "/", ()).holds
    run = RunEnd("r1", False, frozenset({"document"}), "it broke")
    opened = applied(opened, happenings.happened(TELLER, run, opened))
    assert happenings.broken(TELLER, "document", {}, "/", opened, {"drift"}) == Seen()
    ended = happenings.broken(TELLER, "document", {}, "/", opened).ended
    assert [key[2] for key in ended] == ["document drift"]


def _open(told: datetime | None = NOW, at: datetime = NOW, cause: str = "temp drifted") -> Open:
    alert = replace(TELLER, at=at).alert("drift", "warning", "version 3", cause, "/")
    return Open(alert=alert, told=told)


@pytest.mark.parametrize(
    ("hours", "news"), [(0, False), (23.9, False), (24, True), (-2, False), (-24, True)]
)
def test_what_is_open_is_news_again_after_a_day_in_either_direction(
    hours: float, news: bool
) -> None:
    """As the alert log itself repeats: a clock that goes back hides nothing for long."""
    watch = Watch(open=(_open(),))
    assert has_news(watch, watch.open, NOW + timedelta(hours=hours), Policy()) == news


def test_what_a_storm_held_back_is_offered_again_soon() -> None:
    """It was not told, so a day would be too long."""
    watch = Watch(open=(_open(told=None),))
    assert not has_news(watch, watch.open, NOW + CAPPED_AGAIN / 2, Policy())
    assert has_news(watch, watch.open, NOW + CAPPED_AGAIN, Policy())


def test_other_words_or_other_alerts_are_news_and_a_later_time_is_not() -> None:
    """So is a memory that was not settled."""
    watch = Watch(open=(_open(),))
    assert not has_news(watch, (_open(at=NOW + timedelta(hours=1)),), NOW, Policy())
    assert has_news(watch, (_open(cause="more drifted"),), NOW, Policy())
    assert has_news(watch, (), NOW, Policy())
    assert has_news(Watch(settled=False), (), NOW, Policy())


def test_attempts_at_a_channel_wait_longer_and_longer() -> None:
    """Up to half an hour, and begin anew once all is delivered."""
    history = History(Policy())
    watch, waits = Watch(), []
    for _ in range(9):
        watch = settled(watch, history, 1, NOW)
        assert watch.wake is not None
        waits.append((watch.wake - NOW).total_seconds())
    assert waits == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert settled(watch, history, 0, NOW).wake is None
    # A wake that is farther away than any wait: the clock went back.
    assert has_news(watch, (), NOW - timedelta(days=1), Policy())


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.booleans(), max_size=30))
def test_memory_and_log_agree_about_what_is_open(names: list[str], ends: list[bool]) -> None:
    """Whatever opens and ends, in whatever order: what is open is what was said last."""
    opened: tuple[Open, ...] = ()
    last: dict[str, bool] = {}
    for name, end in zip(names, ends, strict=False):
        alert = TELLER.alert("skew", "warning", name, "differs", "/")
        seen = Seen(ended={alert.key: "well"}) if end else Seen((Open(alert=alert),))
        opened = applied(opened, seen)
        last[name] = not end
    assert {one.alert.subject for one in opened} == {
        name for name, is_open in last.items() if is_open
    }
    history, _ = fold((), Policy(most_per_hour=100))
    judge([one.alert for one in opened], history)
    assert {key[2] for key in history.open} == {one.alert.subject for one in opened}
