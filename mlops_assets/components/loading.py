"""Loads all use cases of a folder, quickly when they are sound.

Dagster's own loader parses YAML in Python to keep the place of every value, and imports every
component library that is installed. Both are paid at each start of a run, and only errors need
them. So sound files are read with libyaml, and what is not sound goes to Dagster's loader, which
names file and line.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import yaml

from mlops_assets.adapters.functions import Functions
from mlops_assets.components.use_case import function_problems
from mlops_assets.core.spec import UseCaseSpec, problems
from mlops_assets.lifecycle.use_case import use_case_definitions

_TYPE = "mlops_assets.components.UseCase"

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader


def load_use_cases(folder: Path, package: str) -> dg.Definitions:
    """The definitions of all use cases in ``folder``, whose Python package is ``package``.

    Raises what Dagster's loader raises, with file and line, when a defs.yaml is wrong.
    """
    found: list[dg.Definitions] = []
    for path in sorted(folder.rglob("defs.yaml")):
        relative = path.parent.relative_to(folder)
        functions = Functions(".".join([package, *relative.parts]), path.parent)
        spec = _read(path)
        if spec is None or any(_problems(spec, functions)):
            return dg.load_from_defs_folder(path_within_project=folder)
        found.append(use_case_definitions(spec, functions))
    return dg.Definitions.merge(*found)


def _read(path: Path) -> UseCaseSpec | None:
    """The use case in ``path``; None when it is anything else than one sound use case."""
    try:
        document = yaml.load(path.read_bytes(), Loader=_Loader)
        if set(document) != {"type", "attributes"} or document["type"] != _TYPE:
            return None
        return UseCaseSpec.model_validate(document["attributes"])
    except (yaml.YAMLError, ValueError, TypeError):
        return None


def _problems(spec: UseCaseSpec, functions: Functions) -> Iterator[object]:
    yield from problems(spec)
    yield from function_problems(spec, functions)
