"""Skew: what the endpoint was asked with and answered, against what the lake says of the events.

The causes are told apart: the endpoint was sent nothing, the lake knows nothing, or both have a
value and it is another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mlops_assets.core.answer_features import decoded, types_of
from mlops_assets.core.outcomes import MODEL_SHA256, REQUEST_ID, SCORE
from mlops_assets.core.spec import EVENT_ID, FeatureType

SCORE_TOLERANCE = 1e-5
"""Another runtime for one row than for a batch may differ in a score's last bits (3e-7 measured);
another value of a feature moves it by more, or by nothing."""

_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Difference:
    """One feature, or the score, that differs on some answers."""

    name: str
    compared: int
    differing: int
    not_sent: int
    """The endpoint got null, the lake has a value."""
    not_in_lake: int
    """The endpoint got a value, the lake has null."""
    event_id: str
    """One of the events, with the request that asked about it and both values."""
    request_id: str
    served: str
    lake: str

    @property
    def other_value(self) -> int:
        """Both have a value, and not the same."""
        return self.differing - self.not_sent - self.not_in_lake


@dataclass(frozen=True)
class Skew:
    """All differences of a day."""

    answers: int
    """Answers whose event the lake has."""
    skewed: int
    """Answers with at least one difference."""
    scores_compared: int
    """Answers of a model that also scored the event in batch."""
    differences: tuple[Difference, ...]
    """The most frequent first."""

    @property
    def share(self) -> float:
        """Share of the answers with at least one difference, 0 to 1."""
        return self.skewed / self.answers if self.answers else 0.0


def find_skew(
    answers: pl.DataFrame,
    lake: pl.DataFrame,
    types: Mapping[str, FeatureType],
    batch: pl.DataFrame | None,
) -> Skew:
    """Compare ``answers`` with the features ``types`` of the same events in ``lake``.

    ``answers`` has ``event_id``, ``request_id``, ``model_sha256``, ``score`` and the columns of
    answer_features.encoded; ``lake`` has one row per ``event_id``. Answers about other events are
    left out, and so is a feature where the answering model did not have it. Numbers are equal as
    32-bit floats, NaN is null. ``batch`` has the scores of the same events by ``event_id`` and
    ``model_sha256``; None or fewer rows where there are none.
    """
    answers = answers.join(lake.select(EVENT_ID), on=EVENT_ID, how="semi", maintain_order="left")
    ours = answers.select(EVENT_ID).join(
        lake.select(EVENT_ID, *types), on=EVENT_ID, how="left", maintain_order="left"
    )
    sides = _sides(decoded(answers, types), ours, types)
    asked = asked_features(answers, types)
    # All at once: a call for each feature costs more than the comparison.
    differs_by = sides.select(
        (pl.col(f"served {name}").ne_missing(pl.col(f"lake {name}")) & asked[name]).alias(name)
        for name in types
    )
    found = [
        _difference(
            answers,
            differs.name,
            (sides[f"served {differs.name}"], sides[f"lake {differs.name}"]),
            differs,
            int(asked[differs.name].sum()),
        )
        for differs in differs_by
        if differs.any()
    ]
    skewed = differs_by.select(pl.any_horizontal(pl.all())).to_series()
    compared = 0
    if batch is not None:
        pairs = batch.select(EVENT_ID, MODEL_SHA256, pl.col(SCORE).alias("batch"))
        other = answers.select(EVENT_ID, MODEL_SHA256).join(
            pairs, on=[EVENT_ID, MODEL_SHA256], how="left", maintain_order="left"
        )["batch"]
        compared = answers.height - other.null_count()
        differs = ((answers[SCORE] - other).abs() > SCORE_TOLERANCE).fill_null(False)
        if differs.any():
            found.append(_difference(answers, SCORE, (answers[SCORE], other), differs, compared))
            skewed = skewed | differs
    found.sort(key=lambda difference: -difference.differing)
    return Skew(answers.height, int(skewed.sum()), compared, tuple(found))


def asked_features(answers: pl.DataFrame, types: Mapping[str, FeatureType]) -> dict[str, pl.Series]:
    """For each feature the answers whose model had it, and as that type."""
    models = {
        str(answer[MODEL_SHA256]): types_of(answer)
        for answer in answers.unique(MODEL_SHA256).iter_rows(named=True)
    }
    everywhere = pl.repeat(True, answers.height, dtype=pl.Boolean, eager=True)
    asked: dict[str, pl.Series] = {}
    for name, kind in types.items():
        lacking = [sha256 for sha256, had in models.items() if had.get(name) != kind]
        asked[name] = ~answers[MODEL_SHA256].is_in(lacking) if lacking else everywhere
    return asked


def _sides(
    served: pl.DataFrame, lake: pl.DataFrame, types: Mapping[str, FeatureType]
) -> pl.DataFrame:
    """The columns ``served <name>`` and ``lake <name>`` of each feature, as the model sees them."""
    plain = [
        pl.col(name).cast(pl.String)
        if kind == "category"
        else pl.col(name).cast(pl.Float32).fill_nan(None)
        for name, kind in types.items()
    ]
    return pl.concat(
        [
            served.select(plain).select(pl.all().name.prefix("served ")),
            lake.select(plain).select(pl.all().name.prefix("lake ")),
        ],
        how="horizontal",
    )


def _difference(
    answers: pl.DataFrame,
    name: str,
    sides: tuple[pl.Series, pl.Series],
    differs: pl.Series,
    compared: int,
) -> Difference:
    served, lake = sides
    row = differs.arg_max() or 0
    return Difference(
        name=name,
        compared=compared,
        differing=int(differs.sum()),
        not_sent=int((differs & served.is_null()).sum()),
        not_in_lake=int((differs & lake.is_null()).sum()),
        event_id=str(answers[EVENT_ID][row]),
        request_id=str(answers[REQUEST_ID][row]),
        served=shown_value(served[row]),
        lake=shown_value(lake[row]),
    )


def shown_value(value: object) -> str:
    """A value for people, cut where it is long."""
    text = f"{value:.9g}" if isinstance(value, float) else "null" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def skew_markdown(differences: Sequence[Difference]) -> str:
    """A table of what differs, with an example of each."""
    if not differences:
        return "nothing differs"
    lines = [
        "| column | differs | of | not sent | not in lake | other value | event | request | "
        "served | lake |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {d.name} | {d.differing} | {d.compared} | {d.not_sent} | {d.not_in_lake} | "
        f"{d.other_value} | {cell(d.event_id)} | {cell(d.request_id)} | {cell(d.served)} | "
        f"{cell(d.lake)} |"
        for d in differences
    ]
    return "\n".join(lines)


def cell(text: str) -> str:
    """What a caller sent cannot break the table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("\r", " ")
