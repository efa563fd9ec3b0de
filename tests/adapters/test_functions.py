"""Functions are found in their source, and imported when they run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import PermanentError

SOURCES = """\
import json as reader
from math import sqrt

import library_that_is_not_installed

LIMIT = 3
_secret = 4


def rows():
    return LIMIT


class Rows:
    def inner(self):
        local = 1


if LIMIT:
    def sometimes():
        pass
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """The functions of a use case whose package can be imported."""
    folder = tmp_path / "team_functions" / "visits"
    (folder / "parts").mkdir(parents=True)
    (folder / "sources.py").write_text(SOURCES)
    (folder / "whole.py").write_text("LIMIT = 3\n\n\ndef rows():\n    return LIMIT\n")
    (folder / "parts" / "deep.py").write_text("def rows():\n    return 'deep'\n")
    (folder / "stars.py").write_text("from math import *\n")
    (folder / "lazy.py").write_text("def __getattr__(name):\n    return len\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Functions("team_functions.visits", folder)
    for name in [name for name in sys.modules if name.startswith("team_functions")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    [
        "sources:rows",
        "sources:Rows",
        "sources:sometimes",
        "sources:sqrt",
        "sources:reader",
        "parts.deep:rows",
        "stars:sqrt",
        "lazy:anything",
        "json:loads",
        "xml.etree.ElementTree:parse",
        "math:sqrt",
        "numpy.linalg:norm",
    ],
)
def test_a_function_that_is_there_has_no_problem(functions: Functions, name: str) -> None:
    """Defined, imported or in a branch; the team's own, installed, or compiled."""
    assert functions.problem(name) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("source:rows", "no module 'source', neither beside defs.yaml nor installed"),
        ("source:rows", "create visits/source.py"),
        ("parts.shallow:rows", "no module 'parts.shallow'"),
        ("json.nowhere:loads", "no module 'json.nowhere'"),
        ("sources:row", "sources defines no 'row'; it defines LIMIT, Rows,"),
        ("sources:inner", "sources defines no 'inner'"),
        ("sources:local", "sources defines no 'local'"),
        ("json:lods", "json defines no 'lods'"),
    ],
)
def test_a_function_that_is_not_there_is_a_problem_with_its_remedy(
    functions: Functions, name: str, says: str
) -> None:
    """What the module does define is listed, for whoever mistyped; private names are not."""
    problem = functions.problem(name)
    assert problem is not None
    assert says in problem
    assert "_secret" not in problem


def test_a_file_with_a_syntax_error_is_a_problem_with_its_line(functions: Functions) -> None:
    """No function of it can be called."""
    (functions.folder / "broken.py").write_text("limit = 3\n\ndef rows(:\n    pass\n")
    problem = functions.problem("broken:rows")
    assert problem is not None
    assert problem.startswith("broken.py, line 3: ")


def test_looking_for_functions_imports_nothing(functions: Functions) -> None:
    """Not the team's module, whose libraries may be missing, nor a package around a library's."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mlops_assets.adapters.functions import Functions\n"
        "functions = Functions('team_functions.visits', Path(sys.argv[1]))\n"
        "before = set(sys.modules)\n"
        "for name in sys.argv[2:]:\n"
        "    assert functions.problem(name) is None, functions.problem(name)\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    names = ["sources:rows", "stars:sqrt", "numpy.linalg:norm", "xml.etree.ElementTree:parse"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(functions.folder), *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_functions_are_imported_from_the_use_cases_package_or_by_their_full_name(
    functions: Functions,
) -> None:
    """A file beside defs.yaml comes before an installed module of its name."""
    (functions.folder / "json.py").write_text("def loads():\n    return 'own'\n")
    assert functions.resolve("whole:rows")() == 3
    assert functions.resolve("parts.deep:rows")() == "deep"
    assert functions.resolve("json:loads")() == "own"
    assert functions.resolve("math:sqrt")(9) == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:rows", "cannot load 'nowhere:rows' from nowhere"),
        ("whole:row", "has no attribute 'row'"),
        ("sources:rows", "library_that_is_not_installed"),
        ("whole:LIMIT", "is a int, not a function"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_runs(
    functions: Functions, name: str, says: str
) -> None:
    """Trying again does not help."""
    with pytest.raises(PermanentError, match=says):
        functions.resolve(name)
