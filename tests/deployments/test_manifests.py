"""The manifests: valid, unprivileged, and of one mind with the values and the compute profiles."""

import copy
import re

import pytest
import yaml
from manifests import (
    ENVIRONMENTS,
    KUBERNETES,
    ROOT,
    SCHEMAS,
    VERSIONS,
    compute_profiles,
    everything,
    instance,
    named,
    no_schemas,
    of_kind,
    part,
    pod_templates,
    read,
    rendered,
    restricted,
    schema_problems,
    values,
)

from mlops_assets.core.compute import GPU

SPOT_AND_ON_DEMAND = "karpenter.sh/capacity-type"


CUSTOM = {"NodePool", "EC2NodeClass", "ExternalSecret", "ClusterSecretStore"}


def all_fit(documents, version):
    """Assert that ``documents`` fit their schemas; skip where those of custom ones are missing."""
    without = set()
    for document in documents:
        try:
            assert schema_problems(document, version) == [], document["metadata"]["name"]
        except FileNotFoundError:
            without.add(document["kind"])
    assert without <= CUSTOM
    if without:
        # They are other projects', too large for this repository; Kubernetes' own are a package.
        pytest.skip(no_schemas(*without))


@pytest.mark.parametrize("version", VERSIONS)
def test_files_hold_what_kubernetes_knows(version):
    """Every document of every file, by strict schemas; custom resources' are in shared/."""
    control = read(KUBERNETES / "overlays/cluster-test/control-plane.yaml")
    all_fit([*everything(), *control], version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_kustomize_makes_is_valid(environment, version):
    """The overlays, rendered."""
    all_fit(rendered(environment), version)


def test_a_field_that_kubernetes_does_not_know_is_an_error():
    """At any depth: the API server would leave it out in silence."""
    deployment = copy.deepcopy(named(part("mlflow"), "Deployment", "mlflow"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periods"] = 1
    (problem,) = schema_problems(deployment, VERSIONS[0])
    assert "periods" in problem
    pool = copy.deepcopy(named(part("aws"), "NodePool", "gpu-spot"))
    pool["spec"]["template"]["spec"]["taint"] = []
    if not SCHEMAS.exists():
        # As above: a node pool is Karpenter's.
        pytest.skip(no_schemas("NodePool"))
    (problem,) = schema_problems(pool, VERSIONS[0])
    assert "taint" in problem


def test_the_test_cluster_gets_nothing_that_it_does_not_know():
    """Kubernetes 1.20: no policy/v1, no custom resources, nothing that only AWS has."""
    known = {"v1", "apps/v1", "rbac.authorization.k8s.io/v1", "scheduling.k8s.io/v1"}
    assert {each["apiVersion"] for each in rendered("cluster-test")} == known


def test_no_secret_is_in_a_file():
    """Secrets come from Secrets Manager; a file has their names."""
    for path in (ROOT / "deployments").rglob("*"):
        if path.suffix in (".yaml", ".env") and "images" not in path.parts:
            text = path.read_text()
            assert not re.search(r"^kind: Secret$", text, re.MULTILINE), path
            assert not re.search(r"://[^/\s:$]+:[^@\s$]+@(?!host)", text), path


def test_pods_are_unprivileged():
    """All but the device plugin, whose work is a folder of the kubelet's."""
    documents = [*everything(), *read(KUBERNETES / "overlays/cluster-test/control-plane.yaml")]
    for what, namespace, pod in pod_templates(documents):
        known = ["may run as root", "mounts a host path"] if namespace == "kube-system" else []
        assert restricted(pod) == known, what
    for namespace in of_kind(part("base"), "Namespace"):
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pods_of_the_chart_are_unprivileged(environment):
    """What the values say of the webserver, the daemon and the code servers."""
    found = values(environment)
    deployments = found["dagster-user-deployments"]["deployments"]
    for each in (found["dagsterWebserver"], found["dagsterDaemon"], *deployments):
        container = {name: each[name] for name in ("securityContext", "resources")}
        pod = {
            "securityContext": each["podSecurityContext"],
            "volumes": each["volumes"],
            "containers": [container],
        }
        assert restricted(pod) == []
        # The root is read-only: these are what is written to.
        assert {mount["mountPath"] for mount in each["volumeMounts"]} >= {
            "/tmp",
            found["global"]["dagsterHome"],
        }


def test_images_are_of_one_version():
    """No `latest`, which is another image tomorrow."""
    for what, _, pod in pod_templates(everything()):
        for container in pod["containers"]:
            image = container["image"]
            # Ours gets its tag from the overlay.
            assert image == "mlops-code-location" or re.search(r":v?\d+\.\d+", image), what


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_our_images_come_from_one_registry(environment):
    """No pod of an overlay has the bare name that the base has."""
    for what, namespace, pod in pod_templates(rendered(environment)):
        if namespace != "kube-system":
            for container in pod["containers"]:
                assert re.fullmatch(
                    r"[\w.-]+\.amazonaws\.com/mlops-[\w-]+:\S+", container["image"]
                ), what


def test_pods_name_priorities_that_there_are():
    """A pod of an unknown PriorityClass is refused."""
    there = {each["metadata"]["name"]: each for each in of_kind(part("base"), "PriorityClass")}
    named_ = {pod["priorityClassName"] for _, _, pod in pod_templates(everything())}
    named_ |= {
        profile["priority_class"]
        for profile in compute_profiles().values()
        if "priority_class" in profile
    }
    assert named_ - {"system-node-critical"} <= set(there)
    # Who waits for an answer goes before who trains. The chart's pods can have no class: a class
    # that preempted would begin with them.
    order = sorted(there, key=lambda name: there[name]["value"], reverse=True)
    assert order == ["mlops-serving", "mlops-control", "mlops-run", "mlops-training"]
    assert {each["preemptionPolicy"] for each in there.values()} == {"Never"}
    assert not any(each.get("globalDefault") for each in there.values())


def offers(pool):
    """Labels of a NodePool's nodes, each with its possible values."""
    template = pool["spec"]["template"]
    labels = {name: {value} for name, value in template["metadata"]["labels"].items()}
    for requirement in template["spec"]["requirements"]:
        if requirement["operator"] == "In":
            labels[requirement["key"]] = set(requirement["values"])
    return labels


def tolerated(taint, tolerations):
    """Whether one of ``tolerations`` is for ``taint``."""
    return any(
        each["key"] == taint["key"]
        and each.get("effect") in (None, taint["effect"])
        and (each.get("operator") == "Exists" or each.get("value") == taint["value"])
        for each in tolerations
    )


def pools_for(profile):
    """Names of the NodePools that the pods of ``profile`` run on."""
    selector = profile.get("node_selector", {SPOT_AND_ON_DEMAND: "on-demand"})
    return {
        pool["metadata"]["name"]
        for pool in of_kind(part("aws"), "NodePool")
        if all(value in offers(pool).get(label, ()) for label, value in selector.items())
        and all(
            tolerated(taint, profile.get("tolerations", ()))
            for taint in pool["spec"]["template"]["spec"].get("taints", ())
        )
    }


def test_each_compute_profile_has_nodes():
    """Labels and taints of compute.yaml and of Karpenter's pools are one agreement."""
    assert {name: pools_for(profile) for name, profile in compute_profiles().items()} == {
        "cpu": {"cpu-on-demand"},
        "cpu_on_demand": {"cpu-on-demand"},
        "cpu_spot": {"cpu-spot"},
        "gpu_spot": {"gpu-spot"},
        "gpu_on_demand": {"gpu-on-demand"},
    }


def test_the_control_plane_and_runs_are_on_on_demand_nodes():
    """What is there for everyone is not interrupted to save money."""
    selectors = [
        pod["nodeSelector"] for _, ns, pod in pod_templates(everything()) if ns != "kube-system"
    ]
    found = values("production")
    selectors += [found["dagsterWebserver"]["nodeSelector"], found["dagsterDaemon"]["nodeSelector"]]
    launcher = instance("production")["run_launcher"]["config"]
    selectors.append(launcher["run_k8s_config"]["pod_spec_config"]["nodeSelector"])
    assert {selector[SPOT_AND_ON_DEMAND] for selector in selectors} == {"on-demand"}


@pytest.mark.parametrize("name", ["gpu-spot", "gpu-on-demand"])
def test_gpu_nodes_are_for_trainings_and_are_left_alone_while_one_runs(name):
    """Tainted; taken down only when empty; from several families and zones; bounded."""
    pool = named(part("aws"), "NodePool", name)
    template = pool["spec"]["template"]["spec"]
    assert template["taints"] == [{"key": GPU, "value": "true", "effect": "NoSchedule"}]
    assert pool["spec"]["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert len(offers(pool)["karpenter.k8s.aws/instance-family"]) >= 3
    assert len(offers(pool)["topology.kubernetes.io/zone"]) >= 3
    assert int(pool["spec"]["limits"][GPU]) >= 1
    plugin = named(part("aws"), "DaemonSet", "nvidia-device-plugin")["spec"]["template"]["spec"]
    assert all(tolerated(taint, plugin["tolerations"]) for taint in template["taints"])
    assert all(value in offers(pool)[label] for label, value in plugin["nodeSelector"].items())


def test_each_pool_has_a_node_class_and_a_limit():
    """A pool without a limit is a bill without one."""
    classes = {each["metadata"]["name"] for each in of_kind(part("aws"), "EC2NodeClass")}
    for pool in of_kind(part("aws"), "NodePool"):
        assert pool["spec"]["limits"]["cpu"]
        assert pool["spec"]["template"]["spec"]["nodeClassRef"]["name"] in classes
    for each in of_kind(part("aws"), "EC2NodeClass"):
        options = each["spec"]["metadataOptions"]
        assert options["httpTokens"] == "required"
        assert options["httpPutResponseHopLimit"] == 1
        assert all(disk["ebs"]["encrypted"] for disk in each["spec"]["blockDeviceMappings"])


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_dagsters_limits_are_reached_before_the_clusters(environment):
    """A run in Dagster's queue says why it waits; a Job whose pod a quota refuses does not."""
    documents = rendered(environment)
    concurrency = instance(environment)["concurrency"]
    quota = named(documents, "ResourceQuota", "runs")["spec"]["hard"]
    gpus = concurrency["pools"]["default_limit"]
    # An interrupted pod may hold its GPU until its grace is over, while the next attempt starts.
    assert gpus < int(quota[f"requests.{GPU}"])
    assert gpus <= int(named(documents, "NodePool", "gpu-spot")["spec"]["limits"][GPU])
    launcher = instance(environment)["run_launcher"]["config"]["resources"]["requests"]
    runs = concurrency["runs"]["max_concurrent_runs"]
    assert launcher["cpu"].endswith("m")
    assert runs * int(launcher["cpu"][:-1]) / 1000 < int(quota["requests.cpu"])
    assert runs * 2 <= int(quota["pods"])


def variables_of_the_code():
    """Environment variables that the definitions bind."""
    text = (ROOT / "mlops_assets" / "definitions.py").read_text()
    return set(re.findall(r'dg\.EnvVar\("(\w+)"\)', text))


def environment_file(environment):
    """The variables of an overlay."""
    lines = (KUBERNETES / "overlays" / environment / "environment.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_runs_are_told_what_the_code_asks_for(environment):
    """A variable that is missing fails every run that needs it."""
    found = environment_file(environment)
    assert found["MLOPS_ENV"] == environment
    secret = [
        each
        for each in of_kind(part("aws"), "ExternalSecret")
        if each["metadata"]["name"] == "mlops-secrets"
    ]
    for each in secret:
        named_there = {entry["secretKey"] for entry in each["spec"]["data"]}
        assert variables_of_the_code() <= set(found) | named_there
    assert found["MLFLOW_TRACKING_URI"] == "http://mlflow.mlflow.svc:5000"
    service = named(part("mlflow"), "Service", "mlflow")
    assert (service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]) == (
        "mlflow",
        5000,
    )
    target = found["MLOPS_ENDPOINTS"].removeprefix("kubernetes://")
    named(part("base"), "Namespace", target)


def references(pod):
    """Secrets and ConfigMaps that a pod cannot start without: (kind, name)."""
    found = set()
    for container in pod["containers"]:
        for source in container.get("envFrom", ()):
            for kind, reference in source.items():
                found.add((kind, reference["name"]))
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                found.add(("secretRef", variable["valueFrom"]["secretKeyRef"]["name"]))
    return found


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_pods_need_to_start_is_there(environment):
    """Secrets and ConfigMaps, in the namespace of whoever names them."""
    documents = rendered(environment)
    there = {
        (kind, each["metadata"]["namespace"], each["metadata"]["name"])
        for kind, of in (("secretRef", "ExternalSecret"), ("configMapRef", "ConfigMap"))
        for each in of_kind(documents, of)
    }
    for what, namespace, pod in pod_templates(documents):
        for kind, name in references(pod):
            assert (kind, namespace, name) in there, what
    found = values(environment)
    launcher = instance(environment)["run_launcher"]["config"]
    for namespace in ("dagster", launcher["job_namespace"]):
        assert ("secretRef", namespace, found["global"]["postgresqlSecretName"]) in there
        assert ("configMapRef", namespace, "mlops-environment") in there
    for name in launcher["env_secrets"]:
        assert ("secretRef", launcher["job_namespace"], name) in there
    for deployment in found["dagster-user-deployments"]["deployments"]:
        for each in deployment["envSecrets"]:
            assert ("secretRef", "dagster", each["name"]) in there


def test_the_test_clusters_control_plane_is_the_charts():
    """Its Deployments are written out; what matters of them is what the values say."""
    documents = read(KUBERNETES / "overlays/cluster-test/control-plane.yaml")
    found = copy.deepcopy(values("cluster-test"))
    (code,) = found["dagster-user-deployments"]["deployments"]
    code["image"] = found["dagsterDaemon"]["image"]
    home = found["global"]["dagsterHome"]
    for name, of_values in (
        ("dagster-webserver", found["dagsterWebserver"]),
        ("dagster-daemon", found["dagsterDaemon"]),
        (code["name"], code),
    ):
        pod = named(documents, "Deployment", name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "{repository}:{tag}".format(**of_values["image"])
        assert pod["serviceAccountName"] == found["global"]["serviceAccountName"]
        assert pod["nodeSelector"] == of_values["nodeSelector"]
        assert pod["securityContext"] == of_values["podSecurityContext"]
        assert container["securityContext"] == of_values["securityContext"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {mount["mountPath"] for mount in of_values["volumeMounts"]} <= mounts
        assert {volume["name"]: volume for volume in of_values["volumes"]}.items() <= {
            volume["name"]: volume for volume in pod["volumes"]
        }.items()
        sources = [*of_values["envConfigMaps"], *of_values.get("envSecrets", ())]
        given = [each for source in container["envFrom"] for each in source.values()]
        assert given == sources
        variables = {each["name"]: each for each in container["env"]}
        assert variables["DAGSTER_HOME"]["value"] == home
        password = variables["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert password["name"] == found["global"]["postgresqlSecretName"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            given = dict(of_values.get(probe, {}))
            expected = given if given.pop("enabled", True) else {}
            # Else the chart puts in a check that starts a Python.
            assert not expected or {"exec", "httpGet"} & set(expected)
            assert container.get(probe, {}) == expected, (name, probe)
    web = named(documents, "Service", "dagster-webserver")["spec"]["ports"][0]["port"]
    assert web == found["dagsterWebserver"]["service"]["port"]
    workspace = yaml.safe_load((KUBERNETES / "overlays/cluster-test/workspace.yaml").read_text())
    (server,) = (each["grpc_server"] for each in workspace["load_from"])
    assert server == {"host": code["name"], "port": code["port"], "location_name": code["name"]}
    named(documents, "Service", code["name"])
