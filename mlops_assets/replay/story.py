"""What a replay amounts to: losses by day, retrainings, and the same days had nobody retrained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, cast

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.rollout_state import ServedModel
from mlops_assets.core.spec import EVENT_ID, EVENT_TIME, LABEL, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import table_name

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.retraining_records import Decision


@dataclass(frozen=True)
class Day:
    """Mean log-loss (nats) over a day's labelled answers: as served, and by the first model."""

    day: date
    rows: int
    served: float
    never: float
    version: int
    """Of the model that answered last."""


@dataclass(frozen=True)
class Story:
    """A replay's days in order, with the decisions taken after each."""

    days: tuple[Day, ...]
    decisions: tuple["Decision", ...]

    @property
    def log_loss(self) -> float:
        """As served, over all rows."""
        return _mean([(day.rows, day.served) for day in self.days])

    @property
    def log_loss_never(self) -> float:
        """Of the first model on the same rows."""
        return _mean([(day.rows, day.never) for day in self.days])

    @property
    def retrainings(self) -> tuple["Decision", ...]:
        """The decisions that started a training."""
        return tuple(decision for decision in self.decisions if decision.retrain)


def story_of(
    spec: UseCaseSpec,
    lake: "Lake",
    window: Window,
    features: "pl.DataFrame",
    first_model: ServedModel,
    decisions: Sequence["Decision"],
) -> Story:
    """The story of the days of ``window`` that have outcomes.

    ``features`` has the events' features by ``event_id``, as they were asked about; both losses
    are about the same rows. Raises PermanentError when no day has an outcome.
    """
    import polars as pl

    from mlops_assets.adapters.models import read_model
    from mlops_assets.core.inference import encode_frame, predict
    from mlops_assets.core.metrics import log_losses

    table = table_name(spec, "outcomes")
    present = [day for day in lake.states(table) if day in set(window.partitions)]
    if not present:
        raise PermanentError(
            f"{table} has no outcome between {window.first} and {window.end}: replay these days "
            "first"
        )
    read = lake.read(table, partitions=present)
    outcomes = cast("pl.DataFrame", pl.from_arrow(read)).filter(pl.col(LABEL).is_not_null())
    rows = outcomes.join(features.drop(EVENT_TIME), on=EVENT_ID, how="inner")
    model = read_model(spec.name, first_model)
    never = predict(model, encode_frame(rows, model.signature))
    labels = rows[LABEL].to_numpy().astype("float64")
    losses = rows.select(
        pl.col(EVENT_TIME).dt.convert_time_zone(spec.timezone).dt.date().alias("day"),
        EVENT_TIME,
        "model_version",
        pl.Series("served", log_losses(labels, rows["score"].to_numpy().astype("float64"))),
        pl.Series("never", log_losses(labels, never.astype("float64"))),
    )
    by_day = (
        losses.sort(EVENT_TIME)
        .group_by("day")
        .agg(
            pl.len().alias("rows"),
            pl.col("served").mean(),
            pl.col("never").mean(),
            pl.col("model_version").last().alias("version"),
        )
        .sort("day")
    )
    return Story(tuple(Day(**row) for row in by_day.iter_rows(named=True)), tuple(decisions))


def summary_of(story: Story) -> dict[str, object]:
    """The part ``replay`` of the demo's summary."""
    return {
        "days": len(story.days),
        "retrainings": len(story.retrainings),
        "log_loss": round(story.log_loss, 5),
        "log_loss_never": round(story.log_loss_never, 5),
        "decisions": [_decision(decision) for decision in story.decisions],
    }


def _decision(decision: "Decision") -> Mapping[str, object]:
    return {
        "day": decision.day.isoformat(),
        "retrain": decision.retrain,
        "put_off": decision.put_off,
        "champion": decision.champion_version,
        "reasons": list(decision.reasons),
    }


def _mean(parts: Sequence[tuple[int, float]]) -> float:
    rows = sum(count for count, _ in parts)
    return sum(count * loss for count, loss in parts) / rows if rows else float("nan")
