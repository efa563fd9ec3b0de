"""Who may do what through the Kubernetes API: the Roles, word by word.

tests/kubernetes/test_rbac.py asks a real API server the same.
"""

from typing import NamedTuple

import pytest
from manifests import everything, of_kind, part, pod_templates, values

BOUND = {
    ("dagster/dagster", "mlops-runs"): {
        "batch/jobs": {"create", "get", "list", "delete"},
        "batch/jobs/status": {"get"},
        "pods": {"get", "list", "delete"},
        "pods/log": {"get"},
        "events": {"list"},
    },
    ("dagster/dagster", "mlops-endpoints"): {"pods": {"list"}},
    ("mlops-runs/mlops-run", "mlops-runs"): {
        "batch/jobs": {"create", "get", "list", "delete"},
        "pods": {"get", "list"},
        "pods/log": {"get"},
        "events": {"list"},
    },
    ("mlops-runs/mlops-run", "mlops-endpoints"): {
        "apps/deployments": {"create", "get", "patch"},
        "services": {"create", "patch"},
        "policy/poddisruptionbudgets": {"create", "patch"},
        "networking.k8s.io/networkpolicies": {"create", "patch"},
        "autoscaling/horizontalpodautoscalers": {"create", "patch", "delete"},
        "keda.sh/scaledobjects": {"create", "patch", "delete"},
        "pods": {"list"},
        "pods/log": {"get"},
    },
    ("mlops-runs/mlops-run", "the cluster"): {"nodes": {"get"}},
}
"""(service account, where): resources: verbs. Nobody else has any."""


class Grant(NamedTuple):
    """One verb on one resource."""

    account: str
    where: str
    resource: str
    verb: str


def grants() -> list[Grant]:
    """What all bindings give."""
    documents = part("base")
    rules = {
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each["rules"]
        for kind in ("Role", "ClusterRole")
        for each in of_kind(documents, kind)
    }
    found = []
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of_kind(documents, kind):
            where = binding["metadata"].get("namespace")
            role = binding["roleRef"]
            bound = rules[(role["kind"], where if role["kind"] == "Role" else None, role["name"])]
            for subject in binding["subjects"]:
                account = f"{subject['namespace']}/{subject['name']}"
                found += [
                    Grant(account, where or "the cluster", f"{group}/{resource}".lstrip("/"), verb)
                    for rule in bound
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                ]
    return found


def test_each_account_has_the_verbs_that_it_needs_and_no_other():
    """Against the table, in both directions."""
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for grant in grants():
        verbs = found.setdefault((grant.account, grant.where), {})
        verbs.setdefault(grant.resource, set()).add(grant.verb)
    assert found == BOUND


@pytest.mark.parametrize("resource", ["secrets", "pods/exec", "roles", "serviceaccounts", "*"])
def test_nobody_reaches_what_would_give_them_more(resource):
    """Secrets, commands in pods, Roles and tokens lead to every other right."""
    for grant in grants():
        assert grant.resource.split("/", 1)[-1] != resource
        assert grant.verb not in ("*", "bind", "escalate", "impersonate")


def test_each_role_is_bound_and_each_account_exists():
    """A Role that nobody has is a mistake, and so is a binding to nobody."""
    documents = part("base")
    accounts = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in of_kind(documents, "ServiceAccount")
    }
    assert {grant.account for grant in grants()} <= accounts
    roles = {
        each["metadata"]["name"] for k in ("Role", "ClusterRole") for each in of_kind(documents, k)
    }
    bound = {
        each["roleRef"]["name"]
        for k in ("RoleBinding", "ClusterRoleBinding")
        for each in of_kind(documents, k)
    }
    assert roles == bound


def test_who_has_no_role_has_no_token():
    """Step pods and model servers run the teams' code: the API has nothing for them."""
    with_roles = {grant.account for grant in grants()}
    for account in of_kind(part("base"), "ServiceAccount"):
        name = f"{account['metadata']['namespace']}/{account['metadata']['name']}"
        assert account.get("automountServiceAccountToken", True) == (name in with_roles), name


def test_pods_run_under_accounts_of_their_namespace():
    """And each of ours names one, instead of the namespace's default."""
    accounts = {
        (each["metadata"]["namespace"], each["metadata"]["name"])
        for each in of_kind(part("base"), "ServiceAccount")
    }
    for what, namespace, pod in pod_templates(everything()):
        if namespace != "kube-system":
            assert (namespace, pod["serviceAccountName"]) in accounts, what
    account = values("production")["global"]["serviceAccountName"]
    assert ("dagster", account) in accounts
