"""The images: what goes into them, by which user they run, and that it is pinned."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from serving_support import tiny_model

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deployments" / "images"
TARGETS = ("code-location", "training", "server")
LOCKS = {
    "code-location": ("platform", "code-location", "example"),
    "training": ("platform", "training", "example"),
    "server": ("server",),
}
"""What each target installs, in this order."""

ONLY_THE_LOCK = """
import hashlib, importlib.abc, pkgutil, sys
absent, model = set(sys.argv[1].split(",")), sys.argv[2]
class OnlyTheLock(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r} in the image", name=name)
sys.meta_path.insert(0, OnlyTheLock())
import mlops_assets.serving
for module in pkgutil.iter_modules(mlops_assets.serving.__path__):
    if module.name != "online_computed":  # for an image with polars and a use case's code
        importlib.import_module(f"mlops_assets.serving.{module.name}")
from mlops_assets.core.inference import load_model
data = open(model, "rb").read()
load_model(data, hashlib.sha256(data).hexdigest())
import botocore.session
botocore.session.Session().create_client("s3", region_name="eu-west-1")
print("served")
"""
"""A process that does not see the modules in argv[1] does what a model server does."""


OLDEST = {"python_full_version": "3.11.2"}
"""Debian's Python, which the images may be built on: it needs a backport or two."""


def _stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's instructions by stage, the FROM of each first."""
    text = re.sub(r"^#.*\n", "", (IMAGES / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            rest, _, name = rest.partition(" AS ")
            stages[name] = []
        if word:
            stages[name].append((word, rest.strip()))
    return stages


STAGES = _stages()


def _image(target: str) -> list[tuple[str, str]]:
    """The instructions that make ``target``, those of the stages below it first."""
    own = STAGES[target]
    parent = own[0][1]
    return [*_image(parent), *own[1:]] if parent in STAGES else own


def _pins(*locks: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by package; of a universal lock, the lines that hold in an image."""
    pins: dict[str, tuple[str, frozenset[str]]] = {}
    for lock in locks:
        for block in re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE):
            line = re.match(r"[A-Za-z0-9][^\\\n]*==[^\\\n]*", block)
            if line is None:
                continue
            pin = Requirement(line[0].strip())
            if pin.marker is None or pin.marker.evaluate(OLDEST):
                version = str(pin.specifier).removeprefix("==")
                hashes = frozenset(re.findall(r"--hash=(\S+)", block))
                pins[canonicalize_name(pin.name)] = (version, hashes)
    return pins


def _of_image(target: str) -> dict[str, tuple[str, frozenset[str]]]:
    return _pins(*(IMAGES / f"{name}.lock" for name in LOCKS[target]))


def _needs(requirements: list[str], extras: set[str]) -> set[str]:
    """The packages among ``requirements`` that an installation in an image takes."""
    found = map(Requirement, requirements)
    return {
        canonicalize_name(need.name)
        for need in found
        if need.marker is None
        or any(need.marker.evaluate({**OLDEST, "extra": e}) for e in {"", *extras})
    }


def _requires(package: str) -> list[str]:
    """What ``package`` needs; nothing where only an older Python than this one takes it."""
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []


def test_the_dockerfile_passes_hadolint() -> None:
    """Hadolint knows the mistakes that everybody makes once."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", IMAGES / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_only_what_an_image_needs_is_sent_to_its_build(tmp_path: Path) -> None:
    """Secrets, state, caches and history never reach a builder, whatever they are called."""
    wanted = {
        "LICENSE",
        "README.md",
        "deployments/images/platform.lock",
        "mlops_assets/defs/flights/defs.yaml",
        "mlops_assets/defs/flights/features.py",
        "mlops_assets/prices.yaml",
        "pyproject.toml",
    }
    others = {
        ".env",
        ".git/config",
        ".mlops/lake/part.parquet",
        ".venv/bin/python",
        "deployments/dagster/secrets.yaml",
        "deployments/images/Dockerfile",
        "mlops_assets/__pycache__/cli.cpython-311.pyc",
        "mlops_assets/defs/flights/__pycache__/features.cpython-311.pyc",
        "requirements.lock",
        "terraform/terraform.tfstate",
        "tests/test_it.py",
    }
    for name in wanted | others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    sent = exclude_paths(str(tmp_path), [line for line in patterns if line[:1] not in ("", "#")])
    assert {name for name in sent if (tmp_path / name).is_file()} == wanted


def test_what_the_dockerfile_copies_is_there_and_is_sent() -> None:
    """A file that is copied but ignored fails the build, long after the change was made."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    shown = [line.removeprefix("!") for line in patterns if line.startswith("!")]
    for stage in STAGES.values():
        for word, rest in stage:
            if word == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(Path(source).match(pattern) for pattern in shown), source


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_without_rights(target: str) -> None:
    """The last user is 10001 by number: Kubernetes cannot check a name against runAsNonRoot."""
    assert [rest for word, rest in _image(target) if word == "USER"][-1] == "10001:10001"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_starts_its_program_without_a_shell(target: str) -> None:
    """A shell as process 1 would swallow the SIGTERM that announces a spot interruption."""
    starts = [rest for word, rest in _image(target) if word in ("CMD", "ENTRYPOINT")]
    assert starts
    for start in starts:
        assert all(isinstance(word, str) for word in json.loads(start)), start


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_which_commit_it_was_built_from(target: str) -> None:
    """By its label for people and registries, by its environment for the program itself."""
    said = {word: rest for word, rest in _image(target) if word in ("LABEL", "ENV", "ARG")}
    assert said["ARG"].startswith("GIT_COMMIT=")
    assert said["ENV"] == "MLOPS_GIT_COMMIT=$GIT_COMMIT"
    labels = dict(re.findall(r'(\S+?)="?([^"\s][^"]*?)"?(?: |$)', said["LABEL"]))
    assert labels["org.opencontainers.image.revision"] == "$GIT_COMMIT"
    assert labels["org.opencontainers.image.title"] == f"mlops-{target}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("target", TARGETS)
def test_a_change_of_the_code_rebuilds_no_dependency(target: str) -> None:
    """Everything is installed before the code and the commit, which change with each build."""
    words = _image(target)
    last_install = max(n for n, (word, _) in enumerate(words) if word == "RUN")
    package = "server" if target == "server" else "package"
    code = words.index(("COPY", f"--from=package /opt/{package} /opt/venv"))
    commit = next(n for n, (word, _) in enumerate(words) if word == "ARG")
    assert last_install < code < commit


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_built_without_compilers(target: str) -> None:
    """Wheels only, from the slim image: nothing in a pod can build what an intruder brings."""
    words = _image(target)
    assert words[0] == ("FROM", "python:3.11-slim-bookworm")
    runs = " ".join(rest for word, rest in words if word == "RUN")
    assert not re.search(r"apt|gcc|curl|wget", runs)
    installs = re.findall(r"pip [^&]*install[^&]*", runs)
    assert installs
    for install in installs:
        assert "--require-hashes --no-deps --only-binary :all:" in install
    assert ("ENV", "PIP_NO_CACHE_DIR=1") in {
        (word, part) for word, rest in words for part in rest.split() if word == "ENV"
    }


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_installs_its_locks(target: str) -> None:
    """The locks that are checked here are those that the Dockerfile installs."""
    copied = [rest for word, rest in STAGES["package"] if word == "COPY"]
    assert "deployments/images/example.lock" in copied[0].split()
    words = _image(target)
    runs = " ".join(rest for word, rest in words if word == "RUN")
    installed = re.findall(r"-r locks/([a-z-]+)\.lock", runs)
    if ("COPY", "--from=package /opt/example /opt/venv") in words:
        installed.append("example")
    assert tuple(installed) == LOCKS[target]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_the_versions_of_a_checkout(target: str) -> None:
    """Model bytes must not depend on where they were made: the same versions, the same files."""
    everywhere = _pins(ROOT / "requirements.lock")
    pins = _of_image(target)
    version, hashes = pins.pop("xgboost-cpu", (None, frozenset[str]()))
    if version is not None:
        assert version == everywhere["xgboost"][0]
        assert hashes
    for package, pin in pins.items():
        assert pin == everywhere[package], f"{package}: make lock"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_lacks_nothing_that_its_packages_need(target: str) -> None:
    """`pip install --no-deps` asks nobody: the lock has to be complete."""
    pins = _of_image(target)
    lacking = set()
    for package in pins:
        installed = "xgboost" if package == "xgboost-cpu" else package
        extras = {"train"} if package == "ray" else set[str]()
        needs = _needs(_requires(installed), extras)
        lacking |= {(package, need) for need in needs if need not in pins}
    assert lacking == ({("xgboost-cpu", "nvidia-nccl-cu12")} if "xgboost" not in pins else set())


def test_the_images_of_runs_have_every_dependency_of_the_package() -> None:
    """A dependency that was added without `make lock` would be missed by the first run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = _needs(project["dependencies"], set())
    extras = project["optional-dependencies"]
    training = _needs([*extras["tuning"], *extras["ray"]], set())
    here = set(_of_image("code-location"))
    assert base - here == {"xgboost"}
    assert "xgboost-cpu" in here
    assert (base | training) - set(_of_image("training")) == set()


def test_only_the_training_image_carries_gpu_code() -> None:
    """NCCL alone is half a gigabyte, for pods that have no GPU."""
    carrying = {name for name in TARGETS if {"xgboost", "nvidia-nccl-cu12"} <= set(_of_image(name))}
    assert carrying == {"training"}


def test_the_model_server_runs_with_the_packages_of_its_lock_alone(tmp_path: Path) -> None:
    """An import that slips into serving/ or core/ would end its pods, and only those."""
    present = {"mlops-assets", "xgboost", *_of_image("server")}
    absent = [
        module
        for module, packages in metadata.packages_distributions().items()
        if not present & {canonicalize_name(package) for package in packages}
    ]
    model = tmp_path / "model.ubj"
    model.write_bytes(tiny_model())
    done = subprocess.run(
        [sys.executable, "-c", ONLY_THE_LOCK, ",".join(absent), str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("served\n", 0), done.stderr


def test_the_model_server_has_no_package_of_the_platform() -> None:
    """Fewer packages are fewer things to patch in the pods that answer."""
    heavy = {"dagster", "mlflow", "pandas", "polars", "pyarrow", "scikit-learn", "boto3"}
    assert heavy & set(_of_image("server")) == set()


def test_the_package_holds_every_file_of_the_platform(tmp_path: Path) -> None:
    """YAML beside the code is found in a wheel as in a checkout."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    expected = set()
    for path in (ROOT / "mlops_assets").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(ROOT)
            expected.add(str(name))
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    code = (
        "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("mlops_assets/")}
    assert expected - names == set()
