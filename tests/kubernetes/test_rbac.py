"""What runs may do through a real API server, and what they may not.

The Roles are applied as they are committed; questions are asked, and some deeds tried, under the
platform's own service accounts.
"""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import ON_DEMAND, SPOT, bring_up, kubectl, missing
from manifests import KUBERNETES, of_kind, part

pytestmark = pytest.mark.kubernetes

CONTROL = ("dagster", "dagster")
RUN = ("mlops-runs", "mlops-run")
STEP = ("mlops-runs", "mlops-step")
SERVER = ("mlops-endpoints", "mlops-endpoint")
TRACKING = ("mlflow", "mlflow")
ALL = (CONTROL, RUN, STEP, SERVER, TRACKING)
CLUSTER = ""

NEEDED = [
    *((CONTROL, verb, "jobs.batch", "mlops-runs") for verb in ("create", "get", "list", "delete")),
    (CONTROL, "get", "jobs.batch/status", "mlops-runs"),
    *((CONTROL, verb, "pods", "mlops-runs") for verb in ("get", "list", "delete")),
    (CONTROL, "get", "pods/log", "mlops-runs"),
    (CONTROL, "list", "events", "mlops-runs"),
    (CONTROL, "list", "pods", "mlops-endpoints"),
    *((RUN, verb, "jobs.batch", "mlops-runs") for verb in ("create", "get", "list", "delete")),
    *((RUN, verb, "pods", "mlops-runs") for verb in ("get", "list")),
    (RUN, "get", "pods/log", "mlops-runs"),
    (RUN, "list", "events", "mlops-runs"),
    (RUN, "get", "nodes", CLUSTER),
    *((RUN, verb, "deployments.apps", "mlops-endpoints") for verb in ("create", "get", "patch")),
    *(
        (RUN, verb, resource, "mlops-endpoints")
        for verb in ("create", "patch")
        for resource in (
            "services",
            "poddisruptionbudgets.policy",
            "networkpolicies.networking.k8s.io",
            "horizontalpodautoscalers.autoscaling",
            "scaledobjects.keda.sh",
        )
    ),
    (RUN, "delete", "horizontalpodautoscalers.autoscaling", "mlops-endpoints"),
    (RUN, "delete", "scaledobjects.keda.sh", "mlops-endpoints"),
    (RUN, "list", "pods", "mlops-endpoints"),
    (RUN, "get", "pods/log", "mlops-endpoints"),
]
"""(who, verb, resource, namespace): what the code calls."""

NAMESPACES = ("dagster", "mlops-runs", "mlops-endpoints", "mlflow", "kube-system", "default")

FORBIDDEN = [
    # What would give anyone every other right.
    *(
        (who, verb, resource, namespace)
        for who in ALL
        for namespace in NAMESPACES
        for verb, resource in (
            ("get", "secrets"),
            ("list", "secrets"),
            ("create", "pods"),
            ("create", "pods/exec"),
            ("create", "serviceaccounts/token"),
            ("create", "rolebindings.rbac.authorization.k8s.io"),
            ("patch", "roles.rbac.authorization.k8s.io"),
        )
    ),
    *(
        (who, verb, resource, CLUSTER)
        for who in ALL
        for verb, resource in (
            ("patch", "nodes"),
            ("delete", "nodes"),
            ("list", "nodes"),
            ("create", "namespaces"),
            ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
            ("impersonate", "serviceaccounts"),
        )
    ),
    # The control plane starts runs; it neither serves nor reads nodes.
    (CONTROL, "create", "jobs.batch", "dagster"),
    (CONTROL, "create", "jobs.batch", "mlops-endpoints"),
    (CONTROL, "patch", "jobs.batch", "mlops-runs"),
    (CONTROL, "create", "deployments.apps", "mlops-endpoints"),
    (CONTROL, "get", "nodes", CLUSTER),
    (CONTROL, "delete", "deployments.apps", "dagster"),
    # A run starts steps and applies endpoints: it takes none away, and touches nobody else's.
    (RUN, "delete", "pods", "mlops-runs"),
    (RUN, "patch", "jobs.batch", "mlops-runs"),
    (RUN, "delete", "deployments.apps", "mlops-endpoints"),
    (RUN, "list", "deployments.apps", "mlops-endpoints"),
    (RUN, "delete", "services", "mlops-endpoints"),
    (RUN, "delete", "networkpolicies.networking.k8s.io", "mlops-endpoints"),
    (RUN, "delete", "poddisruptionbudgets.policy", "mlops-endpoints"),
    *(
        (RUN, "create", "networkpolicies.networking.k8s.io", namespace)
        for namespace in ("dagster", "mlops-runs", "mlflow", "default")
    ),
    (RUN, "delete", "pods", "mlops-endpoints"),
    (RUN, "create", "configmaps", "mlops-endpoints"),
    (RUN, "get", "configmaps", "mlops-runs"),
    (RUN, "create", "deployments.apps", "mlops-runs"),
    (RUN, "patch", "deployments.apps", "dagster"),
    (RUN, "create", "services", "dagster"),
    (RUN, "create", "jobs.batch", "dagster"),
    (RUN, "create", "jobs.batch", "mlops-endpoints"),
    (RUN, "patch", "resourcequotas", "mlops-runs"),
    # Steps, model servers and MLflow run code that needs no cluster.
    *(
        (who, verb, resource, namespace)
        for who in (STEP, SERVER, TRACKING)
        for namespace in NAMESPACES
        for verb, resource in (
            ("create", "jobs.batch"),
            ("get", "pods"),
            ("list", "pods"),
            ("get", "pods/log"),
            ("patch", "deployments.apps"),
            ("get", "configmaps"),
            ("list", "events"),
        )
    ),
    *((who, "get", "nodes", CLUSTER) for who in (STEP, SERVER, TRACKING)),
]


@pytest.fixture(scope="module")
def admin() -> Any:
    """A client of the cluster with every right, after the base was applied to it."""
    from kubernetes import client, config

    why = missing()
    if why is not None:
        pytest.skip(why)
    if "KUBECONFIG" not in os.environ:
        bring_up()
    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    found = client.ApiClient(configuration)
    nodes = {node.metadata.name for node in client.CoreV1Api(found).list_node().items}
    if nodes != {ON_DEMAND, SPOT}:
        pytest.skip(f"KUBECONFIG is another cluster's: its nodes are {', '.join(sorted(nodes))}")
    kubectl("apply", "-k", str(KUBERNETES / "base"))
    return found


def allowed(admin: Any, who: tuple[str, str], verb: str, resource: str, namespace: str) -> bool:
    """What `kubectl auth can-i` says of a service account."""
    from kubernetes import client

    named, _, sub = resource.partition("/")
    name, _, group = named.partition(".")
    review = client.V1SubjectAccessReview(
        spec=client.V1SubjectAccessReviewSpec(
            user=f"system:serviceaccount:{who[0]}:{who[1]}",
            groups=["system:serviceaccounts", f"system:serviceaccounts:{who[0]}"],
            resource_attributes=client.V1ResourceAttributes(
                verb=verb,
                resource=name,
                subresource=sub or None,
                group=group,
                namespace=namespace or None,
            ),
        )
    )
    answer = client.AuthorizationV1Api(admin).create_subject_access_review(review)
    assert not answer.status.evaluation_error
    return answer.status.allowed


@pytest.mark.parametrize(("who", "verb", "resource", "namespace"), NEEDED)
def test_what_the_code_calls_is_allowed(admin, who, verb, resource, namespace):
    """Each verb that dagster-k8s, the executor, the reaper and the endpoint asset use."""
    assert allowed(admin, who, verb, resource, namespace)


def test_what_nobody_needs_is_forbidden(admin):
    """All of the table at once, so that a failure lists every hole."""
    assert [each for each in FORBIDDEN if allowed(admin, *each)] == []


def test_the_table_is_the_roles():
    """A verb in a Role that the table lacks would be tried by nobody."""
    granted = {
        (verb, f"{resource}.{group}".rstrip(".") if "/" not in resource else resource)
        for kind in ("Role", "ClusterRole")
        for role in of_kind(part("base"), kind)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(verb, name.replace(".batch/", "/")) for _, verb, name, _ in NEEDED}


@pytest.fixture(scope="module")
def as_account(admin) -> Any:
    """A function that gives a client with a service account's own token."""
    from kubernetes import client

    def made(who: tuple[str, str]) -> Any:
        request = client.AuthenticationV1TokenRequest(
            # No audience is the API server's own.
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
        )
        core = client.CoreV1Api(admin)
        token = core.create_namespaced_service_account_token(who[1], who[0], request).status.token
        configuration = client.Configuration()
        configuration.host = admin.configuration.host
        configuration.ssl_ca_cert = admin.configuration.ssl_ca_cert
        return client.ApiClient(configuration, "authorization", f"Bearer {token}")

    return made


def job(name: str) -> dict[str, Any]:
    """A Job whose pod no node takes."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"mlops/no-such-node": "true"},
                    "containers": [{"name": "none", "image": "none:none"}],
                }
            },
        },
    }


@pytest.fixture
def name(admin) -> Iterator[str]:
    """A name for a Job, which is gone afterwards."""
    from kubernetes import client

    chosen = f"rbac-{uuid.uuid4().hex[:8]}"
    yield chosen
    try:
        client.BatchV1Api(admin).delete_namespaced_job(
            chosen, "mlops-runs", propagation_policy="Background"
        )
    except client.ApiException as error:
        assert error.status == 404


def test_a_run_worker_starts_looks_after_and_deletes_a_step(as_account, name):
    """With its own token, as in its pod."""
    from kubernetes import client

    run = as_account(RUN)
    batch, core = client.BatchV1Api(run), client.CoreV1Api(run)
    batch.create_namespaced_job("mlops-runs", job(name))
    assert batch.read_namespaced_job(name, "mlops-runs").metadata.name == name
    core.list_namespaced_pod("mlops-runs", label_selector=f"job-name={name}")
    core.list_namespaced_event("mlops-runs", limit=1)
    batch.delete_namespaced_job(name, "mlops-runs", propagation_policy="Background")


def test_a_step_starts_nothing_and_reads_no_secret(as_account, name):
    """With its own token, which its pod does not even have."""
    from kubernetes import client

    step = as_account(STEP)
    for deed in (
        lambda: client.BatchV1Api(step).create_namespaced_job("mlops-runs", job(name)),
        lambda: client.CoreV1Api(step).list_namespaced_secret("mlops-runs"),
        lambda: client.CoreV1Api(step).list_namespaced_pod("mlops-runs"),
    ):
        with pytest.raises(client.ApiException) as refused:
            deed()
        assert refused.value.status == 403


def test_a_run_cannot_open_an_endpoint_to_the_world(as_account):
    """The Role lets it make Services; the quota lets none have a load balancer or a node's port."""
    from kubernetes import client

    core = client.CoreV1Api(as_account(RUN))
    for kind in ("LoadBalancer", "NodePort"):
        service = {
            "metadata": {"name": "rbac-open"},
            "spec": {"type": kind, "ports": [{"port": 80}], "selector": {"no": "pod"}},
        }
        with pytest.raises(client.ApiException) as refused:
            core.create_namespaced_service("mlops-endpoints", service, dry_run="All")
        assert refused.value.status == 403
        assert "exceeded quota" in refused.value.body


def test_a_run_applies_an_endpoint_and_nothing_elsewhere(as_account):
    """As a dry run: the API server decides as if it were meant."""
    from kubernetes import client

    run = as_account(RUN)
    labels = {"app": "rbac"}
    deployment = {
        "metadata": {"name": "rbac"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "none", "image": "none:none"}]},
            },
        },
    }
    apps = client.AppsV1Api(run)
    apps.create_namespaced_deployment("mlops-endpoints", deployment, dry_run="All")
    for namespace in ("dagster", "mlops-runs", "mlflow"):
        with pytest.raises(client.ApiException) as refused:
            apps.create_namespaced_deployment(namespace, deployment, dry_run="All")
        assert refused.value.status == 403
