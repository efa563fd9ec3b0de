"""What Terraform made gets to where Kustomize and Helm read it, or is refused."""

import io
import json
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import yaml
from terraform_support import ENVIRONMENTS, ROOT, TERRAFORM, labelled, tfvars

PROGRAM = TERRAFORM / "outputs-to-deployments"


@pytest.fixture(scope="module")
def program():
    """terraform/outputs-to-deployments, as a module."""
    loader = SourceFileLoader("outputs_to_deployments", str(PROGRAM))
    spec = spec_from_loader("outputs_to_deployments", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def deployments(tmp_path: Path) -> Path:
    """A copy of deployments/ without the images."""
    ignored = shutil.ignore_patterns("images", "__pycache__")
    return shutil.copytree(ROOT / "deployments", tmp_path / "deployments", ignore=ignored)


def made(environment: str = "production", account: str = "999988887777") -> dict[str, dict]:
    """What `terraform output -json` prints of an environment in another account."""
    registry = f"{account}.dkr.ecr.eu-west-1.amazonaws.com"
    repositories = tfvars(environment)["registry"]["repositories"]
    values = {
        "environment": environment,
        "region": "eu-west-1",
        "account_id": account,
        "bucket_names": {
            what: f"ours-{environment}-{what}" for what in ("lake", "artifacts", "logs", "ledger")
        },
        "online_table_name": f"ours-{environment}-online",
        "repository_urls": {name: f"{registry}/{name}" for name in repositories},
        "database": {
            "address": "ours.abc123.eu-west-1.rds.amazonaws.com",
            "port": 5433,
            "master_secret_arn": f"arn:aws:secretsmanager:eu-west-1:{account}:secret:rds!db-1-a",
        },
    }
    return {name: {"sensitive": False, "value": value} for name, value in values.items()}


def run(program, monkeypatch, deployments: Path, outputs: object, *arguments: str) -> int:
    """The program's exit status, with ``outputs`` on its standard input."""
    text = outputs if isinstance(outputs, str) else json.dumps(outputs)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return program.main([*arguments, "--deployments", str(deployments)])


def files(folder: Path) -> dict[Path, bytes]:
    """All files below ``folder``."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_values_get_to_their_places(program, monkeypatch, deployments, environment):
    """Variables of runs, of endpoints and of MLflow, images, the database, the logs' bucket."""
    assert run(program, monkeypatch, deployments, made(environment)) == 0
    overlay = deployments / "kubernetes" / "overlays" / environment
    variables = dict(
        line.split("=", 1)
        for line in (overlay / "environment.env").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    registry = "999988887777.dkr.ecr.eu-west-1.amazonaws.com"
    ours = f"ours-{environment}"
    assert {
        "AWS_REGION": "eu-west-1",
        "MLOPS_ENV": environment,
        "MLOPS_LAKE_URL": f"s3://{ours}-lake",
        "MLOPS_LEDGER_URL": f"s3://{ours}-ledger",
        "MLOPS_ARTIFACTS_URL": f"s3://{ours}-artifacts/models",
        "MLOPS_REPORTS_URL": f"s3://{ours}-artifacts/reports",
        "MLOPS_DOCUMENTS_URL": f"s3://{ours}-artifacts/documents",
        "MLOPS_ONLINE_URL": f"dynamodb://{ours}-online",
        "MLOPS_SERVER_IMAGE": f"{registry}/mlops-server:unset",
        "MLOPS_TRAINING_IMAGE": f"{registry}/mlops-training:unset",
    }.items() <= variables.items()

    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    literals = {
        each["namespace"]: each["literals"]
        for each in kustomization["configMapGenerator"]
        if "literals" in each
    }
    assert literals == {
        "mlops-endpoints": ["AWS_REGION=eu-west-1", f"MLOPS_ONLINE_URL=dynamodb://{ours}-online"],
        "mlflow": [f"MLFLOW_DEFAULT_ARTIFACT_ROOT=s3://{ours}-artifacts/mlflow"],
    }
    assert [each["newName"] for each in kustomization["images"]] == [
        f"{registry}/mlops-code-location",
        f"{registry}/nvidia/k8s-device-plugin",
    ]

    values = yaml.safe_load((deployments / f"dagster/values-{environment}.yaml").read_text())
    assert values["postgresql"]["postgresqlHost"] == "ours.abc123.eu-west-1.rds.amazonaws.com"
    logs = values["computeLogManager"]["config"]["s3ComputeLogManager"]
    assert logs == {"bucket": f"{ours}-logs", "region": "eu-west-1"}

    database = (deployments / f"kubernetes/database/{environment}/database.env").read_text()
    assert "DATABASE_ADDRESS=ours.abc123.eu-west-1.rds.amazonaws.com\n" in database
    assert "DATABASE_PORT=5433\n" in database
    assert "DATABASE_MASTER_SECRET=arn:aws:secretsmanager:eu-west-1:999988887777:" in database


def test_nothing_else_changes(program, monkeypatch, deployments):
    """Only files of this environment, only values; a second time nothing at all."""
    before = files(deployments)
    assert run(program, monkeypatch, deployments, made()) == 0
    after = files(deployments)
    changed = {path for path, text in after.items() if before.get(path) != text}
    assert before.keys() == after.keys()
    assert changed == {
        deployments / name.format(environment="production") for name in program.PLACES
    }
    for path in changed:
        assert len(before[path].splitlines()) == len(after[path].splitlines())
    assert run(program, monkeypatch, deployments, made(), "--check") == 0
    assert files(deployments) == after


def test_a_check_shows_the_difference_and_writes_nothing(program, monkeypatch, deployments, capsys):
    """For a workflow that has to notice what somebody forgot to commit."""
    before = files(deployments)
    assert run(program, monkeypatch, deployments, made(), "--check") == 1
    assert "+MLOPS_LAKE_URL=s3://ours-production-lake" in capsys.readouterr().out
    assert files(deployments) == before


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("region", ""),
        ("bucket_names", "ledger"),
        ("database", "address"),
        ("repository_urls", "mlops-server"),
    ],
)
def test_a_missing_output_is_named_and_nothing_is_written(
    program, monkeypatch, deployments, capsys, name, key
):
    """Half of an environment's values would be worse than none."""
    before, outputs = files(deployments), made()
    if key:
        del outputs[name]["value"][key]
    else:
        del outputs[name]
    assert run(program, monkeypatch, deployments, outputs) == 2
    assert f"output {f'{name}.{key}' if key else name} is missing" in capsys.readouterr().err
    assert files(deployments) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region", "somewhere"),
        ("online_table_name", "a b"),
        ("online_table_name", "x\nMLOPS_ENV=local"),
        ("bucket_names", {"lake": "UPPER", "artifacts": "a-b", "logs": "a-b", "ledger": "a-b"}),
        ("database", {"address": None, "port": 5432, "master_secret_arn": "x"}),
    ],
)
def test_a_value_that_cannot_stand_there_is_refused(
    program, monkeypatch, deployments, capsys, name, value
):
    """A line break in a value would be another variable."""
    before, outputs = files(deployments), made()
    outputs[name]["value"] = value
    assert run(program, monkeypatch, deployments, outputs) == 2
    assert "cannot stand here" in capsys.readouterr().err
    assert files(deployments) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not what `terraform output -json` prints"),
        ("[1]", "not what `terraform output -json` prints"),
        ('{"region": "us-east-1"}', "not what `terraform output -json` prints"),
        ("{}", "there are no outputs"),
        ('{"environment": {"value": "test"}}', "has to be staging or production"),
    ],
)
def test_what_is_no_output_of_an_environment_is_refused(
    program, monkeypatch, deployments, capsys, text, message
):
    """An empty state prints `{}`."""
    assert run(program, monkeypatch, deployments, text) == 2
    assert message in capsys.readouterr().err


def test_a_file_without_the_place_is_named(program, monkeypatch, deployments, capsys):
    """Who renames a variable there hears of it here."""
    path = deployments / "kubernetes/overlays/production/environment.env"
    path.write_text(path.read_text().replace("MLOPS_LAKE_URL", "LAKE_URL"))
    assert run(program, monkeypatch, deployments, made()) == 2
    assert "0 places `MLOPS_LAKE_URL=s3://…`" in capsys.readouterr().err


def test_every_output_that_is_read_is_one_of_the_environments(program):
    """Renamed in outputs.tf, it would be missed only after an apply."""
    there = set(labelled("environments/production", "output"))
    read = {output.split(".")[0] for places in program.PLACES.values() for _, output in places}
    assert read | {"environment"} <= there


def test_it_runs_as_a_program_without_our_packages(deployments):
    """On whatever machine applies: Python alone."""
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "--check", "--deployments", str(deployments)],
        input=json.dumps(made()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
