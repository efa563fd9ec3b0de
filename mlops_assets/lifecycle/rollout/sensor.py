"""The sensor that applies a use case's rollout policy."""

import dagster as dg

from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.rollout.asset import ROLLOUT
from mlops_assets.lifecycle.rollout.tick import parsed, tick
from mlops_assets.lifecycle.switches import default_status

INTERVAL_SECONDS = 10
"""Replicas report every five seconds, and Dagster's daemon looks at sensors every five: more often
finds nothing new. A model that fails is stood in for by the other one meanwhile; what else takes a
model back, hours decide."""


def rollout_sensor(spec: UseCaseSpec) -> dg.SensorDefinition:
    """The sensor that decides about the use case's challengers, step by step."""
    name = f"{spec.name}_rollout"
    key = asset_key(spec, ROLLOUT)

    @dg.sensor(
        name=name,
        description=f"Decides how far a challenger of {spec.name} gets, and takes it back.",
        asset_selection=dg.AssetSelection.assets(key),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status(name),
    )
    def _rollout(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        from mlops_assets import clock

        found = tick(spec, platform, parsed(context.cursor), clock.now())
        for line in found.log:
            context.log.info(line)
        requests = [] if found.changed is None else [_shown(spec, key, found.changed)]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(found.message),
            cursor=found.cursor.model_dump_json(),
        )

    return _rollout


def _shown(spec: UseCaseSpec, key: dg.AssetKey, entry: int) -> dg.RunRequest:
    """The run that shows what has changed."""
    return dg.RunRequest(
        run_key=f"{spec.name}/rollout/{entry}",
        asset_selection=[key],
        tags={"mlops/use_case": spec.name},
    )
