"""Loads all use cases of a folder, quickly when they are sound.

Dagster's own loader parses YAML in Python to keep the place of every value, and imports every
component library that is installed. Both are paid at each start of a run, and only errors need
them. So sound files are read with libyaml, and what is not sound, or no use case, goes to Dagster's
loader, which names file and line and knows other components and Python modules too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import yaml

from mlops_assets.adapters.compute_profiles import profiles
from mlops_assets.adapters.functions import Functions
from mlops_assets.components.use_case import function_problems
from mlops_assets.core.compute_stages import compute_problems
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec, problems
from mlops_assets.lifecycle.use_case import use_case_definitions

_TYPE = "mlops_assets.components.UseCase"
_NAMES = ("defs.yaml", "defs.yml", "component.yaml")
"""What Dagster's loader takes for the description of a folder."""

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader


def load_use_cases(folder: Path, package: str) -> dg.Definitions:
    """All definitions in ``folder``, whose Python package is ``package``.

    Raises what Dagster's loader raises, with file and line, when a defs.yaml is wrong, and
    PermanentError when it is empty.
    """
    found: list[dg.Definitions] = []
    for path in _entries(folder):
        functions = Functions(".".join([package, *path.relative_to(folder).parts]), path)
        spec = _read(path / "defs.yaml")
        if spec is None or any(_problems(spec, functions)):
            return dg.load_from_defs_folder(path_within_project=folder)
        found.append(use_case_definitions(spec, functions))
    return dg.Definitions.merge(*found)


def _entries(folder: Path) -> Iterator[Path]:
    """What Dagster's loader finds in ``folder``: folders with a defs.yaml, and anything else."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or _says_nothing(path):
            continue
        if path.is_dir() and not any((path / name).exists() for name in _NAMES):
            yield from _entries(path)
        elif path.is_dir() or path.suffix == ".py" or path.name in _NAMES:
            yield path


def _says_nothing(path: Path) -> bool:
    """Whether ``path`` is an ``__init__.py`` with a docstring at most."""
    if path.name != "__init__.py":
        return False
    try:
        return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_bytes()).body)
    except SyntaxError:
        return False


def _read(path: Path) -> UseCaseSpec | None:
    """The use case in ``path``; None when it is anything else than one sound use case."""
    try:
        document = yaml.load(path.read_bytes(), Loader=_Loader)
        if document is None:  # Dagster's loader refuses it too, but names no file.
            raise PermanentError(f"{path} is empty: describe a use case in it, or remove it")
        if set(document) != {"type", "attributes"} or document["type"] != _TYPE:
            return None
        return UseCaseSpec.model_validate(document["attributes"])
    except (OSError, yaml.YAMLError, ValueError, TypeError):
        return None


def _problems(spec: UseCaseSpec, functions: Functions) -> Iterator[object]:
    yield from problems(spec)
    yield from compute_problems(spec, profiles())
    yield from function_problems(spec, functions)
