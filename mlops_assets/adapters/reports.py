"""The HTML reports that people read about an evaluation and about drift, rendered by Evidently.

They decide nothing. Evidently's time and memory grow with rows and its files with features, so
that it sees a bounded sample; what it leaves out is said at its top.
"""

import html
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import FeatureType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# A report without features has 4 MB, of Evidently's own scripts; each feature adds 60 kB and takes
# a fifth of a second. Nobody looks at more plots than these.
MOST_FEATURES = 20
# A plot with more bars cannot be read, and thousands of tail numbers would fill megabytes.
MOST_CATEGORIES = 40
_OTHER = "(other)"


def evaluation_report(
    reference: "pl.DataFrame",
    current: "pl.DataFrame",
    features: Mapping[str, FeatureType],
    *,
    label: str,
    score: str,
    title: str,
    max_rows: int,
    path: str,
) -> str:
    """Write the report on ``current`` against ``reference`` to ``path``, and return ``path``.

    Both frames have the columns ``features``, ``label`` (0 or 1; rows without one are left out)
    and ``score`` (probability of a 1). At most ``max_rows`` rows of each are used, the same ones
    every time. The report holds the quality of the scores and the drift (PSI) of the first
    MOST_FEATURES features; it needs no network, and has less than 10 MB.

    ``path`` is a local path or a URL; it has the whole report or is not touched.
    Raises PermanentError for a missing column or a frame without labelled rows.
    """
    from mlops_assets.adapters.storage import write_bytes

    sides = {
        name: _labelled(frame, name, [*features, label, score], label)
        for name, frame in (("reference", reference), ("current", current))
    }
    samples = {name: _sample(frame, max_rows) for name, frame in sides.items()}
    notes = [
        f"{name}: {len(samples[name]):,} of {len(frame):,} rows" for name, frame in sides.items()
    ]
    before, now = (_cleaned(samples[name], features) for name in ("reference", "current"))
    drift = _with_values(before, now, features, notes)
    before, now = _fewer_categories(before, now, features)
    quality = all(frame[label].n_unique() == 2 for frame in (before, now))
    if not quality:
        notes.append("no quality of scores: the rows of one side have one class only")
    classification = (label, score) if quality else None
    used = [*drift, label, score]
    page = _render(
        before.select(used).to_pandas(),
        now.select(used).to_pandas(),
        {name: features[name] for name in drift},
        classification,
    )
    write_bytes(path, _titled(page, title, notes).encode())
    return path


def drift_report(
    reference: "pl.DataFrame",
    current: "pl.DataFrame",
    columns: Mapping[str, FeatureType],
    *,
    title: str,
    about: str,
    current_rows: int,
    max_rows: int,
    path: str,
) -> str:
    """Write the report on the drift (PSI) of ``current`` against ``reference`` to ``path``.

    Both frames have ``columns``, of which the first ones are shown; ``current`` is, or is a sample
    of, ``current_rows`` rows. ``about`` says what was decided, and stands at the top. As for
    :func:`evaluation_report`, a bounded sample is used, no network is needed, and ``path`` has the
    whole report or is not touched; it is returned.
    Raises PermanentError for a missing column, and where no column has values on both sides.
    """
    from mlops_assets.adapters.storage import write_bytes

    frames = {"reference": reference, "current": current}
    for name, frame in frames.items():
        _check_columns(frame, name, columns)
    samples = {
        name: _sample(frame.select(list(columns)), max_rows) for name, frame in frames.items()
    }
    totals = {"reference": len(reference), "current": current_rows}
    notes = [
        f"Decided: {about}",
        "What follows is for looking at: Evidently compares each column of two samples by itself, "
        "with other thresholds, and decides nothing.",
        *(f"{name}: {len(samples[name]):,} of {total:,} rows" for name, total in totals.items()),
    ]
    before, now = (_cleaned(samples[name], columns) for name in frames)
    drift = _with_values(before, now, columns, notes)
    if not drift:
        raise PermanentError(
            f"there is no report {path}: no column has values on both sides; choose other days"
        )
    before, now = _fewer_categories(before, now, columns)
    page = _render(
        before.select(drift).to_pandas(),
        now.select(drift).to_pandas(),
        {name: columns[name] for name in drift},
        None,
    )
    write_bytes(path, _titled(page, title, notes).encode())
    return path


def _check_columns(frame: "pl.DataFrame", name: str, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise PermanentError(
            f"the report's {name} rows have no column {', '.join(missing)}: give each column that "
            "the report is about"
        )


def _labelled(frame: "pl.DataFrame", name: str, columns: list[str], label: str) -> "pl.DataFrame":
    """The rows with a label, and the columns that the report uses."""
    import polars as pl

    _check_columns(frame, name, columns)
    frame = frame.select(columns).filter(pl.col(label).is_not_null())
    if not frame.height:
        raise PermanentError(
            f"the report has no labelled {name} rows: choose a window that has labels"
        )
    return frame.with_columns(pl.col(label).cast(pl.Int64))


def _sample(frame: "pl.DataFrame", rows: int) -> "pl.DataFrame":
    """At most ``rows`` rows, in order, the same ones for the same frame."""
    import numpy as np

    if frame.height <= rows:
        return frame
    chosen = np.random.default_rng(0).choice(frame.height, rows, replace=False)
    return frame[np.sort(chosen)]


def _cleaned(frame: "pl.DataFrame", features: Mapping[str, FeatureType]) -> "pl.DataFrame":
    """Features as text or floats; NaN and infinities, which have no bin, count as missing."""
    import polars as pl

    def column(name: str, kind: FeatureType) -> pl.Expr:
        if kind == "category":
            return pl.col(name).cast(pl.String)
        value = pl.col(name).cast(pl.Float64)
        return pl.when(value.is_finite()).then(value).alias(name)

    return frame.with_columns(column(name, kind) for name, kind in features.items())


def _with_values(
    before: "pl.DataFrame",
    now: "pl.DataFrame",
    features: Mapping[str, FeatureType],
    notes: list[str],
) -> list[str]:
    """The features whose drift is shown; ``notes`` gets the others. Evidently stops at a column
    without values."""
    empty = [
        name
        for name in features
        if any(frame[name].null_count() == frame.height for frame in (before, now))
    ]
    rest = [name for name in features if name not in empty]
    if empty:
        notes.append(f"no drift, one side has no value: {', '.join(empty)}")
    if len(rest) > MOST_FEATURES:
        notes.append(
            f"no drift, beyond {MOST_FEATURES} features: {', '.join(rest[MOST_FEATURES:])}"
        )
    return rest[:MOST_FEATURES]


def _fewer_categories(
    before: "pl.DataFrame", now: "pl.DataFrame", features: Mapping[str, FeatureType]
) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    """Both frames with the rare values of each category as one."""
    import polars as pl

    for name, kind in features.items():
        if kind == "category":
            counts = pl.concat([before[name], now[name]]).drop_nulls().value_counts()
            if counts.height > MOST_CATEGORIES:
                frequent = counts.sort(["count", name], descending=[True, False])
                kept = frequent[name].head(MOST_CATEGORIES - 1).implode()
                value = pl.col(name)
                fewer = pl.when(value.is_in(kept) | value.is_null()).then(value)
                expression = fewer.otherwise(pl.lit(_OTHER)).alias(name)
                before, now = before.with_columns(expression), now.with_columns(expression)
    return before, now


def _render(
    reference: "pd.DataFrame",
    current: "pd.DataFrame",
    drift: Mapping[str, FeatureType],
    classification: tuple[str, str] | None,
) -> str:
    """Evidently's page on the drift of the columns ``drift``, and on the quality of
    ``classification`` (label and score). Each column's type is given, none is guessed."""
    # Read by Evidently when it would send an event.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import numpy as np
    from evidently import BinaryClassification, DataDefinition, Dataset, Report
    from evidently.core.container import MetricContainer
    from evidently.core.metric_types import Metric
    from evidently.presets import ClassificationPreset, DataDriftPreset

    metrics: list[Metric | MetricContainer] = []
    definition = DataDefinition(
        numerical_columns=[name for name, kind in drift.items() if kind == "float"],
        categorical_columns=[name for name, kind in drift.items() if kind == "category"],
    )
    if classification is not None:
        label, score = classification
        definition.classification = [BinaryClassification(target=label, prediction_probas=score)]
        metrics.append(ClassificationPreset())
    if drift:
        metrics.append(DataDriftPreset(columns=list(drift), method="psi"))
    # Constant columns have no spread to divide by.
    with np.errstate(divide="ignore", invalid="ignore"):
        result = Report(metrics).run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )
    return result.get_html_str(as_iframe=False)


def _titled(page: str, title: str, notes: list[str]) -> str:
    """``page`` with a title and what it is about; Evidently's pages have none."""
    heading = html.escape(title)
    lines = "<br>".join(html.escape(note) for note in notes)
    page = page.replace("<head>", f"<head><title>{heading}</title>", 1)
    return page.replace(
        "<body>",
        '<body><header style="font-family: sans-serif; margin: 1rem 2rem">'
        f"<h1>{heading}</h1><p>{lines}</p></header>",
        1,
    )
