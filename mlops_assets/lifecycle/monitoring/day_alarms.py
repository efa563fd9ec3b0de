"""Alarms of days: what people are called for, day by day against the weeks before.

Each day of the champion's answers is profiled once, under one layout of the use case. The layout is
made of a champion's training set, and lasts as long as the endpoint is sent the same features: days
stay comparable when a model is trained again. The days of that training set are the first history,
so that a new endpoint is watched from its first day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_assets.core.monitoring_records import AlarmsRecord
from mlops_assets.core.records import Record
from mlops_assets.core.spec import ColumnType, FeatureType, UseCaseSpec
from mlops_assets.lifecycle.assets import table_name
from mlops_assets.lifecycle.monitoring.day_tables import days_until, read_present, write_days
from mlops_assets.lifecycle.monitoring.profiles import answered_days
from mlops_assets.lifecycle.monitoring.references import profile_of
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.prediction_log import COLUMNS as ANSWER_COLUMNS
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.layouts import Layout
    from mlops_assets.core.performance_days import DayStatistics

ALARMS = "alarms"
"""The document of the newest day's alarms."""

ALARM_LAYOUT = "alarm_layout"
DAY_PROFILES = "day_profiles"

COLUMNS: dict[str, ColumnType] = {
    "day": "string",
    "layout": "string",
    "answers": "int64",
    "profile": "string",
    "alarms": "string",
}
"""One row a day. ``layout`` is a digest; ``answers`` are the champion's, 0 for a day that is known
from a training set alone; ``profile`` is JSON, empty without rows; ``alarms`` is an AlarmsRecord as
JSON, empty for a day that was not judged."""

_SETTLED_DAYS = 14
"""A day that broke is not compared with for so long; what lasts is the new usual."""

_OUTCOME_DAYS = 70


class AlarmLayout(Record):
    """What days are profiled under."""

    types: dict[str, FeatureType]
    """The features that the endpoint is sent."""
    pairs: tuple[tuple[str, str], ...]
    """Categories that are watched together."""
    layout: str
    """A Layout as JSON, of the features and the pairs."""


@dataclass(frozen=True)
class _Watched:
    """An AlarmLayout, ready to profile with."""

    types: Mapping[str, FeatureType]
    pairs: Sequence[tuple[str, str]]
    layout: "Layout"
    digest: str

    def profile(self, features: "pl.DataFrame") -> str:
        """The profile of rows with the features, as JSON."""
        from mlops_assets.core.day_columns import crossed
        from mlops_assets.core.profiles import profile

        return profile(crossed(features, self.pairs), self.layout).model_dump_json()

    def of_answers(self, answers: "pl.DataFrame") -> str:
        """The profile of those answers that have the features; empty when none has."""
        import polars as pl

        from mlops_assets.core.answer_features import decoded, types_of

        fitting = [
            rows
            for rows in answers.partition_by("model_sha256", maintain_order=True)
            if self.types.items() <= types_of(rows.row(0, named=True)).items()
        ]
        return self.profile(decoded(pl.concat(fitting), self.types)) if fitting else ""


@dataclass
class _Day:
    """A row of the table."""

    answers: int
    profile: str
    alarms: str = ""


def keep_alarms(
    spec: UseCaseSpec, platform: Platform, partitions: Sequence[str]
) -> list[AlarmsRecord]:
    """Judge the days ``partitions``, in order, and keep what was found.

    The table gets the days in one commit, and the document the newest day of all. None are judged
    before there is a champion whose training set has the features that the endpoint is sent.
    """
    from mlops_assets.adapters import documents

    lake, ordered = platform.lake(), sorted(partitions)
    newest = max([*lake.states(table_name(spec, DAY_PROFILES)), ordered[-1]])
    known = documents.read(platform.documents_url, spec.name, ALARM_LAYOUT, AlarmLayout)
    of_days: dict[str, _Day] = {}
    new: AlarmLayout | None = None
    if ordered[-1] == newest:
        new, of_days = _new_layout(spec, platform, ordered, known)
    layout = new or known
    if layout is None:
        return []
    records = _judge(spec, lake, _watched(layout), ordered, of_days)
    if new is not None:
        # After the days that were profiled under it: a run that dies before makes it again.
        documents.write(platform.documents_url, spec.name, ALARM_LAYOUT, new)
    if ordered[-1] == newest:
        documents.write(platform.documents_url, spec.name, ALARMS, records[-1])
    return records


def _watched(kept: AlarmLayout) -> _Watched:
    from mlops_assets.core.layouts import Layout

    layout = Layout.model_validate_json(kept.layout)
    return _Watched(kept.types, kept.pairs, layout, layout.digest)


def _answers(spec: UseCaseSpec, lake: "Lake", day: str) -> "pl.DataFrame":
    """What champions answered on a day; others answer the same events again."""
    import polars as pl

    rows = read_present(spec, lake, PREDICTION_LOG, ANSWER_COLUMNS, [day])
    return rows.filter((pl.col("role") == "champion") & pl.col("returned"))


def _span(ordered: Sequence[str]) -> list[str]:
    """The days that are judged, and those that they are compared with."""
    from mlops_assets.core.data_alarms import HISTORY_DAYS

    first, last = date.fromisoformat(ordered[0]), date.fromisoformat(ordered[-1])
    return days_until(last, (last - first).days + HISTORY_DAYS + 1)


def _new_layout(
    spec: UseCaseSpec, platform: Platform, ordered: Sequence[str], known: AlarmLayout | None
) -> tuple[AlarmLayout | None, dict[str, _Day]]:
    """The layout of the features that the last day was sent, and the history under it; None while
    ``known`` is of those features, and when the champion was not trained on all of them.
    """
    from mlops_assets.core.answer_features import types_of
    from mlops_assets.core.day_columns import crossed, crossing_name, crossings
    from mlops_assets.core.layouts import layout_of
    from mlops_assets.lifecycle.training_set import DAY, read_training_set

    lake = platform.lake()
    answers = _answers(spec, lake, ordered[-1])
    if answers.is_empty():
        return None, {}
    types = types_of(answers.sort("asked_at", "model_version").row(-1, named=True))
    if known is not None and known.types == types:
        return None, {}
    champion = platform.tracking().champion(spec.name)
    if champion is None:
        return None, {}
    training = read_training_set(spec, lake, champion.training_set)
    if not types.keys() <= set(training.columns):
        return None, {}
    pairs = crossings(training, [name for name, kind in types.items() if kind == "category"])
    columns: dict[str, FeatureType] = dict(types)
    columns |= dict.fromkeys((crossing_name(*pair) for pair in pairs), "category")
    layout = layout_of(crossed(training, pairs), columns)
    made = AlarmLayout(types=types, pairs=pairs, layout=layout.model_dump_json())
    watched, span = _watched(made), set(_span(ordered))
    history = {
        str(day): _Day(0, watched.profile(rows))
        for (day,), rows in training.partition_by(DAY, as_dict=True).items()
        if day in span
    }
    for day in answered_days(spec, lake, span - set(ordered)):
        asked = _answers(spec, lake, day)
        profile = watched.of_answers(asked)
        if profile:
            history[day] = _Day(asked.height, profile)
    return made, history


def _judge(
    spec: UseCaseSpec,
    lake: "Lake",
    watched: _Watched,
    ordered: Sequence[str],
    fresh: Mapping[str, _Day],
) -> list[AlarmsRecord]:
    """The alarms of the days ``ordered``; they and the days ``fresh`` are in the table then."""
    from mlops_assets.core.daily_profiles import daily
    from mlops_assets.core.data_alarms import alarms

    found: dict[str, _Day] = {}
    for row in read_present(spec, lake, DAY_PROFILES, COLUMNS, _span(ordered)).iter_rows(
        named=True
    ):
        fits = row["layout"] == watched.digest
        found[row["day"]] = _Day(row["answers"], row["profile"] if fits else "", row["alarms"])
    for day, of_day in fresh.items():
        found[day] = _Day(of_day.answers, of_day.profile, found.get(day, of_day).alarms)
    for day in ordered:
        asked = _answers(spec, lake, day)
        # A day of the training set that nobody asked about stays history.
        before = found.get(day, _Day(0, ""))
        keeps = asked.is_empty() and before.answers == 0
        found[day] = _Day(asked.height, before.profile if keeps else watched.of_answers(asked))
    profiles = daily(
        {
            date.fromisoformat(day): profile_of(of_day.profile)
            for day, of_day in found.items()
            if of_day.profile
        },
        watched.layout,
    )
    # Rows of a training set say nothing of how many are asked of the endpoint.
    rows = {date.fromisoformat(day): of_day.answers for day, of_day in found.items()}
    outcomes = _outcomes(spec, lake, ordered)
    told = {
        date.fromisoformat(day): AlarmsRecord.model_validate_json(of_day.alarms)
        for day, of_day in found.items()
        if of_day.alarms
    }
    records: list[AlarmsRecord] = []
    for day in map(date.fromisoformat, ordered):
        recent = [told[of] for of in told if 0 < (day - of).days <= _SETTLED_DAYS]
        wrong = alarms(
            day,
            profiles,
            rows=rows,
            # Of the days before: the day's own are not yet known, or known in a later run.
            outcomes=[item for item in outcomes if 0 < (day - item.day).days <= _OUTCOME_DAYS],
            set_aside={
                cell for record in recent for alarm in record.alarms for cell in alarm.cells
            },
        )
        record = AlarmsRecord(use_case=spec.name, day=day, alarms=wrong)
        told[day] = record
        found[day.isoformat()].alarms = record.model_dump_json()
        records.append(record)
    written = {
        day: [
            {
                "day": day,
                "layout": watched.digest,
                "answers": found[day].answers,
                "profile": found[day].profile,
                "alarms": found[day].alarms,
            }
        ]
        for day in {*ordered, *fresh}
    }
    write_days(spec, lake, DAY_PROFILES, COLUMNS, written, ["day"])
    return records


def _outcomes(spec: UseCaseSpec, lake: "Lake", ordered: Sequence[str]) -> "list[DayStatistics]":
    """Realized performance of the champions' answers, of the days that may be looked at."""
    import polars as pl

    from mlops_assets.core.performance_days import DayStatistics
    from mlops_assets.lifecycle.monitoring.performance_days import DAY_COLUMNS, PERFORMANCE_DAYS

    first = date.fromisoformat(ordered[0])
    last = date.fromisoformat(ordered[-1]) - timedelta(days=1)
    days = days_until(last, (last - first).days + 1 + _OUTCOME_DAYS)
    columns: dict[str, ColumnType] = {name: DAY_COLUMNS[name] for name in ("role", "realized")}
    kept = read_present(spec, lake, PERFORMANCE_DAYS, columns, days)
    champions = kept.filter((pl.col("role") == "champion") & (pl.col("realized") != ""))
    return [DayStatistics.model_validate_json(each) for each in champions["realized"]]
