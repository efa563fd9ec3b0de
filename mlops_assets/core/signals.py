"""From what monitoring has found to what a retraining policy is given."""

from datetime import date, timedelta

from mlops_assets.core.monitoring_records import DriftRecord, LossRecord, PerformanceRecord
from mlops_assets.core.retraining_records import DriftSignal, PerformanceSignal, Signals

MOST_LAG = timedelta(days=3)
"""By how much one record may be behind the other. A stage that has stopped for longer is another's
alert; it must not keep the signals on its last day, on which nothing new can ask for a training."""


def signals_of(
    use_case: str,
    drift: DriftRecord | None,
    performance: PerformanceRecord | None,
    champion_version: int,
    trained_until: date,
    stale_inputs: tuple[str, ...] = (),
) -> Signals | None:
    """What is known about version ``champion_version``, trained until the day ``trained_until``.

    None as long as neither record is about that version. The day is the newest that both speak
    about; a record that is more than MOST_LAG behind the other says nothing any more. How far
    labels have come does not depend on the version.
    """
    about = [
        record
        for record in (drift, performance)
        if record is not None and record.model_version == champion_version
    ]
    if not about:
        return None
    newest = max(record.day for record in about)
    recent = [record for record in about if newest - record.day <= MOST_LAG]
    drifted = drift if drift in recent else None
    performed = performance if performance in recent else None
    return Signals(
        use_case=use_case,
        day=min(record.day for record in recent),
        champion_version=champion_version,
        trained_until=trained_until,
        drift=None
        if drifted is None
        else DriftSignal(weighted=drifted.drift, drifted=drifted.drifted),
        realized=_loss(performed.realized) if performed is not None else None,
        estimated=_loss(performed.estimated) if performed is not None else None,
        labelled_until=None if performance is None else performance.labelled_until,
        stale_inputs=stale_inputs,
    )


def _loss(found: LossRecord | None) -> PerformanceSignal | None:
    """None without an interval: too few days to tell a loss from noise."""
    if found is None or found.low is None or found.high is None:
        return None
    return PerformanceSignal(
        loss=found.loss,
        # An interval from resampled days may leave out the loss itself by a hair.
        low=min(found.low, found.loss),
        high=max(found.high, found.loss),
        reference=found.reference,
    )
