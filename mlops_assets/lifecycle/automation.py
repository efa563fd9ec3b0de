"""What follows from new data by itself: the condition of every stage with days, and its sensor."""

from collections.abc import Collection

import dagster as dg

from mlops_assets.lifecycle import switches

SENSOR = "automation"

AC = dg.AutomationCondition


def carries(
    undated: Collection[dg.AssetKey] = (),
    *,
    compared: bool = False,
    optional: Collection[dg.AssetKey] = (),
) -> dg.AutomationCondition:
    """Whether a partition follows: it is missing, or what it depends on has other content.

    A partition is requested when all its dependencies are there and nothing is under way. It is
    requested once: after a failed run it is tried once more, and then it waits for other content.

    ``undated`` are dependencies without days, as a table of airlines or the endpoint: they have to
    be there, but other content in them does not re-open every day.

    ``optional`` are dependencies that are followed, and not waited for.

    ``compared`` is a stage that writes down what it was made of. For it, a run that somebody else
    started counts too, and a change during a run is found by the sensor of new data. Any other
    stage follows each change by a request of its own.
    """
    changed = AC.any_deps_match(AC.data_version_changed())
    if undated:
        changed = changed.ignore(dg.AssetSelection.assets(*undated))
    absent = AC.any_deps_match(AC.missing())
    if optional:
        absent = absent.ignore(dg.AssetSelection.assets(*optional))
    requested, updated = AC.newly_requested(), AC.newly_updated()
    wanted = (
        (AC.newly_missing() | changed).since(requested | updated)
        if compared
        # What changed since the last tick changed after whatever that tick requested.
        else AC.newly_missing().since(requested | updated) | changed.since(requested & ~changed)
    )
    # A partition stays failed, for Dagster, until a run of it succeeds. So one that is requested
    # and was failed before is tried again, however soon after a tick it fails.
    failed = AC.execution_failed()
    retried = (requested & failed & ~failed.newly_true()).since(updated)
    return (
        (
            wanted.with_label("new, or of other content")
            | (failed & ~retried).with_label("failed, and not tried again")
        )
        & ~(
            absent
            | AC.any_deps_match(
                AC.run_in_progress() | AC.backfill_in_progress() | AC.will_be_requested()
            )
        ).with_label("a dependency is missing or under way")
        & ~AC.in_progress()
    ).with_label("carries")


def automation_sensor(name: str = SENSOR) -> dg.AutomationConditionSensorDefinition:
    """The one sensor that evaluates the conditions of all assets.

    Partitions in a row become one run: the daemon turns a request for several into a backfill, and
    the assets' backfill policies make one run of each range of days.
    """
    return dg.AutomationConditionSensorDefinition(
        name,
        target=dg.AssetSelection.all(),
        default_status=switches.default_status(name),
        description="Carries new and changed partitions through the stages that follow.",
    )
