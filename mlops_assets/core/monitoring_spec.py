"""What a team writes about monitoring: the fields of ``monitoring`` in defs.yaml."""

from pydantic import Field

from mlops_assets.core.spec_part import Spec


class MonitoringSpec(Spec):
    """How the champion is watched."""

    window_days: int = Field(
        default=7,
        ge=5,
        le=92,
        description="Days of the window whose drift and performance are judged, in days; a whole "
        "week has each weekday once. Default: 7.",
    )
    drift_distance: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Level of the Jensen-Shannon distance (0 to 1) from which a column has "
        "drifted. Default: 0.1.",
    )
    drift_of_model: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Level of the drift number (0 to 1), weighted by importance, from which the "
        "model drifts. Default: 0.05.",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="Level of excess log-loss (nats) over the champion's own holdout, above which "
        "its performance has fallen. Default: 0.",
    )
    report_rows: int = Field(
        default=2000,
        ge=100,
        le=50_000,
        description="Most rows per side in the report on drift, in rows. Default: 2000.",
    )
    skew_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest share of answers (0 to 1) that may have seen other features than the "
        "lake has. Default: 0.01.",
    )
