"""References: what a model version is compared with for as long as it answers.

Written by the evaluation, which has the training set with the model's scores at hand: the bins that
profiles count in, a profile of each day of the training window, the features' importances, and the
performance on the days that the model was not fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from mlops_assets.core.records import ModelRecord, Record
from mlops_assets.core.spec import LABEL, ColumnType, FeatureType, UseCaseSpec
from mlops_assets.lifecycle.assets import table_name
from mlops_assets.lifecycle.training_set import DAY, PART

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.layouts import Layout
    from mlops_assets.core.performance_days import Reference
    from mlops_assets.core.profiles import Profile

REFERENCES = "references"
"""The table of the references of all versions of a use case, one partition per version."""

SCORE = "score"

COLUMNS: dict[str, ColumnType] = {"kind": "string", "day": "string", "document": "string"}
"""Each row is a JSON document; ``day`` is empty for those that are not about one."""

LABEL_TYPES: Mapping[str, FeatureType] = {LABEL: "float"}
"""A label is a number, 0 or 1: its Wasserstein distance is the change of the base rate in standard
deviations."""

_LAYOUT, _LABEL_LAYOUT, _SUMMARY, _PERFORMANCE = "layout", "label_layout", "summary", "performance"
_ANSWERS, _LABELS = "answers_profile", "labels_profile"


class Summary(Record):
    """What a version's references have beside profiles."""

    unseen_from: date
    """First day whose rows the model was not fitted to."""
    importances: dict[str, float]
    """Each feature's share of the total gain of all splits."""


@dataclass(frozen=True)
class References:
    """The training window of a model version, in profiles by day."""

    version: int
    summary: Summary
    layout: "Layout"
    """Of the features and the score."""
    label_layout: "Layout"
    answers: "Mapping[date, Profile]"
    """Features and score of all rows, under ``layout``."""
    labels: "Mapping[date, Profile]"
    """Labels, under ``label_layout``."""


def keep_references(
    spec: UseCaseSpec,
    lake: "Lake",
    model: ModelRecord,
    frame: "pl.DataFrame",
    importances: Mapping[str, float],
) -> None:
    """Keep the references of ``model``, in place of those that it may have.

    ``frame``: its training set, with the column ``score``. Without labels of both classes on two
    days at least that the model was not fitted to, it gets no reference of performance.
    """
    import polars as pl

    from mlops_assets.core.layouts import layout_of
    from mlops_assets.core.profiles import profile
    from mlops_assets.core.schema import conform

    fitted = frame.filter(pl.col(PART) == "train")
    layout = layout_of(fitted, {**spec.feature_types, SCORE: "float"})
    label_layout = layout_of(fitted, LABEL_TYPES)
    summary = Summary(
        unseen_from=model.training_set.validation_first, importances=dict(importances)
    )
    rows = [
        (_LAYOUT, "", layout),
        (_LABEL_LAYOUT, "", label_layout),
        (_SUMMARY, "", summary),
    ]
    for (day,), of_day in frame.partition_by(DAY, as_dict=True, maintain_order=True).items():
        rows.append((_ANSWERS, str(day), profile(of_day, layout)))
        rows.append((_LABELS, str(day), profile(of_day, label_layout)))
    performance = _performance(model.version, frame.filter(pl.col(PART) != "train"))
    if performance is not None:
        rows.append((_PERFORMANCE, "", performance))
    table = pl.DataFrame(
        [(kind, day, document.model_dump_json()) for kind, day, document in rows],
        schema=list(COLUMNS),
        orient="row",
    )
    name = table_name(spec, REFERENCES)
    lake.write(
        name, {str(model.version): conform(table, COLUMNS, f"table {name}")}, ["kind", "day"]
    )


def _performance(version: int, unseen: "pl.DataFrame") -> "Reference | None":
    from mlops_assets.core.performance_days import reference_of

    if unseen[DAY].n_unique() < 2 or unseen[LABEL].n_unique() < 2:
        return None
    return reference_of(
        unseen[DAY].to_list(), unseen[LABEL].to_numpy(), unseen[SCORE].to_numpy(), version=version
    )


@lru_cache(maxsize=512)
def profile_of(document: str) -> "Profile":
    """The profile in ``document``, JSON. A process that looks at one day after the other reads most
    profiles again, a window of days and a training set's at a time.
    """
    from mlops_assets.core.profiles import Profile

    return Profile.model_validate_json(document)


def read_references(spec: UseCaseSpec, lake: "Lake", version: int) -> References | None:
    """The references of ``version``; None for one that was evaluated before there were any."""
    from mlops_assets.core.layouts import Layout

    documents = _documents(spec, lake, version)
    if not documents:
        return None
    profiles = {
        kind: {
            date.fromisoformat(day): profile_of(document)
            for (of, day), document in documents.items()
            if of == kind
        }
        for kind in (_ANSWERS, _LABELS)
    }
    return References(
        version=version,
        summary=Summary.model_validate_json(documents[_SUMMARY, ""]),
        layout=Layout.model_validate_json(documents[_LAYOUT, ""]),
        label_layout=Layout.model_validate_json(documents[_LABEL_LAYOUT, ""]),
        answers=profiles[_ANSWERS],
        labels=profiles[_LABELS],
    )


def read_reference(spec: UseCaseSpec, lake: "Lake", version: int) -> "Reference | None":
    """The performance that ``version`` is compared with; None where it has none."""
    from mlops_assets.core.performance_days import Reference

    document = _documents(spec, lake, version).get((_PERFORMANCE, ""))
    return None if document is None else Reference.model_validate_json(document)


def _documents(spec: UseCaseSpec, lake: "Lake", version: int) -> dict[tuple[str, str], str]:
    """The version's documents by kind and day; none where it has no references."""
    from mlops_assets.core.errors import MissingPartitionsError

    try:
        table = lake.read(table_name(spec, REFERENCES), [str(version)])
    except MissingPartitionsError:
        return {}
    columns = table.to_pydict()
    return dict(
        zip(zip(columns["kind"], columns["day"], strict=True), columns["document"], strict=True)
    )
