"""The dagster.yaml that Dagster's chart makes of our values, without Helm.

    python deployments/dagster/render_instance.py values.yaml values-staging.yaml [--set a.b=1]

The test cluster has no Helm: its control plane mounts what this prints. The tests hold it against
Dagster's own schemas. Keys are those of the chart (templates/configmap-instance.yaml); a value that
this module does not know is an error, not something left out.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


class UnknownValueError(ValueError):
    """A value that would change dagster.yaml in a way that this module does not know."""


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Helm merges them: maps key by key, all else by replacement; the last wins."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = result.get(key)
            maps = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old or {}, value) if maps else value
    return result


def read(*names: str) -> dict[str, Any]:
    """The merged values of the files ``names`` of this folder."""
    files: list[dict[str, Any]] = [yaml.safe_load((FOLDER / name).read_text()) for name in names]
    return merged(*files)


def instance(values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of dagster.yaml. Raises UnknownValueError."""
    daemon = values["dagsterDaemon"]
    database = {"postgres_db": _database(values["postgresql"])}
    return {
        "run_storage": _class("dagster_postgres.run_storage", "PostgresRunStorage", database),
        "event_log_storage": _class(
            "dagster_postgres.event_log", "PostgresEventLogStorage", database
        ),
        "schedule_storage": _class(
            "dagster_postgres.schedule_storage", "PostgresScheduleStorage", database
        ),
        "run_launcher": _class("dagster_k8s", "K8sRunLauncher", _launcher(values)),
        "run_coordinator": dict(
            _only(daemon["runCoordinator"]["config"], "customRunCoordinator")[
                "customRunCoordinator"
            ]
        ),
        "compute_logs": _class(
            "dagster_aws.s3.compute_log_manager",
            "S3ComputeLogManager",
            _snake(
                _only(values["computeLogManager"]["config"], "s3ComputeLogManager")[
                    "s3ComputeLogManager"
                ]
            ),
        ),
        "run_monitoring": _snake(daemon["runMonitoring"]),
        "run_retries": _snake(daemon["runRetries"]),
        **{name: _snake(daemon[name]) for name in ("sensors", "schedules", "backfills")},
        "concurrency": _concurrency(values["concurrency"]),
        "retention": {
            _snake_name(name): {"purge_after_days": kept["purgeAfterDays"]}
            for name, kept in values["retention"].items()
            if name != "enabled"
        },
        "telemetry": dict(values["telemetry"]),
    }


def _class(module: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class": name, "config": config}


def _database(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "username": values["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": values["postgresqlHost"],
        "db_name": values["postgresqlDatabase"],
        "port": values["service"]["port"],
        "params": values["postgresqlParams"],
        "scheme": values["postgresqlScheme"],
    }


def _launcher(values: Mapping[str, Any]) -> dict[str, Any]:
    ours = _only(
        values["runLauncher"]["config"]["k8sRunLauncher"],
        *("jobNamespace", "loadInclusterConfig", "imagePullPolicy", "envConfigMaps", "envSecrets"),
        *("envVars", "labels", "failPodOnRunFailure", "securityContext", "volumes", "volumeMounts"),
        *("resources", "runK8sConfig"),
    )
    config: dict[str, Any] = {
        "load_incluster_config": ours["loadInclusterConfig"],
        "job_namespace": ours["jobNamespace"],
        "image_pull_policy": ours["imagePullPolicy"],
        "service_account_name": values["global"]["serviceAccountName"],
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "env_config_maps": [each["name"] for each in ours["envConfigMaps"]],
        "env_secrets": [each["name"] for each in ours["envSecrets"]],
        "volume_mounts": ours["volumeMounts"],
        "volumes": ours["volumes"],
        "labels": ours["labels"],
        "resources": ours["resources"],
        "security_context": ours["securityContext"],
        "run_k8s_config": {_snake_name(k): v for k, v in ours["runK8sConfig"].items()},
    }
    if ours["envVars"]:
        config["env_vars"] = ours["envVars"]
    if ours["failPodOnRunFailure"]:
        config["fail_pod_on_run_failure"] = True
    return config


def _concurrency(values: Mapping[str, Any]) -> dict[str, Any]:
    if not _only(values, "enabled", "pools", "runs")["enabled"]:
        raise UnknownValueError("concurrency.enabled is false: the limits would not hold")
    return {"pools": _snake(values["pools"]), "runs": _snake(values["runs"])}


def _only(values: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    unknown = set(values) - set(names)
    if unknown:
        raise UnknownValueError(f"{', '.join(sorted(unknown))}: not known, add it to {__file__}")
    return values


def _snake(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_snake_name(name): value for name, value in values.items()}


def _snake_name(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def _set(values: dict[str, Any], path: str, value: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        values = values[parent]
    values[last] = yaml.safe_load(value)


def main() -> None:
    """Print dagster.yaml."""
    parser = argparse.ArgumentParser(description="The dagster.yaml of our values.")
    parser.add_argument("files", nargs="+", help="values files in this folder, the last wins")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    arguments = parser.parse_args()
    values = read(*arguments.files)
    for assignment in arguments.set:
        path, _, value = assignment.partition("=")
        _set(values, path, value)
    made = f"# Made by {Path(__file__).name} from {', '.join(arguments.files)}.\n"
    sys.stdout.write(made + yaml.dump(instance(values), sort_keys=False, Dumper=_Plain))


class _Plain(yaml.SafeDumper):
    """Without anchors, lists indented, for whoever reads it."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


if __name__ == "__main__":
    main()
