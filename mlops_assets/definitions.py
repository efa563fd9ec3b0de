"""The code location: loads defs/ and binds the resources of the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from mlops_assets.components.loading import load_use_cases
from mlops_assets.lifecycle.platform import Places, resources_at

STATE = Path(os.environ.get("MLOPS_STATE") or Path(__file__).parents[1] / ".mlops").resolve()
"""Where the local environment keeps everything."""


def local_places() -> Places:
    """Where the local environment keeps things."""
    return Places.under(STATE)


def _remote() -> Places:
    # Read when a run starts, not here: neither an address nor a secret is needed to load.
    return Places(
        lake=dg.EnvVar("MLOPS_LAKE_URL"),
        tracking=dg.EnvVar("MLFLOW_TRACKING_URI"),
        artifacts=dg.EnvVar("MLOPS_ARTIFACTS_URL"),
        reports=dg.EnvVar("MLOPS_REPORTS_URL"),
        documents=dg.EnvVar("MLOPS_DOCUMENTS_URL"),
        endpoints=str(STATE / "endpoints"),
    )


ENVIRONMENTS = {"local": local_places, "staging": _remote, "production": _remote}
"""Where things are, by the value of MLOPS_ENV. Nothing else looks at it."""


def resources(environment: str) -> Mapping[str, object]:
    """The Dagster resources of an environment."""
    if environment not in ENVIRONMENTS:
        raise ValueError(
            f"MLOPS_ENV is {environment!r}; it has to be one of {', '.join(ENVIRONMENTS)}"
        )
    return resources_at(ENVIRONMENTS[environment]())


@dg.definitions
def defs() -> dg.Definitions:
    """All use cases of defs/, with the resources of MLOPS_ENV."""
    return dg.Definitions.merge(
        load_use_cases(Path(__file__).parent / "defs", "mlops_assets.defs"),
        dg.Definitions(
            resources=resources(os.environ.get("MLOPS_ENV", "local")),
            # One process for all steps: a process per step costs more than most steps do.
            executor=dg.in_process_executor,
        ),
    )
