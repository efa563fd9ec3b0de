"""The environments: one composition, two sets of values, and what is refused at plan."""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from terraform_support import (
    ENVIRONMENTS,
    MODULES,
    TERRAFORM,
    as_hcl,
    init,
    labelled,
    needs_terraform,
    parsed,
    terraform,
    tfvars,
)

FOLDERS = [f"environments/{name}" for name in ENVIRONMENTS]
DIFFER = {"terraform.tfvars", "backend.tf"}
MAPS = {"cluster.access_entries", "budget.per_team"}
"""Values whose keys are names: an environment has its own."""

TAGS = {"owner", "team", "use_case", "environment", "cost_centre", "repository"}

BACKEND = {
    *("bucket", "key", "region", "allowed_account_ids", "forbidden_account_ids", "encrypt"),
    *("kms_key_id", "sse_customer_key", "use_lockfile", "dynamodb_table", "acl", "profile"),
    *("access_key", "secret_key", "token", "shared_config_files", "shared_credentials_files"),
    *("shared_credentials_file", "assume_role", "assume_role_with_web_identity", "endpoints"),
    *("endpoint", "dynamodb_endpoint", "iam_endpoint", "sts_endpoint", "sts_region"),
    *("custom_ca_bundle", "http_proxy", "https_proxy", "no_proxy", "insecure", "max_retries"),
    *("retry_mode", "use_path_style", "force_path_style", "use_dualstack_endpoint"),
    *("use_fips_endpoint", "use_legacy_workflow", "skip_credentials_validation"),
    *("skip_region_validation", "skip_requesting_account_id", "skip_metadata_api_check"),
    *("skip_s3_checksum", "ec2_metadata_service_endpoint", "ec2_metadata_service_endpoint_mode"),
    *("workspace_key_prefix", "role_arn", "session_name", "external_id"),
    *("assume_role_duration_seconds", "assume_role_policy", "assume_role_policy_arns"),
    *("assume_role_tags", "assume_role_transitive_tag_keys"),
}
"""What Terraform 1.11's S3 backend knows (developer.hashicorp.com, language/backend/s3)."""


# -- by reading ------------------------------------------------------------------------------------


def test_environments_are_the_same_files():
    """What differs are values; else staging would not say what production will do."""
    first, second = (
        {path.name: path.read_bytes() for path in (TERRAFORM / folder).iterdir() if path.is_file()}
        for folder in FOLDERS
    )
    first, second = (
        {name: text for name, text in files.items() if not name.startswith(".terraform")}
        for files in (first, second)
    )
    assert first.keys() == second.keys() >= DIFFER
    assert {name for name in first if first[name] != second[name]} <= DIFFER


def test_values_have_the_same_names():
    """A setting that one environment has and the other has not is a difference in kind."""
    assert _names(tfvars("staging")) == _names(tfvars("production"))
    assert set(tfvars("staging")) == set(labelled(FOLDERS[0], "variable"))


def _names(values: Mapping[str, Any], at: str = "") -> set[str]:
    names: set[str] = set()
    for name, value in values.items():
        path = f"{at}{name}"
        names.add(path)
        if isinstance(value, Mapping) and path not in MAPS:
            names |= _names(value, f"{path}.")
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_environment_calls_modules_and_nothing_else(folder):
    """All there are, each once, none from elsewhere."""
    blocks = parsed(folder)
    assert not {"resource", "data"} & set(blocks)
    sources = [each["source"] for each in labelled(folder, "module").values()]
    assert sorted(sources) == [f"../../{module}" for module in MODULES]
    text = (TERRAFORM / folder / "main.tf").read_text()
    assert set(re.findall(r"^(\w+)", text, re.MULTILINE)) == {"module"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_is_used_and_none_has_a_default(folder):
    """terraform.tfvars says all of it, and all of it does something."""
    text = "".join(
        path.read_text()
        for path in (TERRAFORM / folder).glob("*.tf")
        if path.name != "variables.tf"
    )
    for name, attributes in labelled(folder, "variable").items():
        assert "default" not in attributes
        assert f"var.{name}" in text, name
    for name, values in tfvars(FOLDERS[0].split("/")[1]).items():
        if isinstance(values, Mapping) and name != "tags":
            for field in values:
                assert f"var.{name}.{field}" in text, f"{name}.{field}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_is_tagged(folder):
    """Who answers for it, who pays, what for: by the provider, so that no resource is left out."""
    for provider in (each["aws"] for each in parsed(folder)["provider"]):
        (default,) = provider["default_tags"]
        assert default["tags"] == "${local.tags}"
        assert provider["allowed_account_ids"] == ["${var.account_id}"]
    environment = folder.split("/")[1]
    assert {*tfvars(environment)["tags"], "environment"} == TAGS
    assert "environment = var.environment" in (TERRAFORM / folder / "locals.tf").read_text()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_backend_is_one_that_terraform_knows(environment):
    """`validate` does not look at it: the first who initializes would find a mistyped key."""
    settings = _backend(environment)
    assert set(settings) - BACKEND == set()
    values = tfvars(environment)
    state = values["ci"]["state"]
    assert settings == {
        "bucket": f"mlops-{environment}-terraform",
        "key": state["object"],
        "region": values["region"],
        "allowed_account_ids": [values["account_id"]],
        "encrypt": True,
        "kms_key_id": f"alias/mlops-{environment}-terraform",
        "use_lockfile": True,
    }
    assert state["bucket_arn"] == f"arn:aws:s3:::{settings['bucket']}"
    assert state["key_arn"].startswith(
        f"arn:aws:kms:{values['region']}:{values['account_id']}:key/"
    )


def _backend(environment: str) -> dict[str, Any]:
    blocks = parsed(f"environments/{environment}")["terraform"]
    (backend,) = (found for each in blocks for found in each.get("backend", []))
    return backend["s3"]


def test_environments_share_no_state_and_no_addresses():
    """One that is applied over the other's state would destroy it."""
    first, second = (_backend(environment) for environment in ENVIRONMENTS)
    assert first["bucket"] != second["bucket"]
    assert first["key"] != second["key"]
    ranges = {tfvars(environment)["network"]["cidr"] for environment in ENVIRONMENTS}
    assert len(ranges) == len(ENVIRONMENTS)


def test_a_team_with_a_budget_is_a_tag():
    """Budgets count by tags' values: one that no resource has would stay at zero."""
    for environment in ENVIRONMENTS:
        values = tfvars(environment)
        assert set(values["budget"]["per_team"]) <= {values["tags"]["team"]}


# -- with terraform --------------------------------------------------------------------------------

MOCKS = """
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}
"""
REPLICA = MOCKS.replace("{\n", '{\n  alias = "replica"\n', 1).replace('"us-east-1"', '"us-west-2"')

BAD = {
    "a_range_that_is_none": ("network.cidr", "10.20.0.0/33", "cidr: .*is no IPv4 range"),
    "a_range_outside_of_what_pods_reach": ("network.cidr", "192.168.0.0/16", "inside 10.0.0.0/8"),
    "one_zone": ("network.zones", ["us-east-1a"], "at least two different zones"),
    "a_zone_of_another_region": (
        "network.zones",
        ["us-east-1a", "eu-west-1a"],
        "zones of us-east-1",
    ),
    "a_gpu_group_without_gpus": ("nodes.gpu_group.instance_types", ["m6i.xlarge"], "m6i.xlarge"),
    "a_gpu_group_of_nothing": ("nodes.gpu_group.max_size", 0, "max_size"),
    "a_database_that_can_be_deleted": (
        "database.deletion_protection",
        False,
        "deletion_protection",
    ),
    "a_database_without_backups": ("database.backup_retention_days", 0, "backup_retention_days"),
    "a_table_that_can_be_deleted": (
        "online_store.deletion_protection",
        False,
        r"online_store\.deletion_protection",
    ),
    "events_for_three_months": ("audit.retention_days", 91, r"audit\.retention_days"),
    "an_account_that_is_none": ("account_id", "production", "12 digits"),
    "an_environment_without_an_overlay": ("environment", "test", "staging or production"),
    "a_tag_of_nothing": ("tags.owner", "", "none may be empty"),
    "an_api_for_everybody": ("cluster.public_access_cidrs", ["0.0.0.0/0"], "public_access_cidrs"),
    "a_cluster_that_nobody_administers": (
        "cluster.access_entries",
        {},
        "AmazonEKSClusterAdminPolicy",
    ),
    "an_instance_that_is_not_sagemakers": (
        "sagemaker",
        {"instance_types": ["c5.large"]},
        r"sagemaker\.instance_types: c5\.large",
    ),
    "nobody_who_hears_of_it": ("alerts.emails", [], r"alerts\.emails"),
    "teams_that_have_more_than_there_is": ("budget.per_team", {"a": 9000}, "per_team"),
}


SAGEMAKER = {"on": ("sagemaker", {"instance_types": ["ml.c5.large"]}, "")}
"""What production has not, and may have."""


@pytest.fixture(scope="module")
def planned(terraform_copy) -> dict[str, str]:
    """What terraform says of production as it is and with endpoints on SageMaker, `good`, and with
    each value of BAD, by its name.

    All by one start of terraform, without AWS: `terraform test` plans each file for itself. A plan
    takes seconds and names everything that is wrong, so that it gets many bad values at once.
    """
    folder = terraform_copy / "environments" / "production"
    init(folder)
    tests = folder / "tests"
    tests.mkdir()
    plans = [{}, SAGEMAKER, *_batches()]
    for number, bad in enumerate(plans):
        values = "\n".join(f"{name} = {as_hcl(value)}" for name, value in _changed(bad).items())
        run = f'run "plan" {{\n  command = plan\n  variables {{\n{values}\n  }}\n}}\n'
        (tests / f"{number}.tftest.hcl").write_text(MOCKS + REPLICA + run)
    done = terraform("test", "-json", folder=folder, check=False)
    said = ["" for _ in plans]
    for line in done.output.splitlines():
        message = json.loads(line)
        if message["type"] == "diagnostic" and "@testfile" in message:
            number = int(message["@testfile"].removeprefix("tests/").removesuffix(".tftest.hcl"))
            found = message["diagnostic"]
            said[number] += f"{found['severity']}: {found['summary']}: {found['detail']}\n"
    of_bad = {name: said[number] for number, bad in enumerate(plans) for name in bad}
    return {"good": said[0] + said[1], "end": done.output[-4000:], **of_bad}


def _batches() -> list[dict[str, Any]]:
    """BAD in few parts, no variable twice in one; `environment`, which others need, alone."""
    batches: list[dict[str, Any]] = []
    for name, case in BAD.items():
        variable = case[0].split(".")[0]
        for batch in batches:
            taken = {path.split(".")[0] for path, *_ in batch.values()}
            if not {variable, "environment"} & taken and variable != "environment":
                batch[name] = case
                break
        else:
            batches.append({name: case})
    return batches


def _changed(bad: Mapping[str, Any]) -> dict[str, Any]:
    """Production's variables that ``bad`` changes."""
    values = tfvars("production")
    changed: dict[str, Any] = {}
    for path, value, _ in bad.values():
        first, *rest = path.split(".")
        changed[first] = copy.deepcopy(values[first])
        at: Any = changed
        for key in (first, *rest)[:-1]:
            at = at[key]
        at[(first, *rest)[-1]] = value
    return changed


@pytest.mark.terraform
@needs_terraform
def test_production_plans(planned):
    """The modules fit together: nothing that has to be known at plan is not."""
    assert planned["good"] == "", planned["good"]
    assert re.search(r'"passed":\s*2\b', planned["end"]), planned["end"]


@pytest.mark.terraform
@needs_terraform
@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_at_plan(planned, name):
    """Before anything is made, with the value's name and what to do."""
    message = BAD[name][2]
    assert re.search(message, " ".join(planned[name].split())), planned[name] or "it was planned"


@pytest.mark.terraform
@needs_terraform
def test_staging_plans(terraform_copy):
    """With its own values, which are smaller."""
    folder = terraform_copy / "environments" / "staging"
    init(folder)
    (folder / "tests").mkdir()
    run = 'run "plan" {\n  command = plan\n}\n'
    replica = REPLICA.replace('"us-west-2"', '"us-east-1"')
    (folder / "tests" / "staging.tftest.hcl").write_text(MOCKS + replica + run)
    terraform("test", "-no-color", folder=folder)


@pytest.mark.terraform
@needs_terraform
def test_a_mistyped_backend_key_passes_validate(terraform_copy, tmp_path):
    """Why this project checks its backends itself. Where this fails, Terraform has learned to."""
    (tmp_path / "main.tf").write_text(
        'terraform {\n  backend "s3" {\n    bucket = "b"\n    use_lock_file = true\n  }\n}\n'
    )
    init(tmp_path)
    terraform("validate", "-no-color", folder=tmp_path)
    assert "use_lock_file" not in BACKEND
