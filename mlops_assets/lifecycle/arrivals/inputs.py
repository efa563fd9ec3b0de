"""What the partitions of views and later stages are made of, and where that is written down."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.arrivals import Inputs, Reads, Stage, inputs_of
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import table_name, view_lookback_days
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.publish import Published

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake


def view_stage(spec: UseCaseSpec, name: str) -> Stage:
    """The feature view ``name``, and the datasets that it reads.

    A dataset without days does not count for a view that has them: other content in it would
    re-open every day.
    """
    view = spec.feature_views[name]
    return Stage(
        name,
        tuple(
            Reads(source, view.lookback_days)
            for source in view.datasets
            if spec.datasets[source].partitioned == view.partitioned
        ),
        dated=view.partitioned,
    )


def predictions_stage(spec: UseCaseSpec) -> Stage:
    """The batch predictions, and the events and views that they read."""
    views = {name: view for name, view in spec.feature_views.items() if view.partitioned}
    return Stage(
        "predictions",
        (
            Reads(spec.events.dataset),
            *(Reads(name, view_lookback_days(view)) for name, view in views.items()),
        ),
    )


def stages_of(spec: UseCaseSpec) -> tuple[Stage, ...]:
    """The stages whose partitions read other days than their own, each behind what it reads."""
    return (*(view_stage(spec, name) for name in spec.feature_views), predictions_stage(spec))


def inputs_now(
    spec: UseCaseSpec, stage: Stage, lake: "Lake", partitions: Collection[str] | None
) -> dict[str, Inputs]:
    """What ``partitions`` (None for a table without days) of ``stage`` would be made of now.

    Ask before the rows are read: what changes in between then counts as a change.
    """
    digests = {
        reads.table: {
            partition: state.digest
            for partition, state in lake.states(table_name(spec, reads.table)).items()
        }
        for reads in stage.reads
    }
    if partitions is None:
        return inputs_of(stage, (), digests)
    last = date.fromisoformat(max(partitions))
    days = Window(spec.start, last + timedelta(days=1), spec.timezone).partitions
    return inputs_of(stage, days, digests, set(partitions))


def blocked(spec: UseCaseSpec, inputs: Mapping[str, Inputs]) -> dict[str, str]:
    """Partitions that need something that is not in the lake, with the reason."""
    return {
        partition: f"it needs {found.missing[0].partition(' ')[2]} of "
        f"{table_name(spec, found.missing[0].partition(' ')[0])}, which is not in the lake: it was "
        "refused by its checks or never materialized"
        for partition, found in inputs.items()
        if found.missing
    }


def digests_of(published: Published) -> dict[str, str]:
    """The content of each partition that is in the table after ``published``."""
    write = published.write
    states = () if write is None else (*write.written, *write.unchanged)
    return {
        state.partition: state.digest
        for state in states
        if state.partition not in published.refused
    }


def entries_of(inputs: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, PartitionInputs]:
    """What to write down: partitions without a digest were refused, or lack something."""
    return {
        partition: PartitionInputs(inputs=made_of, digest=digests.get(partition, ""))
        for partition, made_of in inputs.items()
    }


@contextmanager
def recording(
    platform: Platform, spec: UseCaseSpec, name: str, entries: Mapping[str, PartitionInputs]
) -> Iterator[None]:
    """Write down ``entries`` once Dagster has the events of the block, or its refusal.

    The other way round, a crash in between would leave a partition that nobody asks for again.
    """
    from mlops_assets.adapters.inputs import record

    try:
        yield
    except (dg.Failure, PermanentError):
        record(platform.documents_url, spec.name, name, entries)
        raise
    record(platform.documents_url, spec.name, name, entries)
