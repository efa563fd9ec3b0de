"""Staging applied to moto, planned again, and destroyed."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from services import CREDENTIALS, answers, free_port, process
from terraform_support import copy_of_terraform, terraform

pytestmark = [pytest.mark.terraform, pytest.mark.moto, pytest.mark.timeout(900)]

# Most of the time goes by between questions whether something is there yet.
WITHOUT_ASKING = ("-input=false", "-no-color", "-auto-approve", "-parallelism=30")
REGION = CREDENTIALS["AWS_REGION"]

PROVIDER = """
  region                      = "us-east-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  max_retries                 = 3
"""
ROOT = f"""
terraform {{
  backend "local" {{}}
}}
provider "aws" {{{PROVIDER}}}
provider "aws" {{
  alias = "replica"{PROVIDER}}}
"""
"""Over the root's own blocks: the state is a file, and no question goes anywhere but to moto."""

NONE = "  for_each = {}\n"
NOT_ONE = "  count = 0\n"
NO_VALUE = "  value = null\n"
OLD_VERSIONS_ONLY = """  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
"""
LEFT_OUT = {
    "events": {'resource "aws_sqs_queue_redrive_allow_policy" "dead_letter"': NOT_ONE},
    "lake": {
        'resource "aws_s3_bucket_lifecycle_configuration" "data"': OLD_VERSIONS_ONLY,
        'resource "aws_s3_bucket_logging" "data"': NONE,
    },
    "cluster": {
        'resource "aws_eks_addon" "agents"': NONE,
        'resource "aws_eks_addon" "services"': NONE,
        'resource "aws_eks_access_entry" "this"': NONE,
        'resource "aws_eks_access_policy_association" "this"': NONE,
        'resource "aws_ec2_tag" "discovery"': NOT_ONE,
        'output "security_group_id"': "  value = aws_security_group.moto.id\n",
    },
    "nodes": {
        'resource "aws_eks_access_entry" "node"': NOT_ONE,
        'resource "aws_eks_pod_identity_association" "autoscaler"': NONE,
        'resource "aws_eks_pod_identity_association" "karpenter"': NOT_ONE,
    },
    "identity": {'resource "aws_eks_pod_identity_association" "workload"': NONE},
    "audit": {
        'resource "aws_accessanalyzer_analyzer" "this"': NOT_ONE,
        'output "analyzer_arn"': NO_VALUE,
    },
    "budget": {
        'resource "aws_budgets_budget" "this"': NONE,
        'resource "aws_ce_anomaly_monitor" "this"': NOT_ONE,
        'resource "aws_ce_anomaly_subscription" "this"': f"{NOT_ONE}  monitor_arn_list = []\n",
        'output "anomaly_monitor_arn"': NO_VALUE,
    },
}
"""What moto does not have, left out by override files in the modules' copies: add-ons, access
entries and Pod Identity of EKS; the access analyzer; budgets' subscribers, anomaly detection; which
queues may use a dead-letter queue, and lifecycle rules by size (the provider waits for both in
vain); logging into a bucket whose policy denies somebody something (it stumbles over `*`)."""

CLUSTERS_GROUP = """
data "aws_subnet" "moto" {
  id = var.subnet_ids[0]
}
resource "aws_security_group" "moto" {
  name   = "eks-${var.name}"
  vpc_id = data.aws_subnet.moto.vpc_id
}
"""
"""EKS makes a security group of its own; moto's clusters have none."""

REPLACED = {"delete", "create"}
DRIFTS = {
    # Forgets access_config and upgrade_policy; without the first EKS would make another cluster.
    "aws_eks_cluster": REPLACED,
    # Belongs to the cluster; makes up a key pair and a disk, forgets node repair and update_config.
    "aws_eks_node_group": REPLACED,
    # Name the cluster, which is another one.
    "aws_launch_template": set(),
    "aws_iam_role_policy": set(),
    "aws_db_instance": {
        "performance_insights_enabled",
        "performance_insights_kms_key_id",
        "performance_insights_retention_period",
    },
    "aws_db_parameter_group": {"parameter"},
    "aws_vpc_security_group_ingress_rule": {"description"},
    # The same policy, spelled otherwise.
    "aws_sqs_queue": {"redrive_policy"},
    "aws_s3_bucket_notification": {"eventbridge"},
}
"""By type, what a second plan changes although nothing did: moto forgets it or makes it up."""


@dataclass(frozen=True)
class Account:
    """An account that moto stands in for, and the root that is applied to it."""

    folder: Path
    environment: dict[str, str]

    def terraform(self, *arguments: str, check: bool = True) -> Any:
        """Terraform in the root."""
        return terraform(*arguments, folder=self.folder, environment=self.environment, check=check)

    def client(self, service: str) -> Any:
        """boto3's client."""
        return boto3.client(
            service,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


def override(left_out: dict[str, str]) -> str:
    """An override file."""
    return "".join(f"{block} {{\n{body}}}\n" for block, body in left_out.items())


@pytest.fixture(scope="module")
def account(terraform_program: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """Staging, applied."""
    folder = tmp_path_factory.mktemp("account")
    copy = copy_of_terraform(folder / "terraform")
    for module, left_out in LEFT_OUT.items():
        (copy / "modules" / module / "moto_override.tf").write_text(override(left_out))
    (copy / "modules" / "cluster" / "moto.tf").write_text(CLUSTERS_GROUP)
    root = copy / "environments" / "staging"
    (root / "moto_override.tf").write_text(ROOT)
    values = root / "terraform.tfvars"
    text = values.read_text()
    # Destroying what is protected is refused, as it should be.
    values.write_text(re.sub(r"(deletion_protection\s*=) true", r"\1 false", text))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(command, folder / "moto.log", answers(url), settings):
        here = Account(root, {**CREDENTIALS, "AWS_ENDPOINT_URL": url})
        init_with_state(root)
        here.terraform("apply", *WITHOUT_ASKING)
        yield here


def init_with_state(root: Path) -> None:
    """Init, with the backend of the override: a file."""
    terraform("init", "-input=false", "-no-color", folder=root)


def changes(plan: dict[str, Any]) -> dict[str, dict[str, set[str]]]:
    """What a plan changes: type → address → attributes, or the deed where it is no update."""
    found: dict[str, dict[str, set[str]]] = {}
    for each in plan.get("resource_changes", []):
        change = each["change"]
        if change["actions"] in (["no-op"], ["read"]):
            continue
        before, after = change["before"] or {}, change["after"] or {}
        unknown = set(change.get("after_unknown") or {})
        attributes = (
            {name for name in {*before, *after} if before.get(name) != after.get(name)} - unknown
            if change["actions"] == ["update"]
            else set(change["actions"])
        )
        found.setdefault(each["type"], {})[each["address"]] = attributes
    return found


def test_what_was_asked_for_is_there(account: Account) -> None:
    """Buckets encrypted and closed, the database behind its lock, the queue, the roles."""
    outputs = json.loads(account.terraform("output", "-json").output)
    s3 = account.client("s3")
    for name in outputs["bucket_names"]["value"].values():
        blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
        assert all(blocked.values()), name
        rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    (database,) = account.client("rds").describe_db_instances()["DBInstances"]
    assert database["StorageEncrypted"]
    assert not database["PubliclyAccessible"]
    table = outputs["online_table_name"]["value"]
    assert account.client("dynamodb").describe_table(TableName=table)["Table"]["TableStatus"]
    roles = {
        each["Arn"] for each in account.client("iam").list_roles(PathPrefix="/mlops/")["Roles"]
    }
    assert set(outputs["role_arns"]["value"].values()) <= roles


def test_a_second_plan_changes_nothing(account: Account) -> None:
    """But what moto is known to drift in; of that, neither more nor less."""
    plan = account.folder / "second.tfplan"
    done = account.terraform(
        "plan", "-input=false", "-no-color", f"-out={plan}", "-detailed-exitcode", check=False
    )
    assert done.code in (0, 2), done.errors
    shown = json.loads(account.terraform("show", "-json", str(plan)).output)
    found = {kind: set().union(*each.values()) for kind, each in changes(shown).items()}
    assert found == DRIFTS, changes(shown)
    untouched = [
        each for each in shown["resource_changes"] if each["change"]["actions"] == ["no-op"]
    ]
    assert len(untouched) > 200


def test_destroying_leaves_nothing(account: Account) -> None:
    """Nothing that Terraform made is left, and nothing stands in its way."""
    account.terraform("destroy", "-refresh=false", *WITHOUT_ASKING)
    assert account.terraform("state", "list").output == ""
    assert account.client("s3").list_buckets()["Buckets"] == []
    assert account.client("rds").describe_db_instances()["DBInstances"] == []
    assert account.client("eks").list_clusters()["clusters"] == []
    left = account.client("ec2").describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["false"]}])
    assert left["Vpcs"] == []
