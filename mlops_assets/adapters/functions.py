"""A use case's own Python functions, named in YAML as ``module:function``.

They are resolved when they run, so that loading definitions imports none of a team's libraries.
Whether they exist is checked in their source, without importing it.
"""

import dis
import functools
import importlib
import importlib.machinery
import importlib.util
import types
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

    def full_name(self, name: str) -> str:
        """``module:function`` as any process of this code finds it."""
        module, _, function = name.partition(":")
        return f"{self.package}.{module}:{function}" if self._is_own(module) else name

    def problem(self, name: str) -> str | None:
        """Why ``module:function`` cannot be called, read without importing it; None when it can."""
        module, _, function = name.partition(":")
        try:
            if function in _own_functions(self.folder, module):
                return None
            defined = _own_names(self.folder, module)
            if defined is None:
                defined = _installed_names(module)
        except SyntaxError as error:
            return f"{Path(error.filename or module).name}, line {error.lineno}: {error.msg}"
        if defined is None:
            return (
                f"there is no module {module!r}, neither beside defs.yaml nor installed; "
                f"create {self.folder.name}/{module}.py or correct the name"
            )
        if function not in defined and _ANY not in defined:
            known = ", ".join(sorted(n for n in defined if not n.startswith("_"))) or "nothing"
            return f"{module} defines no {function!r}; it defines {known}"
        return None

    def _is_own(self, module: str) -> bool:
        return _own_source(self.folder, module).exists()


_ANY = "*"
"""Among the names of a module that has more of them than can be read from its own code."""


def _own_source(folder: Path, module: str) -> Path:
    return (folder / module.replace(".", "/")).with_suffix(".py")


@functools.cache
def _own_functions(folder: Path, module: str) -> frozenset[str]:
    """Names of the functions and classes that the module's code makes: all that most need."""
    source = _own_source(folder, module)
    code = _code_of(source) if source.exists() else None
    constants = code.co_consts if code is not None else ()
    return frozenset(c.co_name for c in constants if isinstance(c, types.CodeType))


@functools.cache
def _own_names(folder: Path, module: str) -> frozenset[str] | None:
    source = _own_source(folder, module)
    return _defined_names(source) if source.exists() else None


@functools.cache
def _installed_names(module: str) -> frozenset[str] | None:
    try:
        spec = _find(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    if not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        return frozenset({_ANY})  # compiled or built in
    return _defined_names(Path(spec.origin))


def _find(module: str) -> importlib.machinery.ModuleSpec | None:
    """Where ``module`` is installed; unlike importlib's own, imports no package around it."""
    name, *rest = module.split(".")
    spec = importlib.util.find_spec(name)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec


def _code_of(source: Path) -> types.CodeType | None:
    """The module's bytecode, which Python keeps beside the source: no need to parse again."""
    return importlib.machinery.SourceFileLoader(source.stem, str(source)).get_code(source.stem)


def _defined_names(source: Path) -> frozenset[str]:
    """Names that the module assigns at its top level."""
    code = _code_of(source)
    if code is None:
        return frozenset()
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_NAME"
    }
    # ``from x import *`` and a module's __getattr__ give names that stand nowhere in it.
    more = (_ANY,) in code.co_consts or "__getattr__" in names
    return frozenset(names | {_ANY} if more else names)
