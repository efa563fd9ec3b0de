"""The sensors of all use cases, running as the environment says, each one named."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import dagster as dg
import yaml
from pydantic import TypeAdapter, ValidationError

from mlops_assets.components.loading import load_use_cases
from mlops_assets.core.errors import PermanentError
from mlops_assets.lifecycle.automation import automation_sensor
from mlops_assets.lifecycle.switches import running

Named = Mapping[str, Literal["running", "stopped"]]
Sensors = Literal["all", "none"] | Named
"""All, none, or each sensor by name."""

_FILE = TypeAdapter(dict[str, Literal["all", "none"] | dict[str, Literal["running", "stopped"]]])


def sensors_of(path: Path, environment: str) -> Sensors:
    """What the file ``path`` says about ``environment``; PermanentError when it says nothing."""
    try:
        said = _FILE.validate_python(yaml.safe_load(path.read_bytes()))
    except (yaml.YAMLError, ValidationError) as error:
        raise PermanentError(
            f"{path}: each environment is `all`, `none`, or names of sensors that are `running` "
            f"or `stopped` ({error})"
        ) from error
    if environment not in said:
        raise PermanentError(
            f"{path} says nothing about the environment {environment!r}; add it, with `all`, "
            "`none` or each sensor's name"
        )
    return said[environment]


def load_with_sensors(
    folder: Path,
    package: str,
    sensors: Sensors,
    others: Callable[[], Sequence[dg.SensorDefinition]] = list,
) -> dg.Definitions:
    """All use cases in ``folder``, and what carries new data through them.

    ``others`` are sensors that no use case has. Raises PermanentError where sensors are named and
    one is missing, or unknown.
    """
    named = sensors if isinstance(sensors, Mapping) else None

    def runs(name: str) -> bool:
        return sensors == "all" if named is None else named.get(name) == "running"

    with running(runs) as defined:
        found = dg.Definitions.merge(
            load_use_cases(folder, package),
            dg.Definitions(sensors=[automation_sensor(), *others()]),
        )
    if named is not None and defined != set(named):
        missing, unknown = sorted(defined - set(named)), sorted(set(named) - defined)
        raise PermanentError(
            "each sensor has to be named in sensors.yaml for this environment"
            + (f"; add {', '.join(missing)}, as running or stopped" if missing else "")
            + (f"; remove {', '.join(unknown)}, which no use case has" if unknown else "")
        )
    return found
