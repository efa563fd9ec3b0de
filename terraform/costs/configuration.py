"""What the configuration says of an environment's size: terraform/, deployments/, mlops_assets/."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from deployments.dagster import render_instance
from mlops_assets.adapters.compute_profiles import FILE as PROFILES
from mlops_assets.adapters.endpoints.kubernetes_objects import Server, pod_spec
from mlops_assets.core.compute import ComputeProfile, amount, parse_profiles
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec
from terraform.costs.prices import FOLDER

ROOT = FOLDER.parent
KUBERNETES = ROOT / "deployments" / "kubernetes"
DEFS = ROOT / "mlops_assets" / "defs"
CLASSES = ROOT / "mlops_assets" / "prices.yaml"

_SOURCE = re.compile(r'^  source *= "(.+)"', re.MULTILINE)
_RESOURCE = re.compile(r'^resource "(\w+)" "\w+" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_REPLICA = re.compile(r"^  provider *= aws\.replica$", re.MULTILINE)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Requests:
    """What pods ask for: cores and bytes."""

    cpu: float
    memory: float

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(self.cpu + other.cpu, self.memory + other.memory)

    def times(self, pods: float) -> "Requests":
        """The same, of so many pods."""
        return Requests(self.cpu * pods, self.memory * pods)


@dataclass(frozen=True)
class Environment:
    """One environment, as its terraform.tfvars and its overlay make it."""

    name: str
    zones: int
    nat_gateways: int
    interface_endpoints: int
    system_instance: str
    system_nodes: int
    system_disk_gib: float
    database_class: str
    database_gib: float
    database_multi_az: bool
    secrets: int
    keys: int
    alarms: int
    log_days: float
    """How long logs of the network are kept, taken for all logs."""
    budget: float
    control_plane: Requests
    """Dagster's pods and MLflow's."""
    run_worker: Requests


@dataclass(frozen=True)
class UseCase:
    """One folder of defs/, as far as it costs."""

    name: str
    servers: int
    server: Requests
    training: ComputeProfile
    fallback: ComputeProfile
    """What its trainings run with on demand."""
    tuning_budget: float


@dataclass(frozen=True)
class Platform:
    """What all environments share."""

    spot_discount: float
    expected_seconds: float
    instances: Mapping[str, str]
    """Price class → EC2 type, of mlops_assets/prices.yaml."""
    idle_seconds: Mapping[str, float]
    """Capacity of a GPU's node → seconds until an empty one goes."""
    disk_gib: Mapping[str, float]
    """Karpenter's node class → its disk."""
    use_cases: Sequence[UseCase]


def environment(name: str, terraform: Path = FOLDER) -> Environment:
    """The environment ``name``. Raises PermanentError where a value that costs is missing."""
    folder = terraform / "environments" / name
    values = _Values(folder / "terraform.tfvars", terraform / "modules")
    zones = len(values.read("network", "zones"))
    nat = values.read("network", "nat")
    system = values.read("nodes", "system_group")
    helm = render_instance.read("values.yaml", f"values-{name}.yaml")
    resources = list(_resources(folder, terraform, bool(values.read("lake", "replicate"))))
    return Environment(
        name=name,
        zones=zones,
        nat_gateways=zones if nat == "per_zone" else 1,
        interface_endpoints=len(values.read("network", "interface_endpoints")),
        system_instance=system["instance_types"][0],
        system_nodes=int(system["min"]),
        system_disk_gib=float(system["disk_gib"]),
        database_class=values.read("database", "instance_class"),
        database_gib=float(values.read("database", "storage_gib")),
        database_multi_az=bool(values.read("database", "multi_az")),
        secrets=len(values.read("secrets", "names")),
        keys=resources.count("aws_kms_key"),
        alarms=resources.count("aws_cloudwatch_metric_alarm"),
        log_days=float(values.read("network", "flow_log_retention_days")),
        budget=float(values.read("budget", "monthly_usd")),
        control_plane=_control_plane(helm, name),
        run_worker=_requests(helm["runLauncher"]["config"]["k8sRunLauncher"]),
    )


def platform() -> Platform:
    """What the environments share: price classes, Karpenter's pools, use cases."""
    table = yaml.safe_load(CLASSES.read_text())
    pools = _by_name(KUBERNETES / "aws" / "nodes.yaml", "NodePool")
    node_classes = _by_name(KUBERNETES / "aws" / "nodes.yaml", "EC2NodeClass")
    return Platform(
        spot_discount=table["spot_discount"],
        expected_seconds=table["expected_seconds"],
        instances={name: each["instance"] for name, each in table["classes"].items()},
        idle_seconds={
            "spot": _seconds(pools["gpu-spot"]["spec"]["disruption"]["consolidateAfter"]),
            "on_demand": _seconds(pools["gpu-on-demand"]["spec"]["disruption"]["consolidateAfter"]),
        },
        disk_gib={
            name: amount(each["spec"]["blockDeviceMappings"][0]["ebs"]["volumeSize"]) / 2**30
            for name, each in node_classes.items()
        },
        use_cases=[_use_case(path) for path in sorted(DEFS.glob("*/defs.yaml"))],
    )


@lru_cache(maxsize=64)
def hcl(path: Path) -> dict[str, Any]:
    """The content of a file of Terraform's language."""
    import hcl2

    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=False, strip_string_quotes=True
    )
    with path.open() as file:
        return _unquoted(hcl2.load(file, serialization_options=options))


def _unquoted(value: Any) -> Any:
    # The library takes quotes from values, and leaves them on quoted keys.
    if isinstance(value, dict):
        return {key.strip('"'): _unquoted(each) for key, each in value.items()}
    return [_unquoted(each) for each in value] if isinstance(value, list) else value


class _Values:
    """The values of a terraform.tfvars, and the modules' defaults for those that it leaves out."""

    def __init__(self, path: Path, modules: Path) -> None:
        if not path.is_file():
            raise PermanentError(f"{path} is missing: an environment's sizes stand there")
        self._path, self._modules, self._given = path, modules, hcl(path)

    def read(self, module: str, name: str) -> Any:
        """The value of the module's variable ``name``."""
        given = self._given.get(module, {})
        default = self._default(module, name)
        if name not in given and default is None:
            raise PermanentError(
                f"{self._path}: {module}.{name} is missing; the bill needs it, and the module has "
                "no default"
            )
        return given.get(name, default)

    def _default(self, module: str, name: str) -> Any:
        for variable in hcl(self._modules / module / "variables.tf")["variable"]:
            if name in variable:
                return variable[name].get("default")
        raise PermanentError(f"the module {module} has no variable {name!r}")


def _resources(folder: Path, terraform: Path, replicated: bool) -> Iterator[str]:
    """The types of the resources of the modules that an environment calls, a block once each.

    A replica's, which have a condition, only where ``replicated``.
    """
    # By their first lines: to parse the modules takes half a minute.
    for source in _SOURCE.findall((folder / "main.tf").read_text()):
        for path in sorted((folder / source).resolve().glob("*.tf")):
            for kind, body in _RESOURCE.findall(path.read_text()):
                if replicated or not _REPLICA.search(body):
                    yield kind


def _control_plane(helm: Mapping[str, Any], name: str) -> Requests:
    web, daemon = helm["dagsterWebserver"], helm["dagsterDaemon"]
    total = _requests(web).times(web["replicaCount"]) + _requests(daemon)
    for code in helm["dagster-user-deployments"]["deployments"]:
        total += _requests(code)
    mlflow = _by_name(KUBERNETES / "mlflow" / "mlflow.yaml", "Deployment")["mlflow"]["spec"]
    pods = _patched_replicas(name, "mlflow", mlflow["replicas"])
    return total + _requests(mlflow["template"]["spec"]["containers"][0]).times(pods)


def _patched_replicas(name: str, deployment: str, replicas: int) -> int:
    """How many pods the overlay ``name`` makes of the Deployment."""
    path = KUBERNETES / "overlays" / name / "kustomization.yaml"
    for patch in yaml.safe_load(path.read_text()).get("patches", []):
        if patch["target"] == {"kind": "Deployment", "name": deployment}:
            for operation in yaml.safe_load(patch["patch"]):
                if operation["path"] == "/spec/replicas":
                    replicas = operation["value"]
    return replicas


def _use_case(path: Path) -> UseCase:
    spec = UseCaseSpec.model_validate(yaml.safe_load(path.read_text())["attributes"])
    profiles = parse_profiles(yaml.safe_load(PROFILES.read_text()), str(PROFILES))
    training = profiles[profile_name(spec, "model")]
    server = Server(spec.name, image="", version="", release_url="", log_url="")
    pod: Any = pod_spec(server, spec.endpoint)
    return UseCase(
        name=spec.name,
        servers=max(1, spec.endpoint.replicas.min),
        server=_requests(pod["containers"][0]),
        training=training,
        fallback=profiles[training.fallback] if training.fallback else training,
        tuning_budget=(spec.tuning.budget_usd or 0) if spec.tuning else 0,
    )


def _requests(holder: Mapping[str, Any]) -> Requests:
    requests = holder["resources"]["requests"]
    return Requests(amount(str(requests["cpu"])), amount(str(requests["memory"])))


def _by_name(path: Path, kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all(path.read_text())
    return {each["metadata"]["name"]: each for each in documents if each and each["kind"] == kind}


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * _SECONDS[duration[-1]]
