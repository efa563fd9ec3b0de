"""What ``dg scaffold defs mlops_assets.components.UseCase NAME`` writes: a folder to fill in."""

import dagster as dg

_DEFS = """\
type: mlops_assets.components.UseCase

attributes:
  name: {name}
  description: The question that the model answers.
  owners: ["team:{name}"]
  timezone: UTC
  start: 2024-01-01

  datasets:
    observations:
      description: One row per thing to predict for, and what became of it.
      source: sources:observations
      columns:
        id: string
        happened_at: timestamp
        known_at: timestamp
        customer: string
        amount: float64
        outcome: int32
      key: [id]
      event_time: happened_at

  feature_views:
    amounts:
      description: What is known about the event itself.
      function: features:amounts
      datasets: [observations]
      entity: [event_id]
      ttl_hours: 24
      features:
        amount: float

  events:
    dataset: observations
    function: features:events
  label:
    name: outcome
    description: A 1 means that it happened.
    dataset: observations
    function: features:outcome

  training_set:
    end: 2024-03-01
    days: 60
  gate:
    rules:
      - {{metric: log_loss, against: base_rate, at_least: 0}}
      - {{metric: log_loss, against: champion, at_least: 0}}
"""

_SOURCES = '''\
"""Where the datasets of {name} come from."""

import polars as pl

from mlops_assets.core.windows import Window


def observations(window: Window) -> pl.DataFrame:
    """Rows whose happened_at is in [window.start_time, window.end_time), as defs.yaml declares."""
    raise NotImplementedError("read the rows of the window from your source")
'''

_FEATURES = '''\
"""Events, features and the label of {name}."""

import polars as pl

from mlops_assets.core.windows import Window


def events(window: Window, observations: pl.DataFrame) -> pl.DataFrame:
    """One row per event: event_id, event_time and the entities of all feature views."""
    return observations.select(
        pl.col("id").alias("event_id"), pl.col("happened_at").alias("event_time")
    )


def amounts(window: Window, observations: pl.DataFrame) -> pl.DataFrame:
    """The amount of each event, known when the event happens."""
    return observations.select(
        pl.col("id").alias("event_id"),
        pl.col("happened_at").alias("event_time"),
        pl.col("happened_at").alias("known_at"),
        pl.col("amount").cast(pl.Float32),
    )


def outcome(window: Window, observations: pl.DataFrame) -> pl.DataFrame:
    """What became of each event, and when that was known."""
    return observations.select(
        pl.col("id").alias("event_id"),
        pl.col("outcome").cast(pl.Int8).alias("label"),
        "known_at",
    )
'''


class UseCaseScaffolder(dg.Scaffolder):
    """Writes defs.yaml, sources.py and features.py; what is there already is not touched."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the files of a new use case into ``request.target_path``."""
        folder = request.target_path
        folder.mkdir(parents=True, exist_ok=True)
        files = {"defs.yaml": _DEFS, "sources.py": _SOURCES, "features.py": _FEATURES}
        for name, text in files.items():
            if not (folder / name).exists():
                (folder / name).write_text(text.format(name=folder.name))
