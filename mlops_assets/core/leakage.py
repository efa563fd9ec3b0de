"""Checks that a training set shows a model only what it can know when it is asked.

They look at the data itself and trust nothing that the join computed on the way. Each raises
LeakageError with the table, the column, rows to look at, and what to do.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from mlops_assets.core.errors import LeakageError, SchemaError
from mlops_assets.core.pit import ASKED_AT, View, known_at_column
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, KNOWN_AT, LABEL

_EXAMPLES = 3

# A feature of two values equals the label of ten rows by chance once in 500 times.
_FEWEST_ROWS_FOR_IMAGE = 10

# On a thousand rows with five of each class, chance separates the classes once in 10^12 times.
_FEWEST_ROWS_FOR_SEPARATION = 1000
_FEWEST_OF_A_CLASS = 5


def check_view(view: View) -> None:
    """Refuse a view with rows that are not known from a time on, or that contradict each other.

    Raises LeakageError for a row without ``known_at`` and for rows equal in entity, ``event_time``
    and ``known_at``: which of them a model saw would be left to chance.
    """
    frame, what = view.frame, f"view {view.name!r}"
    unknown = frame.filter(pl.col(KNOWN_AT).is_null())
    if unknown.height:
        raise LeakageError(
            f"{what}: {unknown.height} rows have no {KNOWN_AT!r}, e.g. {_examples(unknown)}; "
            "say when each row became known, or leave it out"
        )
    identity = [*view.entity, EVENT_TIME, KNOWN_AT]
    twice = frame.filter(frame.select(identity).is_duplicated())
    if twice.height:
        raise LeakageError(
            f"{what}: {twice.height} rows share {', '.join(identity)} with another row, e.g. "
            f"{_examples(twice.sort(identity))}; keep one of them, or give a correction the later "
            f"{KNOWN_AT!r} at which it arrived"
        )


def check_events(events: pl.DataFrame) -> None:
    """Refuse events that are not each one prediction.

    ``events`` has ``event_id`` and ``asked_at``. Raises LeakageError for an ``event_id`` that is
    missing or repeated (the same event could be trained on and judged on) and for an event without
    ``asked_at``.
    """
    _refuse_missing(events, EVENT_ID, "the events")
    _refuse_missing(events, ASKED_AT, "the events")
    _refuse_repeated(events, "the events")


def check_labels(events: pl.DataFrame, labels: pl.DataFrame) -> None:
    """Refuse labels that were known when the prediction was asked: nothing is left to predict.

    ``events`` has ``event_id`` and ``asked_at``; ``labels`` has ``event_id``, ``label`` (null where
    there is no outcome) and ``known_at``. Raises LeakageError for a repeated ``event_id``, for a
    label without ``known_at``, and for one whose ``known_at`` is not after ``asked_at``.
    """
    _refuse_repeated(labels, "the labels")
    outcomes = labels.filter(pl.col(LABEL).is_not_null())
    _refuse_missing(outcomes, KNOWN_AT, "the labels")
    early = outcomes.join(events.select(EVENT_ID, ASKED_AT), on=EVENT_ID, how="inner").filter(
        pl.col(KNOWN_AT) <= pl.col(ASKED_AT)
    )
    if early.height:
        examples = _examples(early.select(EVENT_ID, ASKED_AT, KNOWN_AT, LABEL))
        raise LeakageError(
            f"the labels: {early.height} outcomes were known when the prediction was asked, e.g. "
            f"{examples}; leave these events out, ask earlier (lead_minutes), or correct "
            f"{KNOWN_AT!r}"
        )


def check_joined(joined: pl.DataFrame, views: Sequence[View], label: str = LABEL) -> None:
    """Refuse a training set with features from after the question or that give the label away.

    ``joined`` comes from ``point_in_time_join(…, with_known_at=True)`` and has the column
    ``label`` (null where there is no outcome). Raises LeakageError for

    - an event that uses a row known after ``asked_at``;
    - a feature that is the label under another name: on the labelled rows (at least 10) each of
      its values, null included, goes with one label, and each label with one of its values;
    - a number that separates the two labels without an error (AUC 1 or 0), on at least 1,000 rows
      with at least 5 of each label.

    and SchemaError where a column is not there.
    """
    for view in views:
        _refuse_known_later(joined, view)
    labelled = joined.filter(pl.col(label).is_not_null())
    for view in views:
        for feature in view.features:
            _need(joined, feature, f"view {view.name!r}")
            _refuse_image(labelled, view.name, feature, label)
            if labelled.schema[feature].is_numeric():
                _refuse_separation(labelled, view.name, feature, label)


def _refuse_known_later(joined: pl.DataFrame, view: View) -> None:
    known_at = known_at_column(view.name)
    _need(joined, known_at, f"view {view.name!r}")
    later = joined.filter(pl.col(known_at) > pl.col(ASKED_AT))
    if later.height:
        columns = [c for c in (EVENT_ID, *view.entity) if c in later.columns]
        raise LeakageError(
            f"view {view.name!r}, features {', '.join(view.features)}: {later.height} events use a "
            "row that was known only after they were asked, e.g. "
            f"{_examples(later.select(*columns, ASKED_AT, known_at))}; join them with "
            "point_in_time_join"
        )


def _refuse_image(labelled: pl.DataFrame, view: str, feature: str, label: str) -> None:
    values = labelled[label].n_unique()
    if labelled.height < _FEWEST_ROWS_FOR_IMAGE or values < 2:
        return
    if labelled[feature].n_unique() != values:
        return
    pairs = labelled.group_by(feature, label).agg(pl.first(EVENT_ID)).sort(label)
    if pairs.height == values:
        raise LeakageError(
            f"view {view!r}, feature {feature!r}: it is the label {label!r} under another name on "
            f"all {labelled.height} labelled rows, e.g. {_examples(pairs)}; remove the feature, or "
            "compute it from what is known when the prediction is asked"
        )


def _refuse_separation(labelled: pl.DataFrame, view: str, feature: str, label: str) -> None:
    known = labelled.filter(pl.col(feature).is_not_null() & ~pl.col(feature).is_nan())
    if known.height < _FEWEST_ROWS_FOR_SEPARATION:
        return
    classes = (
        known.group_by(label)
        .agg(
            rows=pl.len(),
            lowest=pl.col(feature).min(),
            highest=pl.col(feature).max(),
            example=pl.first(EVENT_ID),
        )
        .sort("lowest")
    )
    if classes.height != 2:
        return
    below, above = classes.iter_rows(named=True)
    if min(below["rows"], above["rows"]) < _FEWEST_OF_A_CLASS:
        return
    if below["highest"] < above["lowest"]:
        raise LeakageError(
            f"view {view!r}, feature {feature!r}: it separates the label {label!r} without an "
            f"error on {known.height} rows: {label}={below[label]!r} up to {below['highest']!r} "
            f"(e.g. {EVENT_ID} {below['example']!r}), {label}={above[label]!r} from "
            f"{above['lowest']!r} (e.g. {EVENT_ID} {above['example']!r}); it is computed from the "
            "outcome: remove it, or compute it from what is known when the prediction is asked"
        )


def _refuse_missing(frame: pl.DataFrame, column: str, what: str) -> None:
    missing = frame.filter(pl.col(column).is_null())
    if missing.height:
        raise LeakageError(
            f"{what}: {missing.height} rows have no {column!r}, e.g. {_examples(missing)}; "
            "give each row one"
        )


def _refuse_repeated(frame: pl.DataFrame, what: str) -> None:
    repeated = frame.filter(frame[EVENT_ID].is_duplicated())
    if repeated.height:
        raise LeakageError(
            f"{what}: {repeated.height} rows share their {EVENT_ID!r} with another row, e.g. "
            f"{_examples(repeated.sort(EVENT_ID))}; make {EVENT_ID!r} identify one event"
        )


def _need(joined: pl.DataFrame, column: str, what: str) -> None:
    if column not in joined.columns:
        raise SchemaError(
            f"{what}: the joined events have no column {column!r}; join them with "
            "point_in_time_join(…, with_known_at=True)"
        )


def _examples(frame: pl.DataFrame) -> str:
    rows = frame.head(_EXAMPLES).iter_rows(named=True)
    return "; ".join(
        "(" + ", ".join(f"{name}={_text(value)}" for name, value in row.items()) + ")"
        for row in rows
    )


def _text(value: object) -> str:
    return str(value) if isinstance(value, datetime) else repr(value)
