"""The files of deployments/, read as the tools read them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared" / "schemas"
"""Of custom resources and of charts: other projects', too large for this repository."""
KUBERNETES = ROOT / "deployments" / "kubernetes"
DAGSTER = ROOT / "deployments" / "dagster"

ENVIRONMENTS = ("staging", "production", "cluster-test")
PARTS = ("base", "guards", "mlflow", "aws")
VERSIONS = ("1.33", "1.37")
"""Kubernetes versions that production may have."""

Document = dict[str, Any]

_LISTS_OF_FOLDERS = (1, 27)
"""The first kubectl whose Kustomize (5) knows all that staging and production use."""


@cache
def render_instance() -> Any:
    """The module deployments/dagster/render_instance.py."""
    path = DAGSTER / "render_instance.py"
    spec = importlib.util.spec_from_file_location("render_instance", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values(environment: str) -> dict[str, Any]:
    """The Helm values of ``environment``, merged."""
    return render_instance().read("values.yaml", f"values-{environment}.yaml")


def instance(environment: str) -> dict[str, Any]:
    """The dagster.yaml of ``environment``."""
    return render_instance().instance(values(environment))


def compute_profiles() -> Mapping[str, Mapping[str, Any]]:
    """mlops_assets/compute.yaml."""
    return yaml.safe_load((ROOT / "mlops_assets" / "compute.yaml").read_text())["profiles"]


@cache
def part(name: str) -> list[Document]:
    """The documents of a folder that only lists files."""
    folder = KUBERNETES / name
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(kustomization) == {"apiVersion", "kind", "resources"}, f"{name} does more"
    return [each for file in kustomization["resources"] for each in read(folder / file)]


def everything() -> list[Document]:
    """What all environments on AWS have, before their patches."""
    return [each for name in PARTS for each in part(name)]


def read(path: Path) -> list[Document]:
    """The documents of one file."""
    return _documents(path.read_text())


def _documents(text: str) -> list[Document]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, loader) if each]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """Those of one kind."""
    return [each for each in documents if each["kind"] == kind]


def named(documents: list[Document], kind: str, name: str) -> Document:
    """The only one of this kind and name."""
    (found,) = (each for each in of_kind(documents, kind) if each["metadata"]["name"] == name)
    return found


def pod_templates(documents: list[Document]) -> Iterator[tuple[str, str, Document]]:
    """(what it is, namespace, pod spec) of all workloads."""
    for document in documents:
        if document["kind"] in ("Deployment", "DaemonSet", "StatefulSet", "Job"):
            metadata = document["metadata"]
            yield (
                f"{document['kind']} {metadata['name']}",
                metadata["namespace"],
                document["spec"]["template"]["spec"],
            )


@cache
def rendered(environment: str) -> list[Document]:
    """What Kustomize makes of an overlay; skips where there is no kubectl that can."""
    program = _kubectl(old_will_do=environment == "cluster-test")
    folder = str(KUBERNETES / "overlays" / environment)
    done = subprocess.run(
        [program, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return _documents(done.stdout)


def _kubectl(old_will_do: bool) -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = [str(beside)] if beside.exists() else []
    found += [path] if (path := shutil.which("kubectl")) else []
    debian = Path.home() / ".cache/kubernetes-from-debian/bin/kubectl"
    found += [str(debian)] if debian.exists() else []
    for program in found:
        if old_will_do or _version(program) >= _LISTS_OF_FOLDERS:
            return program
    # kubectl is a program, no Python package: where there is none, the files alone are checked.
    pytest.skip(
        "OVERLAYS ARE NOT RENDERED: install kubectl 1.27 or later on the PATH; there is "
        + (f"only {', '.join(found)}" if found else "none")
    )


@cache
def _version(program: str) -> tuple[int, int]:
    done = subprocess.run(
        [program, "version", "--client", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    client = json.loads(done.stdout)["clientVersion"]
    return int(client["major"]), int(client["minor"].rstrip("+"))


def no_schemas(*kinds: str) -> str:
    """Why a test of ``kinds`` is skipped, and what to do."""
    return (
        f"NOT TESTED against the schemas of {', '.join(sorted(kinds))}, which are not there: "
        f"put those that their projects publish into {SCHEMAS}"
    )


def schema_problems(document: Document, version: str) -> list[str]:
    """What the strict schema of ``document`` says against it: Kubernetes' own of ``version``, or a
    custom resource's of SCHEMAS; FileNotFoundError where there is none.
    """
    group, _, api_version = document["apiVersion"].rpartition("/")
    kind = document["kind"].lower()
    if group.endswith((".sh", ".aws", ".io")) and group not in _OF_KUBERNETES:
        path = SCHEMAS / f"{group}_{kind}_{api_version}.json"
        text, registry = path.read_text(), Registry()
    else:
        parts = [kind, group.split(".")[0], api_version]
        text = (_schemas(version) / ("-".join(filter(None, parts)) + ".json")).read_text()
        registry = _definitions(version)
    validator = Draft7Validator(json.loads(text), registry=registry)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(document)
    ]


_OF_KUBERNETES = {
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "networking.k8s.io",
}


def _schemas(version: str) -> Path:
    bundled = Path(str(files("kubernetes_validate")))
    return bundled / "kubernetes-json-schema" / f"v{version}.0-local-strict"


@cache
def _definitions(version: str) -> Registry[Any]:
    # The library reads and compiles them again for each document: a second each.
    contents = json.loads((_schemas(version) / "_definitions.json").read_text())
    return Registry().with_resource(
        "_definitions.json", Resource(contents=contents, specification=DRAFT7)
    )


def restricted(pod: Mapping[str, Any]) -> list[str]:
    """How ``pod`` falls short of Kubernetes' pod security standard `restricted`, and of ours.

    Ours: a read-only root, requests, a memory limit. Names in camel case.
    """
    problems: list[str] = []
    context = pod.get("securityContext") or {}
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        problems.append("may run as root")
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        problems.append("has no seccomp profile")
    problems += [f"has {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    if any("hostPath" in volume for volume in pod.get("volumes") or ()):
        problems.append("mounts a host path")
    for container in [*pod["containers"], *(pod.get("initContainers") or ())]:
        security = container.get("securityContext") or {}
        if security.get("allowPrivilegeEscalation") is not False:
            problems.append("may escalate privileges")
        if (security.get("capabilities") or {}).get("drop") != ["ALL"]:
            problems.append("keeps capabilities")
        if not security.get("readOnlyRootFilesystem"):
            problems.append("has a writable root")
        resources = container.get("resources") or {}
        if not {"cpu", "memory"} <= set(resources.get("requests") or ()):
            problems.append("requests nothing")
        if "memory" not in (resources.get("limits") or ()):
            problems.append("has no memory limit")
    return problems
