"""What each role may do, as Terraform plans it: the golden file, without a wildcard to spare."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from iam_cases import MADE_BY, PART_OF_ANOTHER
from iam_policies import Role, like, may, parsed, rendered, statements
from terraform_support import init, needs_terraform, terraform

GOLDEN = Path(__file__).parents[1] / "golden" / "terraform" / "iam.txt"
REWRITE = "REWRITE_GOLDEN"
TERRAFORM = Path(__file__).parents[2] / "terraform"

MOST_CHARACTERS = 6144
"""Of a managed policy, without white space: AWS' quota."""

CONFIGURATION = GOLDEN.with_name("iam.tf")

MOST_POLICIES = 10
"""Attached to a role: likewise."""

NAME = "mlops-production"

ROLES = parsed(GOLDEN.read_text()) if GOLDEN.exists() else {}

ANY_RESOURCE = {
    ("mlops-production-sagemaker", "LogInToRegistry"): "a token is of the account",
    ("mlops-production-sagemaker", "WriteMetrics"): "by its namespace; a metric is no resource",
    ("mlops-production-ci-push", "LogIn"): "a token is of the account",
    ("mlops-production-ci-plan", "ListSettings"): "calls that take no resource, or list",
    ("mlops-production-ci-apply", "ListSettings"): "calls that take no resource, or list",
    ("mlops-production-ci-apply", "ChangeNetwork"): "ids are given when things are made",
    ("mlops-production-ci-apply", "MakeKeys"): "a key has no ARN before it is made",
    ("mlops-production-ci-apply", "ChangeAccountWatches"): "calls that take no resource, or an id",
    ("mlops-production-karpenter", "List"): "instance profiles are listed, or none is",
    ("mlops-production-karpenter", "WhatCanBeBought"): "calls that take no resource",
    ("mlops-production-karpenter", "WhatItCosts"): "prices are nobody's",
    ("mlops-production-cluster-autoscaler", "WhatThereIs"): "calls that take no resource",
    ("mlops-production-workloads", "LogInToRegistry"): "a boundary, of a role above",
    ("mlops-production-workloads", "WriteMetrics"): "a boundary, of a role above",
    ("mlops-production-infrastructure", "Machines"): "a boundary of AWS' own policies",
    ("mlops-production-infrastructure", "Images"): "a boundary of AWS' own policies",
    ("mlops-production-infrastructure", "LogsAndMessages"): "a boundary of AWS' own policies",
}
"""Statements that allow something on every resource, with why."""


Resources = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(terraform_copy: Path) -> Resources:
    """What all modules make, of mocks: policies to the last word, and the same each time."""
    folder = terraform_copy / "iam"
    (folder / "tests").mkdir(parents=True)
    shutil.copy(terraform_copy / "modules" / "identity" / "versions.tf", folder)
    shutil.copy(CONFIGURATION, folder / "main.tf")
    shutil.copy(CONFIGURATION.with_name("iam.tftest.hcl"), folder / "tests")
    init(folder)
    done = terraform("test", "-json", "-verbose", folder=folder, check=False)
    lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    problems = [line["@message"] for line in lines if line.get("@level") == "error"]
    assert done.code == 0, problems
    (state,) = (line["test_state"] for line in lines if line.get("type") == "test_state")
    modules = state["root_module"]["child_modules"]
    return [resource for module in modules for resource in module["resources"]]


def of(made: Resources, kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a kind by address, without the kind."""
    return {
        each["address"].replace(f"{kind}.", ""): each["values"]
        for each in made
        if each["type"] == kind
    }


def roles_of(made: Resources) -> Iterator[Role]:
    """Each role with all that it has, by name, and then each boundary."""
    policies = of(made, "aws_iam_policy")
    inline = of(made, "aws_iam_role_policy").values()
    attachments = of(made, "aws_iam_role_policy_attachment")
    bounds = {each["name"]: each for where, each in policies.items() if where not in attachments}
    for role in sorted(of(made, "aws_iam_role").values(), key=lambda role: role["name"]):
        own = {where: each for where, each in attachments.items() if each["role"] == role["name"]}
        # A policy of ours and its attachment have one address.
        found = [policies[where] for where in own if where in policies]
        found += [each for each in inline if each["role"] in (role["name"], role["id"])]
        yield Role(
            name=role["name"],
            boundary=_name(role.get("permissions_boundary") or ""),
            trusts=statements(role["assume_role_policy"]),
            may=tuple(
                statement
                for each in sorted(found, key=lambda each: each["name"])
                for statement in statements(each["policy"])
            ),
            has=tuple(
                sorted(_name(each["policy_arn"]) for w, each in own.items() if w not in policies)
            ),
        )
    for name in sorted(bounds):
        yield Role(name, "", (), statements(bounds[name]["policy"]))


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


@pytest.mark.terraform
@needs_terraform
def test_the_roles_are_the_ones_that_were_agreed_on(made: Resources) -> None:
    """What somebody may do changes on purpose or not at all."""
    text = rendered(roles_of(made))
    if os.environ.get(REWRITE) == "1":
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(text)
        pytest.skip(f"{GOLDEN.name} was rewritten: look at its diff and commit it")
    assert text == GOLDEN.read_text(), (
        f"when it should have changed, run this test with {REWRITE}=1 and commit {GOLDEN.name}"
    )


@pytest.mark.terraform
@needs_terraform
def test_each_policy_is_as_long_as_iam_takes(made: Resources) -> None:
    """A longer one is refused when it is applied, not when it is planned."""
    sizes = {
        each["name"]: len(re.sub(r"\s", "", each["policy"]))
        for each in of(made, "aws_iam_policy").values()
    }
    assert {name: size for name, size in sizes.items() if size > MOST_CHARACTERS} == {}
    attached = [each["role"] for each in of(made, "aws_iam_role_policy_attachment").values()]
    assert max(attached.count(role) for role in attached) <= MOST_POLICIES


@pytest.mark.terraform
@needs_terraform
def test_ci_may_make_what_the_modules_make(made: Resources) -> None:
    """By the names that they give; each type of resource is asked about."""
    context = {"aws:RequestedRegion": "us-east-1", "kms:BypassPolicyLockoutSafetyCheck": "false"}
    refused = {
        each["address"]
        for each in made
        if each["mode"] == "managed" and each["type"] in MADE_BY
        for action, arn in (MADE_BY[each["type"]],)
        if not may(ROLES, f"{NAME}-ci-apply", action, arn.format(**each["values"]), context)
    }
    assert refused == set()
    kinds = {each["type"] for each in made if each["mode"] == "managed"}
    assert {kind for kind in kinds - set(MADE_BY) if not kind.startswith(PART_OF_ANOTHER)} == set()


@pytest.mark.terraform
@needs_terraform
def test_ci_may_make_the_roles_that_are_bounded(made: Resources) -> None:
    """Those of all modules, with the boundary that each has; its own it may not."""
    account = "arn:aws:iam::123456789012"
    for role in of(made, "aws_iam_role").values():
        arn = f"{account}:role{role['path'] or '/'}{role['name']}"
        context = {"iam:PermissionsBoundary": role["permissions_boundary"] or ""}
        allowed = may(ROLES, f"{NAME}-ci-apply", "iam:CreateRole", arn, context)
        assert allowed is ("-ci-" not in role["name"]), arn
    for where, policy in of(made, "aws_iam_policy").items():
        arn = f"{account}:policy{policy['path']}{policy['name']}"
        allowed = may(ROLES, f"{NAME}-ci-apply", "iam:CreatePolicy", arn)
        ours = where.startswith("module.ci.") or policy["name"] == f"{NAME}-workloads"
        assert allowed is not ours, arn


def test_policies_of_aws_are_the_ones_that_eks_and_rds_ask_for() -> None:
    """Of the infrastructure's roles alone; what a workload may do is written here."""
    assert {name: role.has for name, role in ROLES.items() if role.has} == {
        "mlops-node": ("AmazonEC2ContainerRegistryPullOnly", "AmazonEKSWorkerNodePolicy"),
        f"{NAME}-cluster": ("AmazonEKSClusterPolicy",),
        f"{NAME}-database-monitoring": ("AmazonRDSEnhancedMonitoringRole",),
        f"{NAME}-vpc-cni": ("AmazonEKS_CNI_Policy",),
    }


@pytest.mark.parametrize("name", ROLES)
def test_no_role_may_do_everything(name: str) -> None:
    """Neither everything at all nor everything with one service."""
    found = [
        (each.sid, action)
        for each in ROLES[name].may
        if each.effect == "Allow"
        for action in each.actions
        if action.partition(":")[2] in ("*", "") or ":" not in action
    ]
    assert found == []


def test_every_resource_is_named_where_a_service_takes_names() -> None:
    """A statement on all resources stands in a list here, with its reason."""
    found = {
        (role.name, each.sid)
        for role in ROLES.values()
        for each in role.may
        if each.effect == "Allow" and "*" in each.resources
    }
    assert found == set(ANY_RESOURCE)


@pytest.mark.parametrize("name", [name for name, role in ROLES.items() if role.trusts])
def test_who_takes_a_role_on_is_asked_for_more_than_its_service(name: str) -> None:
    """Each trust has conditions, and no pattern where a job or a pod says who it is."""
    for each in ROLES[name].trusts:
        # EC2 says nothing about the instance that asks.
        assert each.conditions or each.by == ("Service ec2.amazonaws.com",), each.sid
        assert "*" not in "".join(each.by)
        assert all(operator != "StringLike" for operator, _, _ in each.conditions)


WORKLOADS = {
    f"{NAME}-{what}"
    for what in (
        *("dagster", "run", "step", "endpoint", "mlflow", "sagemaker"),
        *("external-secrets", "database-bootstrap"),
    )
}


@pytest.mark.parametrize("name", [name for name, role in ROLES.items() if role.trusts])
def test_each_role_is_bounded(name: str) -> None:
    """Whatever somebody attaches to it. CI's own are a person's to change."""
    kind = "workloads" if name in WORKLOADS else "infrastructure"
    assert ROLES[name].boundary == ("" if "-ci-" in name else f"{NAME}-{kind}")


@pytest.mark.parametrize("kind", ["workloads", "infrastructure"])
def test_what_roles_may_do_is_within_their_boundary(kind: str) -> None:
    """A boundary that lags behind the policies refuses what they give."""
    boundary = ROLES[f"{NAME}-{kind}"]
    within = {action for each in boundary.may if each.effect == "Allow" for action in each.actions}
    asked = {
        action
        for role in ROLES.values()
        if role.boundary == boundary.name
        for each in role.may
        if each.effect == "Allow"
        for action in each.actions
    }
    assert {action for action in asked if not any(like(each, action) for each in within)} == set()
    if kind == "workloads":
        assert within == asked, "the boundary allows what no workload needs"


ADMIN = re.compile(r"AdministratorAccess|PowerUserAccess|IAMFullAccess|policy/\*")


def test_no_module_attaches_a_policy_of_administrators() -> None:
    """In all of terraform/, of the nodes' and the cluster's roles too."""
    found = [
        f"{path.relative_to(TERRAFORM)}:{number}"
        for path in sorted(TERRAFORM.rglob("*.tf"))
        if ".terraform" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ADMIN.search(line.partition("#")[0]) and "iam::aws:policy/*" not in line
    ]
    assert found == []


WHOLE_SERVICES = {
    "modules/cluster/main.tf: kms:*": "a key's own policy leaves the key to the account's policies",
    "modules/network/flow_logs.tf: kms:*": "likewise",
    "modules/network/endpoints.tf: s3:*": "what may pass an endpoint; who may do what, roles say",
    "modules/network/endpoints.tf: dynamodb:*": "likewise",
}
"""Policies of resources, which are about that one alone."""


def test_no_module_allows_every_action_of_a_service() -> None:
    """In all of terraform/. A statement that denies may; one that allows stands in a list."""
    found = {
        f"{path.relative_to(TERRAFORM)}: {action}"
        for path in sorted(TERRAFORM.rglob("*.tf"))
        if ".terraform" not in path.parts
        for action in _actions_of_whole_services(path.read_text())
    }
    assert found == set(WHOLE_SERVICES)


def _actions_of_whole_services(text: str) -> Iterator[str]:
    """The actions ``*`` and ``service:*`` in statements that allow."""
    for block in re.split(r"(?=\bSid\s+=)", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)):
        effect = re.search(r'Effect\s+=\s+"(\w+)"', block)
        done = re.search(r"Action\s+=\s+(\[[^\]]*\]|\"[^\"]*\")", block)
        if done is not None and (effect is None or effect[1] == "Allow"):
            yield from re.findall(r'"((?:[a-z0-9-]+:)?\*)"', done[1])
