"""What terraform/, deployments/ and compute.yaml each say of the same thing: once the same.

By reading alone: terraform is not needed.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from manifests import (
    KUBERNETES,
    ROOT,
    VERSIONS,
    compute_profiles,
    everything,
    named,
    of_kind,
    part,
    pod_templates,
    read,
    rendered,
    values,
)
from terraform_support import ENVIRONMENTS, TERRAFORM, labelled, parsed, resources, tfvars

SPOT = {"karpenter.sh/capacity-type": "spot"}
OVERLAYS = KUBERNETES / "overlays"


def local(folder: str, name: str) -> Any:
    """A local value of a module."""
    (found,) = (each[name] for each in parsed(folder)["locals"] if name in each)
    return found


def variables(environment: str) -> dict[str, str]:
    """environment.env."""
    lines = (OVERLAYS / environment / "environment.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def kustomization(environment: str) -> Mapping[str, Any]:
    """The overlay's kustomization.yaml."""
    return yaml.safe_load((OVERLAYS / environment / "kustomization.yaml").read_text())


def name_of(environment: str) -> str:
    """`local.name` of an environment's root."""
    (found,) = (
        each["name"] for each in parsed(f"environments/{environment}")["locals"] if "name" in each
    )
    assert found == "mlops-${var.environment}"
    return f"mlops-{environment}"


def passed(module: str, argument: str) -> object:
    """What the environments give a module; None where it has its default."""
    return labelled("environments/production", "module")[module].get(argument)


def pools() -> dict[str, Mapping[str, Any]]:
    """Karpenter's node pools, by name."""
    return {each["metadata"]["name"]: each for each in of_kind(part("aws"), "NodePool")}


def requirement(pool: Mapping[str, Any], key: str) -> list[str]:
    """The values that a pool asks of a label of its nodes."""
    requirements = pool["spec"]["template"]["spec"]["requirements"]
    (found,) = (each["values"] for each in requirements if each["key"] == key)
    return found


# -- nodes -----------------------------------------------------------------------------------------


def test_gpu_nodes_have_one_set_of_taints():
    """Terraform's group and Karpenter's pools: a pod that fits on one fits on the other."""
    ours = local("modules/nodes", "gpu_taints")
    for name in ("gpu-spot", "gpu-on-demand"):
        assert pools()[name]["spec"]["template"]["spec"]["taints"] == ours
    for name in ("gpu_spot", "gpu_on_demand"):
        for taint in ours:
            assert any(
                each["key"] == taint["key"]
                and each.get("operator", "Equal") == "Exists"
                and each["effect"] == taint["effect"]
                for each in compute_profiles()[name]["tolerations"]
            )
    device_plugin = named(part("aws"), "DaemonSet", "nvidia-device-plugin")
    tolerated = {each["key"] for each in device_plugin["spec"]["template"]["spec"]["tolerations"]}
    assert {taint["key"] for taint in ours} <= tolerated


def test_the_gpu_group_has_the_labels_that_profiles_select():
    """A pod of gpu_spot fits on its nodes, and the device plugin does; one of gpu_on_demand not."""
    ours = local("modules/nodes", "gpu_labels")
    assert compute_profiles()["gpu_spot"]["node_selector"] == ours
    assert not compute_profiles()["gpu_on_demand"]["node_selector"].items() <= ours.items()
    pool = pools()["gpu-spot"]["spec"]["template"]["metadata"]["labels"]
    assert {**SPOT, **pool}.items() >= ours.items()
    device_plugin = named(part("aws"), "DaemonSet", "nvidia-device-plugin")
    selected = device_plugin["spec"]["template"]["spec"]["nodeSelector"]
    assert selected.items() <= ours.items()


def test_no_pod_of_ours_is_drawn_to_the_system_group():
    """It has no label that our pods select: it is for what Karpenter itself needs."""
    group = re.search(r"system = \{(.*?)\n      \}", _text("modules/nodes/main.tf"), re.DOTALL)
    assert group and re.search(r"labels\s*= \{\}", group[1])
    for what, namespace, pod in pod_templates(everything()):
        if namespace != "kube-system":
            assert pod.get("nodeSelector"), what


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_gpu_instances_are_of_the_pools_families(environment):
    """What was tried on one family was not on another."""
    families = set(requirement(pools()["gpu-spot"], "karpenter.k8s.aws/instance-family"))
    assert families == set(
        requirement(pools()["gpu-on-demand"], "karpenter.k8s.aws/instance-family")
    )
    group = tfvars(environment)["nodes"]["gpu_group"]
    types = group["instance_types"]
    assert {each.split(".")[0] for each in types} <= families
    # One GPU each, as the pools ask for.
    assert not [each for each in types if each.endswith((".12xlarge", ".24xlarge", ".48xlarge"))]
    validated = re.search(r'"\^\(([a-z0-9|]+)\)', _text("modules/nodes/variables.tf"))
    assert validated and set(validated[1].split("|")) == families


def test_a_gpu_profile_fits_on_every_instance_of_the_group():
    """The smallest has 4 CPUs and 16 GiB, less what the kubelet and daemons take."""
    profile = compute_profiles()["gpu_spot"]
    assert float(profile["requests"]["cpu"]) <= 3.5
    assert int(profile["requests"]["memory"].removesuffix("Gi")) <= 14
    for environment in ENVIRONMENTS:
        for each in tfvars(environment)["nodes"]["gpu_group"]["instance_types"]:
            assert re.fullmatch(r"(g4dn|g5|g6)\.(x|\d+x)large", each)


def test_root_volumes_are_as_large_as_karpenters():
    """The same image lies on both."""
    node_class = named(part("aws"), "EC2NodeClass", "gpu")
    (mapping,) = node_class["spec"]["blockDeviceMappings"]
    for environment in ENVIRONMENTS:
        group = tfvars(environment)["nodes"]["gpu_group"]
        assert mapping["ebs"]["volumeSize"] == f"{group['disk_gib']}Gi"


def test_karpenters_nodes_have_the_role_that_terraform_makes():
    """By name; and it is the default, which the environments leave."""
    role = labelled("modules/nodes", "variable")["node_role_name"]["default"]
    assert passed("nodes", "node_role_name") is None
    for node_class in of_kind(part("aws"), "EC2NodeClass"):
        assert node_class["spec"]["role"] == role


def test_karpenter_finds_subnets_and_the_security_group():
    """By the tag karpenter.sh/discovery."""
    for module in ("network", "cluster"):
        tag = labelled(f"modules/{module}", "variable")["discovery_tag"]["default"]
        assert passed(module, "discovery_tag") is None
        for node_class in of_kind(part("aws"), "EC2NodeClass"):
            for terms in ("subnetSelectorTerms", "securityGroupSelectorTerms"):
                assert node_class["spec"][terms] == [{"tags": {"karpenter.sh/discovery": tag}}]
    assert '"karpenter.sh/discovery" = var.discovery_tag' in _text("modules/network/main.tf")
    assert '"karpenter.sh/discovery"' in _text("modules/cluster/main.tf")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_karpenters_nodes_have_the_tags_of_everything_else(environment):
    """Who pays for a node is asked by tag, and the provider's default tags do not reach it."""
    node_classes = of_kind(rendered(environment), "EC2NodeClass")
    assert len(node_classes) == 2
    for node_class in node_classes:
        tags = tfvars(environment)["tags"] | {"environment": environment}
        assert node_class["spec"]["tags"] == tags | {"app": "mlops"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_zones_are_zones_of_the_pools(environment):
    """A pool may name more: it takes those that have a subnet."""
    zones = set(tfvars(environment)["network"]["zones"])
    for name, pool in pools().items():
        assert zones <= set(requirement(pool, "topology.kubernetes.io/zone")), name


# -- accounts --------------------------------------------------------------------------------------


def accounts_with_roles() -> set[str]:
    """`namespace/name` of the accounts that the module identity binds a role to."""
    text = _text("modules/identity/main.tf")
    return set(re.findall(r'"([a-z-]+/[a-z-]+)"', text[: text.index("descriptions")]))


def test_each_account_has_a_role_and_each_role_an_account():
    """By namespace and name; a role that nobody takes is a door that nobody watches."""
    documents = [*everything(), *read(KUBERNETES / "database/base/service-account.yaml")]
    ours = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in of_kind(documents, "ServiceAccount")
    }
    operators = {"external-secrets/external-secrets"}
    default = labelled("modules/identity", "variable")["external_secrets_account"]["default"]
    assert {default} == operators
    assert accounts_with_roles() == ours


def test_runs_and_steps_take_accounts_that_have_roles():
    """Those that Dagster's values and the compute profiles name."""
    found = values("production")
    launcher = found["runLauncher"]["config"]["k8sRunLauncher"]
    namespace = launcher["jobNamespace"]
    run = launcher["runK8sConfig"]["podSpecConfig"]["serviceAccountName"]
    assert f"{namespace}/{run}" in accounts_with_roles()
    assert f"dagster/{found['global']['serviceAccountName']}" in accounts_with_roles()
    named_ = {
        profile["service_account"]
        for profile in compute_profiles().values()
        if "service_account" in profile
    }
    assert {f"{namespace}/{each}" for each in named_} <= accounts_with_roles()


# -- stores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_buckets_are_the_ones_that_terraform_makes(environment):
    """Variables of runs, MLflow's artifacts, the output of steps."""
    name = name_of(environment)
    assert resources("modules/lake", "aws_s3_bucket")["data"]["bucket"] == "${var.name}-${each.key}"
    kinds = re.search(r"kinds\s*= toset\(\[(.*?)\]\)", _text("modules/lake/main.tf"))
    assert kinds
    made = {f"{name}-{each}" for each in re.findall(r'"(\w+)"', kinds[1])}
    assert made == {f"{name}-{each}" for each in ("lake", "artifacts", "logs", "ledger")}

    found = variables(environment)
    logs = values(environment)["computeLogManager"]["config"]["s3ComputeLogManager"]["bucket"]
    overlay = (OVERLAYS / environment / "kustomization.yaml").read_text()
    used = {
        variable: _bucket(found[variable])
        for variable in found
        if found[variable].startswith("s3://")
    }
    assert used == {
        "MLOPS_LAKE_URL": f"{name}-lake",
        "MLOPS_LEDGER_URL": f"{name}-ledger",
        "MLOPS_ARTIFACTS_URL": f"{name}-artifacts",
        "MLOPS_REPORTS_URL": f"{name}-artifacts",
        "MLOPS_DOCUMENTS_URL": f"{name}-artifacts",
    }
    assert logs == f"{name}-logs"
    assert {_bucket(each) for each in re.findall(r"s3://[^\s\],]+", overlay)} == {
        f"{name}-artifacts"
    }


def _bucket(url: str) -> str:
    return url.removeprefix("s3://").split("/")[0]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_online_table_is_the_one_that_terraform_makes(environment):
    """For those that write it and those that read it."""
    table = resources("modules/online_store", "aws_dynamodb_table")["online"]["name"]
    assert table == "${var.name}-online"
    url = f"dynamodb://{name_of(environment)}-online"
    assert variables(environment)["MLOPS_ONLINE_URL"] == url
    (endpoints,) = (
        each["literals"]
        for each in kustomization(environment)["configMapGenerator"]
        if each["namespace"] == "mlops-endpoints"
    )
    assert f"MLOPS_ONLINE_URL={url}" in endpoints


def test_secrets_are_the_ones_that_terraform_makes():
    """Each that External Secrets copies is there, and each that is there is copied."""
    made = set(labelled("modules/secrets", "variable")["names"]["default"])
    assert passed("secrets", "names") is None
    read_: set[str] = set()
    for secret in of_kind(part("aws"), "ExternalSecret"):
        spec = secret["spec"]
        read_ |= {each["remoteRef"]["key"] for each in spec.get("data", ())}
        read_ |= {each["extract"]["key"] for each in spec.get("dataFrom", ())}
    assert read_ == made


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_images_come_from_repositories_that_terraform_makes(environment):
    """In the account and the region of the environment."""
    given = tfvars(environment)
    registry = f"{given['account_id']}.dkr.ecr.{given['region']}.amazonaws.com"
    made = {f"{registry}/{name}" for name in given["registry"]["repositories"]}
    found = variables(environment)
    images = {
        found[name].rsplit(":", 1)[0] for name in ("MLOPS_SERVER_IMAGE", "MLOPS_TRAINING_IMAGE")
    }
    images |= {each["newName"] for each in kustomization(environment)["images"]}
    assert images == made
    renamed = {each["name"] for each in kustomization(environment)["images"]}
    for what, _, pod in pod_templates(everything()):
        for container in pod["containers"]:
            assert container["image"].rsplit(":", 1)[0] in renamed, what


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_there_is_one_region(environment):
    """Terraform's, the pods', Secrets Manager's, the logs', that of the price table."""
    region = tfvars(environment)["region"]
    (store,) = of_kind(part("aws"), "ClusterSecretStore")
    prices = yaml.safe_load((ROOT / "mlops_assets" / "prices.yaml").read_text())
    logs = values(environment)["computeLogManager"]["config"]["s3ComputeLogManager"]
    assert {
        variables(environment)["AWS_REGION"],
        store["spec"]["provider"]["aws"]["region"],
        logs["region"],
        prices["region"],
    } == {region}
    assert f"AWS_REGION={region}" in str(kustomization(environment)["configMapGenerator"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pods_may_reach_the_database(environment):
    """Its subnets are of the addresses that the network policies let pods reach by PostgreSQL."""
    network = ipaddress.IPv4Network(tfvars(environment)["network"]["cidr"])
    policies = [
        each
        for each in of_kind(part("guards"), "NetworkPolicy")
        if each["metadata"]["name"] == "to-postgresql"
    ]
    assert {each["metadata"]["namespace"] for each in policies} == {
        "dagster",
        "mlops-runs",
        "mlflow",
    }
    for policy in policies:
        (rule,) = policy["spec"]["egress"]
        (to,) = rule["to"]
        assert network.subnet_of(ipaddress.IPv4Network(to["ipBlock"]["cidr"]))
        assert rule["ports"] == [
            {"protocol": "TCP", "port": values(environment)["postgresql"]["service"]["port"]}
        ]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_environments_name_is_the_one_that_the_code_knows(environment):
    """MLOPS_ENV chooses the resources."""
    assert tfvars(environment)["environment"] == variables(environment)["MLOPS_ENV"] == environment


def test_the_cluster_has_a_version_whose_schemas_the_manifests_are_held_to():
    """tests/deployments checks the manifests by those of the oldest and the newest."""
    for environment in ENVIRONMENTS:
        version = tfvars(environment)["cluster"]["kubernetes_version"]
        assert VERSIONS[0] <= version <= VERSIONS[-1]


def _text(path: str) -> str:
    return (TERRAFORM / path).read_text()
