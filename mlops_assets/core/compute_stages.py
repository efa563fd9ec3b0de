"""Which compute profile each asset of a use case runs with."""

from collections.abc import Iterator, Mapping

from mlops_assets.core.compute import ComputeProfile
from mlops_assets.core.errors import SpecError
from mlops_assets.core.spec import STAGES, UseCaseSpec

DEFAULTS = {"model": "gpu_spot", "tuning": "gpu_spot", "backtest": "cpu_spot"}
"""What trains for long goes to spot nodes; everything else takes less than starting a pod does."""

_OTHERS = "cpu"

_NOT_RUN = "retraining"
"""The stage that is decided by a sensor, and runs nowhere."""

IN_THE_WORKER = {
    "promotion": "write the ledger",
    "endpoint": "deploy an endpoint",
    "rollout_evidence": "read the ledger",
    "rollout": "change what is served",
    "online_features": "write the online store",
}
"""Stages that need rights which a step's own pod has not: it runs the code of teams, on nodes that
may be gone in two minutes."""


def profile_name(spec: UseCaseSpec, asset: str) -> str:
    """The name of the compute profile of the use case's asset."""
    return spec.compute.get(asset, DEFAULTS.get(asset, _OTHERS))


def compute_problems(
    spec: UseCaseSpec, profiles: Mapping[str, ComputeProfile]
) -> Iterator[SpecError]:
    """Each entry of the use case's ``compute`` that names no asset, or no profile that fits it."""
    assets = [
        *spec.datasets,
        *spec.feature_views,
        *(stage for stage in STAGES if stage != _NOT_RUN),
        *(["tuning"] if spec.tuning is not None else []),
        *(["online_features", "parity"] if spec.online is not None else []),
        *(["rollout_evidence", "rollout"] if spec.rollout.strategy == "guarded" else []),
    ]
    for asset, name in spec.compute.items():
        at = ("compute", asset)
        if asset not in assets:
            known = ", ".join(assets)
            yield SpecError(at, f"there is no asset {asset!r} that runs; known: {known}")
        elif name not in profiles:
            yield SpecError(
                at, f"there is no compute profile {name!r}; known: {', '.join(profiles)}"
            )
        elif asset in IN_THE_WORKER and profiles[name].pod == "own":
            yield SpecError(
                at,
                f"profile {name!r} has a pod of its own, which may not "
                f"{IN_THE_WORKER[asset]}; choose one with pod: worker",
            )
