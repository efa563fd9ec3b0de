"""What the sources of a use case have, asked without keeping any of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.arrivals import UNDATED, days_to_read, groups
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import PartitionInputs
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import window_of
from mlops_assets.lifecycle.datasets import inventory, read_source_days
from mlops_assets.lifecycle.platform import Platform

MOST_DAYS_READ = 31
"""Days that a tick reads from one source for the first time, where only rows tell what it has."""

LOG_DAYS = 7
"""Newest days whose prediction log is looked at again; a server adds to no hour that is over."""


@dataclass(frozen=True)
class Had:
    """What a source has."""

    versions: Mapping[str, str]
    """By partition; another one when the partition's rows are."""
    after: str = ""
    """The day behind which to look first the next time; empty for the first."""
    said: tuple[str, ...] = ()
    """What is wrong with it."""


@dataclass(frozen=True)
class Source:
    """Something outside that the partitions of ``asset`` come from."""

    asset: str
    look: Callable[[Platform, Sequence[str], Mapping[str, PartitionInputs], str], Had]
    """What it has of some days, given what is recorded of the asset, looking first behind a day."""


def sources_of(spec: UseCaseSpec, functions: Functions) -> tuple[Source, ...]:
    """The sources of the use case's datasets, and its prediction log."""
    return (
        *(dataset_source(spec, functions, name) for name in spec.datasets),
        prediction_log_source(spec),
    )


def dataset_source(spec: UseCaseSpec, functions: Functions, name: str) -> Source:
    """The source of the dataset ``name``: by its inventory, or else by reading some days."""
    dataset = spec.datasets[name]

    def undated(
        platform: Platform,
        days: Sequence[str],
        recorded: Mapping[str, PartitionInputs],
        after: str,
    ) -> Had:
        del platform, days, after
        if dataset.inventory is not None:
            return Had(inventory(spec, functions, name, None))
        # Nothing but its rows tells whether it changed: it is read once.
        known = recorded.get(UNDATED)
        return Had({UNDATED: "" if known is None else known.inputs})

    def dated(
        platform: Platform,
        days: Sequence[str],
        recorded: Mapping[str, PartitionInputs],
        after: str,
    ) -> Had:
        del platform
        if not days:
            return Had({})
        if dataset.inventory is not None:
            return Had(inventory(spec, functions, name, days))
        # A refused day is looked at until it is repaired, however old it is.
        sound = {day for day, entry in recorded.items() if entry.digest}
        missing, late = days_to_read(sound, days, dataset.late_days, MOST_DAYS_READ, after)
        found: dict[str, str] = {}
        wrong: list[str] = []
        for group in groups({name: [*missing, *late]}, days):
            read = read_source_days(spec, functions, name, group.days)
            found |= read.versions
            wrong += [
                f"the source of {name} failed for {day}: {type(error).__name__}: {error}"
                for day, error in read.refused.items()
                if not isinstance(error, PermanentError)
            ]
        full = len(missing) == MOST_DAYS_READ and not any(day in found for day in missing)
        return Had(found, missing[-1] if full else after, tuple(wrong))

    return Source(name, dated if dataset.partitioned else undated)


def prediction_log_source(spec: UseCaseSpec) -> Source:
    """The files of the endpoint's prediction log."""

    def look(
        platform: Platform,
        days: Sequence[str],
        recorded: Mapping[str, PartitionInputs],
        after: str,
    ) -> Had:
        from mlops_assets.adapters.endpoints.targets import prediction_log_of
        from mlops_assets.adapters.prediction_logs import log_versions

        del after
        if not days:
            return Had({})
        log_dir = prediction_log_of(spec.name, platform.endpoints_url, platform.documents_url)
        settled = {
            day: recorded[day].inputs
            for day in days[:-LOG_DAYS]
            if day in recorded and recorded[day].digest
        }
        return Had(log_versions(log_dir, window_of(days, spec.timezone), settled) | settled)

    return Source("prediction_log", look)
