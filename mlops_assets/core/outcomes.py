"""Outcomes: each answered event with its last answer and its label, as far as it is known."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from mlops_assets.core.label_lateness import DayLabels, label_lateness
from mlops_assets.core.pit import ASKED_AT
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT, LABEL, ColumnType
from mlops_assets.core.windows import Window

REQUEST_ID = "request_id"
SCORE = "score"
MODEL_VERSION = "model_version"
MODEL_SHA256 = "model_sha256"
ROLE = "role"
RETURNED = "returned"
OUTCOME_KNOWN = "outcome_known"
LABEL_KNOWN_AT = "label_known_at"

COLUMNS: dict[str, ColumnType] = {
    EVENT_ID: "string",
    EVENT_TIME: "timestamp",
    ASKED_AT: "timestamp",
    SCORE: "float32",
    MODEL_VERSION: "int64",
    MODEL_SHA256: "string",
    ROLE: "string",
    LABEL: "int32",
    OUTCOME_KNOWN: "bool",
    LABEL_KNOWN_AT: "timestamp",
}
"""An event whose outcome is known may have no label: it was cancelled, say."""

ORDER = (ASKED_AT, REQUEST_ID, "row", ROLE, MODEL_VERSION)
"""The order of answers. The last one of an event counts; the columns after the time only make it
the same one each time."""


@dataclass(frozen=True)
class ModelOutcomes:
    """What the answers of one model version in one role add up to."""

    version: int
    role: str
    answers: int
    labelled: int
    mean_score: float
    base_rate: float | None
    """Share of positives among the labelled; None without any."""


@dataclass(frozen=True)
class DayOutcomes:
    """What a day's outcomes add up to."""

    events: int
    answered: int
    known: int
    """Answered events whose outcome is known."""
    labelled: int
    """Those of them that have a label."""
    mean_score: float
    base_rate: float | None
    unknown_events: int
    """Answers that were due about this day's events, and name none of them."""
    labels: DayLabels | None
    """Lateness of the labels; None where no answered event can get one."""
    by_model: tuple[ModelOutcomes, ...]
    """In the order of versions and roles."""

    @property
    def unanswered_share(self) -> float:
        """Share of the day's events without an answer in time."""
        return 1 - self.answered / self.events

    def models_markdown(self) -> str:
        """A table of the models that answered."""
        lines = [
            "| version | role | answers | labelled | mean score | base rate |",
            "|---|---|---|---|---|---|",
        ]
        for model in self.by_model:
            rate = model.base_rate
            lines.append(
                f"| {model.version} | {model.role} | {model.answers} | {model.labelled} | "
                f"{model.mean_score:.4f} | {'' if rate is None else format(rate, '.4f')} |"
            )
        return "\n".join(lines)


def last_answers(events: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The last answer about each of ``events`` that was given by the event's time.

    ``answers`` has the columns of ``ORDER``, ``event_id``, null where the caller named none, and
    ``returned``: a score that nobody got is no answer. The result has the columns of ``answers``
    and ``event_time``, in the order of the events.
    """
    named = answers.filter(RETURNED).drop_nulls(EVENT_ID)
    about = named.join(events.select(EVENT_ID, EVENT_TIME), on=EVENT_ID, how="inner")
    in_time = about.filter(pl.col(ASKED_AT) <= pl.col(EVENT_TIME)).sort(ORDER)
    return in_time.unique(EVENT_ID, keep="last").sort(EVENT_TIME, EVENT_ID)


def paired(answers: pl.DataFrame) -> pl.DataFrame:
    """The scores of champion and challenger about the same rows of the same requests.

    ``answers`` are of one rollout, with the columns of ``ORDER``, ``event_id``, ``returned`` and
    ``score``. The result has ``request_id``, ``row``, ``event_id``, ``asked_at``,
    ``champion_version``, ``challenger_version``, ``champion_score``, ``challenger_score`` (null
    where that model failed) and ``returned_role``, one row per row that both were asked about, in
    the order of time. A request that was sent twice counts once, with its last scores.
    """
    key = [REQUEST_ID, "row"]
    ordered = answers.sort(ORDER)
    sides: dict[str, pl.DataFrame] = {}
    for role in ("champion", "challenger"):
        rows = ordered.filter(pl.col(ROLE) == role).unique(key, keep="last", maintain_order=True)
        sides[role] = rows.select(
            *key,
            EVENT_ID,
            ASKED_AT,
            pl.col(MODEL_VERSION).alias(f"{role}_version"),
            pl.col(SCORE).alias(f"{role}_score"),
            pl.col(RETURNED).alias(f"{role}_returned"),
        )
    both = sides["champion"].join(
        sides["challenger"].drop(EVENT_ID, ASKED_AT), on=key, how="inner", maintain_order="left"
    )
    returned = (
        pl.when("champion_returned")
        .then(pl.lit("champion"))
        .when("challenger_returned")
        .then(pl.lit("challenger"))
    )
    return both.select(
        *key,
        EVENT_ID,
        ASKED_AT,
        "champion_version",
        "challenger_version",
        "champion_score",
        "challenger_score",
        returned.alias("returned_role"),
    )


def with_labels(answers: pl.DataFrame, labels: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """``answers``, one for each event, with what is known at ``now`` about how the event ended.

    ``labels`` has ``event_id`` (once each), ``label`` and ``known_at``; an outcome without
    ``known_at`` is not known yet. Returns the columns ``COLUMNS``, in the order of ``answers``.
    """
    known = labels.filter(pl.col(KNOWN_AT) <= now).select(
        EVENT_ID, pl.col(LABEL).cast(pl.Int32), pl.col(KNOWN_AT).alias(LABEL_KNOWN_AT)
    )
    joined = answers.join(known, on=EVENT_ID, how="left", maintain_order="left")
    return joined.with_columns(pl.col(LABEL_KNOWN_AT).is_not_null().alias(OUTCOME_KNOWN)).select(
        list(COLUMNS)
    )


def unknown_events(
    events: pl.DataFrame, answers: pl.DataFrame, window: Window, lead_minutes: float
) -> int:
    """How many answers should be about the events of ``window`` and name none of them.

    An answer is due ``lead_minutes`` before its event. Answers that name no event count too, scores
    that were not ``returned`` do not.
    """
    due = pl.col(ASKED_AT) + timedelta(minutes=lead_minutes)
    inside = due.is_between(window.start_time, window.end_time, closed="left")
    return answers.filter(inside & pl.col(RETURNED)).join(events, on=EVENT_ID, how="anti").height


def summary(
    events: int, outcomes: pl.DataFrame, unknown: int, window: Window, now: datetime
) -> DayOutcomes:
    """What the ``outcomes`` (at least one) of a window of one day add up to."""
    settled_without = pl.col(OUTCOME_KNOWN) & pl.col(LABEL).is_null()
    awaited = outcomes.filter(~settled_without)
    totals = [
        pl.len().alias("answers"),
        pl.col(LABEL).count().alias("labelled"),
        pl.col(SCORE).cast(pl.Float64).mean().alias("mean_score"),
        pl.col(LABEL).mean().alias("base_rate"),
    ]
    overall = outcomes.select(totals).row(0, named=True)
    by_model = outcomes.group_by(pl.col(MODEL_VERSION).alias("version"), ROLE).agg(totals)
    lateness = (
        label_lateness(
            [window.first] * awaited.height,
            awaited[ASKED_AT].to_numpy(),
            awaited[LABEL_KNOWN_AT].to_numpy(),
            now,
        )
        if awaited.height
        else ()
    )
    return DayOutcomes(
        events=events,
        answered=outcomes.height,
        known=int(outcomes[OUTCOME_KNOWN].sum()),
        labelled=int(overall["labelled"]),
        mean_score=float(overall["mean_score"]),
        base_rate=cast("float | None", overall["base_rate"]),
        unknown_events=unknown,
        labels=lateness[0] if lateness else None,
        by_model=tuple(
            ModelOutcomes(**model) for model in by_model.sort("version", ROLE).to_dicts()
        ),
    )
