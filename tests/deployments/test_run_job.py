"""The Job that Dagster submits for a run with our settings: launched for real, at an API server
that writes down what it is sent.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kubernetes.client
import pytest
import yaml
from dagster import DagsterRun
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test, instance_for_test
from manifests import (
    ENVIRONMENTS,
    VERSIONS,
    compute_profiles,
    instance,
    named,
    part,
    restricted,
    schema_problems,
)

GOLDEN = Path(__file__).parent / "golden"
RUN_ID = "00000000-0000-4000-8000-000000000001"
IMAGE = "registry/mlops-code-location:commit"


class _Writes(BaseHTTPRequestHandler):
    """Answers a POST with what it was given, and keeps it."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent.append((self.path, body))
        answer = json.dumps(body).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextmanager
def api_server():
    """(address, what was sent to it)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Writes)
    server.sent = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def kubeconfig_of(address):
    """A kubeconfig for an API server without a log-in."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {"server": address}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": {}}],
            "current-context": "it",
        }
    )


def launcher_of(environment, kubeconfig):
    """The run launcher of ``environment``; the only difference: it runs outside of a cluster."""
    from dagster_k8s import K8sRunLauncher

    config = instance(environment)["run_launcher"]["config"]
    config |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    return K8sRunLauncher.from_config_value(None, config)


@pytest.fixture(scope="module")
def dagster_instance():
    """An instance on SQLite; the launchers below are put in place of its own."""
    with instance_for_test() as found:
        yield found


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def launched(request, dagster_instance, tmp_path_factory):
    """(environment, path, Job) of a launched run."""
    with api_server() as (address, sent):
        kubeconfig = tmp_path_factory.mktemp("launched") / "kubeconfig"
        kubeconfig.write_text(kubeconfig_of(address))
        launcher = launcher_of(request.param, kubeconfig)
        launcher.register_instance(dagster_instance)
        origin = JobPythonOrigin(
            "__ASSET_JOB",
            RepositoryPythonOrigin(
                executable_path="python",
                code_pointer=ModuleCodePointer("mlops_assets.definitions", "defs", None),
                container_image=IMAGE,
                entry_point=["dagster"],
            ),
        )
        run = dagster_instance.get_run_by_id(RUN_ID) or create_run_for_test(
            dagster_instance, "__ASSET_JOB", run_id=RUN_ID, job_code_origin=origin
        )
        launcher.launch_run(LaunchRunContext(run, workspace=None))
    ((path, job),) = sent
    return request.param, path, job


def _settled(job):
    """``job`` without what differs from run to run: Dagster's version, and the arguments, which
    hold the whole instance.
    """
    text = json.loads(json.dumps(job))
    container = text["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    container["args"] = [*container["args"][:3], "<run and instance>"]
    for metadata in (text["metadata"], text["spec"]["template"]["metadata"]):
        metadata["labels"]["app.kubernetes.io/version"] = "<version>"
    return text


def test_the_job_is_the_expected_one(launched):
    """Compared with golden/run-job-<environment>.json: a change of it shows in a review."""
    environment, path, job = launched
    assert path.split("?")[0] == "/apis/batch/v1/namespaces/mlops-runs/jobs"
    golden = GOLDEN / f"run-job-{environment}.json"
    assert _settled(job) == json.loads(golden.read_text()), f"{golden.name} differs"


def test_the_job_is_a_valid_one(launched):
    """By the strict schemas of the Kubernetes versions that we run on."""
    for version in VERSIONS:
        assert schema_problems(launched[2], version) == []


def test_the_run_worker_is_placed_and_cannot_much(launched):
    """On on-demand capacity, under its own account, as nobody in particular."""
    pod = launched[2]["spec"]["template"]["spec"]
    assert restricted(pod) == []
    assert pod["serviceAccountName"] == "mlops-run"
    assert pod["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    accounts = [
        each["metadata"]["namespace"]
        for each in part("base")
        if each["kind"] == "ServiceAccount" and each["metadata"]["name"] == "mlops-run"
    ]
    assert accounts == ["mlops-runs"]
    named(part("base"), "PriorityClass", pod["priorityClassName"])
    assert pod["containers"][0]["image"] == IMAGE


OWN = sorted(name for name, each in compute_profiles().items() if each.get("pod") != "worker")


@pytest.mark.parametrize("name", OWN)
def test_a_steps_pod_has_what_its_profile_says_and_the_rest_from_the_launcher(name, tmp_path):
    """Merged by dagster-k8s: as little rights as the run worker, on the profile's nodes."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job, get_user_defined_k8s_config

    from mlops_assets.core.compute import POD_TAG, op_tags, parse_profiles

    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of("http://127.0.0.1:1"))
    launcher = launcher_of("production", kubeconfig)
    profile = parse_profiles({"profiles": compute_profiles()}, "compute.yaml")[name]
    tag = json.dumps(op_tags(name, profile)[POD_TAG])
    context = K8sContainerContext(
        service_account_name="mlops-step",
        run_k8s_config=get_user_defined_k8s_config({POD_TAG: tag}),
    )
    base = K8sContainerContext.create_for_run(
        DagsterRun("job", RUN_ID), launcher, include_run_tags=False
    )
    merged = base.merge(context)
    job = construct_dagster_k8s_job(
        merged.get_k8s_job_config(IMAGE, launcher),
        args=[],
        job_name="dagster-step",
        user_defined_k8s_config=merged.run_k8s_config,
        component="step_worker",
    )
    body = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    assert schema_problems(body, VERSIONS[0]) == []
    pod = body["spec"]["template"]["spec"]
    assert restricted(pod) == []
    assert pod["nodeSelector"] == profile.node_selector
    assert pod["priorityClassName"] == "mlops-training"
    assert pod["serviceAccountName"] == "mlops-step"
    # Dagster's instance cannot be loaded without one; it is of an account without any right.
    assert pod["automountServiceAccountToken"] is True
    assert pod["terminationGracePeriodSeconds"] == profile.grace_seconds
    assert pod["containers"][0]["resources"]["limits"] == profile.limits
    # A spot node goes two minutes after its notice.
    assert profile.capacity != "spot" or profile.grace_seconds < 120
    # Its logs, its variables and its scratch are the run worker's.
    assert {"/tmp", "/opt/dagster/home"} <= {
        mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
    }
    assert {"secretRef": {"name": "mlops-secrets"}} in pod["containers"][0]["envFrom"]


def test_kubernetes_does_not_retry_runs(launched):
    """Dagster does: a pod that Kubernetes starts again would run a second time beside it."""
    spec = launched[2]["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    # Long enough to be looked at, and gone by itself.
    assert 3600 <= spec["ttlSecondsAfterFinished"] <= 7 * 86_400


def test_no_secret_is_in_the_job(launched):
    """Secrets are named, in the environment; arguments are for everyone to read."""
    container = launched[2]["spec"]["template"]["spec"]["containers"][0]
    for variable in container["env"]:
        assert "PASSWORD" not in variable["name"] or "valueFrom" in variable
    assert {"secretRef": {"name": "mlops-secrets"}} in container["envFrom"]
    assert {"configMapRef": {"name": "mlops-environment"}} in container["envFrom"]
