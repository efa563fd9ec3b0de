"""A use case's own Python functions, named in YAML as ``module:function``.

They are resolved when they run, so that loading definitions imports none of a team's libraries.
Whether they exist is checked in their source, without importing it.
"""

import ast
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlops_assets.core.errors import PermanentError


@dataclass(frozen=True)
class Functions:
    """The functions of the package ``package``, and of any other by its full name.

    ``folder`` is where the package's files are.
    """

    package: str
    folder: Path

    def resolve(self, name: str) -> Callable[..., object]:
        """The function ``module:function``; PermanentError when it is not there."""
        module, _, function = name.partition(":")
        path = f"{self.package}.{module}" if self._is_own(module) else module
        try:
            found = getattr(importlib.import_module(path), function)
        except (ImportError, AttributeError) as error:
            raise PermanentError(f"cannot load {name!r} from {path}: {error}") from error
        if not callable(found):
            raise PermanentError(f"{name!r} is a {type(found).__name__}, not a function")
        return cast("Callable[..., object]", found)

    def problem(self, name: str) -> str | None:
        """Why ``module:function`` cannot be called, read from its source; None when it can."""
        module, _, function = name.partition(":")
        if self._is_own(module):
            source = self._source(module)
        else:
            try:
                spec = importlib.util.find_spec(module)
            except (ImportError, ValueError):
                spec = None
            if spec is None or spec.origin is None:
                return (
                    f"there is no module {module!r}, neither beside defs.yaml nor installed; "
                    f"create {self.folder.name}/{module}.py or correct the name"
                )
            source = Path(spec.origin)
        try:
            defined = _defined_names(source)
        except SyntaxError as error:
            return f"{source.name}, line {error.lineno}: {error.msg}"
        if function not in defined:
            known = ", ".join(sorted(n for n in defined if not n.startswith("_"))) or "nothing"
            return f"{source.name} defines no {function!r}; it defines {known}"
        return None

    def _is_own(self, module: str) -> bool:
        return self._source(module).exists()

    def _source(self, module: str) -> Path:
        return (self.folder / module.replace(".", "/")).with_suffix(".py")


def _defined_names(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(source.read_bytes(), str(source)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return names
