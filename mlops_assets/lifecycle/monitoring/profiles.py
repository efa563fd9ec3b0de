"""Profiles of answered days: any window of them costs its profiles, never its rows again.

A profile counts in the bins of one layout, so that each day has one for every layout that it was
compared under: a model version brings its own. What a day lacks under the layout of a new version
is made from the day's rows once, and kept.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from mlops_assets.core.spec import LABEL, ColumnType, FeatureType, UseCaseSpec
from mlops_assets.lifecycle.assets import table_name
from mlops_assets.lifecycle.monitoring.day_tables import read_present, write_days
from mlops_assets.lifecycle.monitoring.references import SCORE, profile_of
from mlops_assets.lifecycle.prediction_log import COLUMNS as ANSWER_COLUMNS
from mlops_assets.lifecycle.prediction_log import PREDICTION_LOG

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.daily_profiles import DailyProfiles
    from mlops_assets.core.layouts import Layout
    from mlops_assets.core.profiles import Profile
    from mlops_assets.lifecycle.monitoring.references import References

PROFILES = "profiles"

COLUMNS: dict[str, ColumnType] = {
    "day": "string",
    "layout": "string",
    "model_version": "int64",
    "profile": "string",
}
"""One row for each layout's digest and version that answered; ``profile`` is JSON."""

_Of = Mapping[int, "Profile"]
"""By the version that answered."""


@dataclass(frozen=True)
class Profiles:
    """Profiles by day, layout digest and version that answered."""

    found: Mapping[tuple[str, str], _Of]

    def window(
        self, layout: "Layout", partitions: Iterable[str], version: int | None = None
    ) -> "DailyProfiles":
        """Those of the days ``partitions`` that have rows, of one version's answers or of all."""
        from mlops_assets.core.daily_profiles import daily
        from mlops_assets.core.profiles import merge

        digest = layout.digest
        days: dict[date, Profile] = {}
        for day in partitions:
            found = self.found.get((day, digest), {})
            parts = [part for of, part in found.items() if version in {None, of}]
            if parts:
                days[date.fromisoformat(day)] = merge(parts) if len(parts) > 1 else parts[0]
        return daily(days, layout)


def keep_profiles(
    spec: UseCaseSpec,
    lake: "Lake",
    wanted: Mapping[str, Collection["References"]],
    fresh: Collection[str],
) -> Profiles:
    """The profiles of the days ``wanted``, each under the layouts of some references.

    The days ``fresh`` are profiled from their rows, as others are that lack a layout. What is new
    is in the lake afterwards, as one commit.
    """
    rows = read_present(spec, lake, PROFILES, COLUMNS, [day for day in wanted if day not in fresh])
    found: dict[tuple[str, str], dict[int, Profile]] = {}
    for day, layout, version, document in rows.iter_rows():
        found.setdefault((day, layout), {})[version] = profile_of(document)
    changed = set(fresh)
    for day, references in wanted.items():
        layouts = {of.layout.digest: of.layout for of in references}
        labels = {of.label_layout.digest: of.label_layout for of in references}
        lacking = [layouts[digest] for digest in layouts if (day, digest) not in found]
        lacking_labels = [labels[digest] for digest in labels if (day, digest) not in found]
        made: dict[str, dict[int, Profile]] = {}
        if lacking:
            made |= _of_answers(spec, lake, day, lacking)
        if lacking_labels:
            made |= _of_labels(spec, lake, day, lacking_labels)
        for digest, of_versions in made.items():
            found[day, digest] = of_versions
            changed.add(day)
    written: dict[str, list[dict[str, object]]] = {day: [] for day in changed}
    for (day, layout), of_versions in found.items():
        if day in changed:
            written[day] += [
                {
                    "day": day,
                    "layout": layout,
                    "model_version": version,
                    "profile": profile.model_dump_json(),
                }
                for version, profile in of_versions.items()
            ]
    if written:
        write_days(spec, lake, PROFILES, COLUMNS, written, ["layout", "model_version"])
    return Profiles(found)


def feature_types(layout: "Layout") -> dict[str, FeatureType]:
    """The features of ``layout``, which has the score beside them, in the model's order."""
    return {column.name: column.type for column in layout.columns if column.name != SCORE}


def _of_answers(
    spec: UseCaseSpec, lake: "Lake", day: str, layouts: Iterable["Layout"]
) -> dict[str, dict[int, "Profile"]]:
    """Features and score of the day's answers, by layout and version.

    A version whose model has not all of a layout's features has no profile under it: values that
    nobody sent are not missing values.
    """
    from mlops_assets.core.answer_features import decoded, types_of
    from mlops_assets.core.profiles import profile

    result: dict[str, dict[int, Profile]] = {}
    answers = returned_answers(spec, lake, day)
    for (version,), rows in answers.partition_by("model_version", as_dict=True).items():
        sent = types_of(rows.row(0, named=True))
        for layout in layouts:
            types = feature_types(layout)
            if types.items() <= sent.items():
                frame = decoded(rows, types).with_columns(rows[SCORE])
                result.setdefault(layout.digest, {})[int(str(version))] = profile(frame, layout)
    return result


def returned_answers(spec: UseCaseSpec, lake: "Lake", day: str) -> "pl.DataFrame":
    """The day's answers, without what was scored for comparison: each request counts once."""
    answers = read_present(spec, lake, PREDICTION_LOG, ANSWER_COLUMNS, [day])
    return answers.filter("returned")


def _of_labels(
    spec: UseCaseSpec, lake: "Lake", day: str, layouts: Iterable["Layout"]
) -> dict[str, dict[int, "Profile"]]:
    """The labels of the day's events, by layout and version; none until most have one."""
    import polars as pl

    from mlops_assets.core.monitoring import KNOWN_SHARE
    from mlops_assets.core.outcomes import COLUMNS as OUTCOME_COLUMNS
    from mlops_assets.core.outcomes import MODEL_VERSION, OUTCOME_KNOWN
    from mlops_assets.core.profiles import profile

    rows = read_present(spec, lake, "outcomes", OUTCOME_COLUMNS, [day])
    if rows.is_empty() or rows[OUTCOME_KNOWN].sum() < KNOWN_SHARE * rows.height:
        return {}
    labelled = rows.filter(pl.col(LABEL).is_not_null())
    by_version = labelled.partition_by(MODEL_VERSION, as_dict=True)
    return {
        layout.digest: {
            int(str(version)): profile(of_version, layout)
            for (version,), of_version in by_version.items()
        }
        for layout in layouts
    }


def answered_days(spec: UseCaseSpec, lake: "Lake", partitions: Iterable[str]) -> dict[str, int]:
    """Those of the days ``partitions`` that have answers, with their number."""
    states = lake.states(table_name(spec, PREDICTION_LOG))
    return {day: states[day].rows for day in partitions if day in states}


def sampled_answers(
    spec: UseCaseSpec, lake: "Lake", partitions: Iterable[str], layout: "Layout", most: int
) -> "pl.DataFrame":
    """At most ``most`` answers of the days, the same ones each time: features and score of the
    versions whose model has all features of ``layout``.

    One day is in memory at a time.
    """
    import numpy as np
    import polars as pl

    from mlops_assets.core.answer_features import decoded, types_of

    types = feature_types(layout)
    days = list(answered_days(spec, lake, partitions))
    frames: list[pl.DataFrame] = []
    for day in days:
        answers = returned_answers(spec, lake, day)
        fitting = [
            rows
            for rows in answers.partition_by("model_sha256", maintain_order=True)
            if types.items() <= types_of(rows.row(0, named=True)).items()
        ]
        if fitting:
            rows = pl.concat(fitting)
            size = min(rows.height, max(1, most // len(days)))
            chosen = np.random.default_rng(0).choice(rows.height, size, replace=False)
            rows = rows[np.sort(chosen)]
            frames.append(decoded(rows, types).with_columns(rows[SCORE]))
    return pl.concat(frames) if frames else pl.DataFrame()
