"""The names and types that the parts of defs.yaml share, and those that are the platform's own."""

from typing import Annotated, Literal

from pydantic import StringConstraints

EVENT_ID = "event_id"
EVENT_TIME = "event_time"
KNOWN_AT = "known_at"
LABEL = "label"

STAGES = (
    *("training_set", "model", "evaluation", "promotion", "endpoint", "predictions"),
    *("prediction_log", "outcomes", "drift", "performance", "retraining", "backtest"),
)
"""The assets that every use case has, beside its datasets and feature views."""

RESERVED_TABLES = (
    *STAGES,
    *("training_sets", "profiles", "day_profiles", "references"),
    *("performance_days", "retraining_decisions", "tuning", "alerts", "alert_deliveries"),
    *("online_features", "parity"),
    *("promotions", "rollout", "rollout_evidence"),
)
"""Tables and assets of the platform's own: no dataset or feature view has such a name."""

RESERVED_COLUMNS = (
    *(EVENT_ID, EVENT_TIME, KNOWN_AT, LABEL),
    # Columns that the stages put beside the features.
    *("asked_at", "day", "part", "score"),
)
"""Columns of the platform's own: no feature has such a name."""

ColumnType = Literal["string", "bool", "int32", "int64", "float32", "float64", "timestamp"]
"""A dataset column's type; ``timestamp`` is an instant in UTC, in microseconds."""

FeatureType = Literal["category", "float"]
"""A feature's type: ``category`` is a string, ``float`` is 32 bits; both may be null."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]

# What the UI accepts: it names neither file nor line when it refuses one.
Owner = Annotated[
    str,
    StringConstraints(pattern=r"^(team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"),
]
Kind = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]
