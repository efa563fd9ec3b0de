"""The platform on the two-node test cluster, with its services beside it on loopback.

PostgreSQL, S3 and MLflow's server run on this machine and are exposed to the pods; Dagster's code
server, webserver and daemon are pods of the cluster, from the manifests of deployments/kubernetes
and images of deployments/images with the tests' use cases added.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster_images import write_context
from services import (
    CREDENTIALS,
    PASSWORD,
    answers,
    free_port,
    mlflow,
    postgres,
    postgres_uri,
    process,
    s3,
)

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT.parent / "shared" / "kubernetes"
OVERLAY = ROOT / "deployments" / "kubernetes" / "overlays" / "cluster-test"
PROGRAMS = (
    Path(os.environ.get("KUBERNETES_FROM_DEBIAN_CACHE", "~/.cache/kubernetes-from-debian"))
    .expanduser()
    .joinpath("bin", "kube-apiserver")
)

PORTS = {"postgres": 15432, "s3": 15433, "mlflow": 15434}
"""The overlay's dagster.yaml names the first."""

NAMESPACES = ("dagster", "mlops-runs", "mlops-endpoints")
RUNS, ENDPOINTS = "mlops-runs", "mlops-endpoints"
BUCKETS = ("mlops-lake", "mlops-artifacts", "mlops-logs")
CODE, TRAINING, SERVER = IMAGES = ("mlops-code-location", "mlops-training", "mlops-server")
SPOT, ON_DEMAND = "gpu-spot", "cpu-on-demand"

ENVIRONMENT = {
    **CREDENTIALS,
    "AWS_DEFAULT_REGION": CREDENTIALS["AWS_REGION"],
    "AWS_ALLOW_HTTP": "true",
    "AWS_ENDPOINT_URL": f"http://host.internal:{PORTS['s3']}",
    "MLFLOW_TRACKING_URI": f"http://host.internal:{PORTS['mlflow']}",
    "MLOPS_ENV": "staging",
    "MLOPS_LAKE_URL": "s3://mlops-lake/tables",
    "MLOPS_DOCUMENTS_URL": "s3://mlops-lake/documents",
    "MLOPS_ARTIFACTS_URL": "s3://mlops-artifacts/models",
    "MLOPS_REPORTS_URL": "s3://mlops-artifacts/reports",
    "MLOPS_ENDPOINTS": f"kubernetes://{ENDPOINTS}",
    "MLOPS_SERVER_IMAGE": f"{SERVER}:test",
    "MLOPS_TRAINING_IMAGE": f"{TRAINING}:test",
    "MLOPS_COMPUTE_PROFILES": "/etc/mlops/compute/profiles.yaml",
    "MLOPS_ALERT_CHANNELS": "console",
    "MLOPS_DAGSTER_URL": "http://dagster-webserver.dagster.svc:3000",
    "MLOPS_RUNBOOKS_URL": "docs/runbooks",
}


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """What kubectl prints."""
    done = subprocess.run(
        ["kubectl", *arguments],  # noqa: S607 - the cluster puts its own on PATH
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def script(name: str, *arguments: str, seconds: float = 600) -> str:
    """What one of the cluster's scripts prints."""
    done = subprocess.run(
        [str(SCRIPTS / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout


def missing() -> str | None:
    """Why there can be no cluster here, if so."""
    if os.environ.get("MLOPS_TEST_KUBERNETES") is None:
        return "the cluster is asked for by `make test-kubernetes` alone"
    if not SCRIPTS.exists():
        return f"there are no scripts for the two-node cluster in {SCRIPTS}"
    if not PROGRAMS.exists():
        return f"the cluster's programs are not built: run {SCRIPTS / 'up'} once"
    for name in IMAGES:
        if shutil.which("buildah") is None or not _run(["buildah", "images", "-q", _base(name)]):
            return f"there is no image {_base(name)}: `make test-kubernetes` builds it"
    return None


def _base(name: str) -> str:
    return f"docker.io/library/{name}:dev"


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def bring_up() -> None:
    """Start or repair the cluster, and set this process's environment to reach it."""
    for line in script("up", seconds=1800).splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            os.environ[name] = os.path.expandvars(value.strip("'\""))
    for node in (SPOT, ON_DEMAND):
        script("restore", node)


def build_images(folder: Path) -> None:
    """The images of the tests, from those of deployments/images, built in ``folder``."""
    write_context(folder)
    file = str(ROOT / "tests" / "kubernetes" / "Dockerfile")
    for name in IMAGES:
        base = f"BASE={_base(name)}"
        script("build-image", str(folder), f"{name}:test", file, "--build-arg", base)


@dataclass(frozen=True)
class Cluster:
    """The platform, and how this machine reaches it."""

    proxy: str
    """The API server without a login."""
    s3: str
    tracking: str

    def service(self, namespace: str, name: str, port: int, path: str) -> str:
        """The URL of a Service in the cluster."""
        return f"{self.proxy}/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy{path}"

    def post(self, url: str, body: Mapping[str, object], seconds: float = 60) -> dict[str, Any]:
        """The answer to a JSON request."""
        request = urllib.request.Request(  # noqa: S310 - of this machine
            url, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            return json.loads(answer.read())

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """The data that Dagster's webserver answers with, asked again while it is away."""
        url = self.service("dagster", "dagster-webserver", 3000, "/graphql")
        deadline = time.monotonic() + 180
        while True:
            try:
                answer = self.post(url, {"query": query, "variables": variables})
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert time.monotonic() < deadline, "Dagster's webserver does not answer"
                time.sleep(1)
                continue
            assert "errors" not in answer, answer["errors"]
            return answer["data"]

    def reload(self) -> bool:
        """Load the code location again; whether that went well."""
        query = """mutation {
          reloadRepositoryLocation(repositoryLocationName: "mlops-assets") {
            ... on WorkspaceLocationEntry { locationOrLoadError { __typename } }
          }
        }"""
        entry = self.graphql(query)["reloadRepositoryLocation"].get("locationOrLoadError") or {}
        return entry.get("__typename") == "RepositoryLocation"


@contextlib.contextmanager
def services(folder: Path) -> Iterator[None]:
    """PostgreSQL, S3 and MLflow's server, which pods reach too."""
    with (
        postgres(["dagster", "mlflow"], PORTS["postgres"]) as port,
        s3(BUCKETS, folder, PORTS["s3"]) as url,
        mlflow(
            postgres_uri(port, "mlflow"),
            "s3://mlops-artifacts/mlflow",
            url,
            folder,
            PORTS["mlflow"],
        ),
    ):
        for exposed in PORTS.values():
            script("expose", str(exposed))
        yield


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """The platform that is there."""
    port = free_port()
    proxy = f"http://127.0.0.1:{port}"
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"kubectl-proxy-{port}.log"
    with process(["kubectl", "proxy", f"--port={port}"], log, answers(f"{proxy}/version")):
        yield Cluster(
            proxy, f"http://127.0.0.1:{PORTS['s3']}", f"http://127.0.0.1:{PORTS['mlflow']}"
        )


def apply_platform(profiles: str) -> None:
    """Dagster and what it needs, with a team's compute ``profiles``; what was there is replaced."""
    _clear()
    manifests = kubectl("kustomize", str(OVERLAY)).replace(f"{CODE}:dev", f"{CODE}:test")
    documents = [_with_light_probes(manifests)]
    for namespace in NAMESPACES:
        documents.append(_document("ConfigMap", namespace, "mlops-environment", ENVIRONMENT))
        documents.append(
            _document("ConfigMap", namespace, "mlops-compute-profiles", {"profiles.yaml": profiles})
        )
        documents.append(_document("Secret", namespace, "mlops-secrets", dict(CREDENTIALS)))
        password = {"postgresql-password": PASSWORD}
        documents.append(_document("Secret", namespace, "dagster-postgresql-secret", password))
    kubectl("apply", "-f", "-", stdin="\n---\n".join(documents))
    wait_for_dagster()


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[Cluster]:
    """The cluster with the platform on it and empty stores; what was not up before goes again."""
    with _alone():
        was_up = _is_up()
        bring_up()
        with tempfile.TemporaryDirectory(prefix="images-") as context:
            build_images(Path(context))
        try:
            with services(folder):
                apply_platform((ROOT / "tests" / "kubernetes" / "profiles.yaml").read_text())
                with connected() as found:
                    # A webserver that came up before the code looks for it again now and then.
                    until(found.reload, 240, "the code location's load", 3)
                    yield found
        finally:
            if was_up:
                _clear()
            else:
                script("down")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """The cluster for this process alone, until the end of the block."""
    path = PROGRAMS.parents[1] / "platform.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AssertionError("another process tests the platform on the cluster") from None
        yield


def _clear() -> None:
    """Remove the platform and what it started, at once: its stores are gone, or go."""
    kubectl("delete", "deployment", "--all", "--namespace", "dagster")
    kubectl("delete", "deployment,service,job", "--all", "--namespace", ENDPOINTS)
    kubectl("delete", "job", "--all", "--namespace", RUNS)
    for namespace in NAMESPACES:
        kubectl("delete", "pod", "--all", "-n", namespace, "--grace-period=0", "--force")


def _is_up() -> bool:
    pid = PROGRAMS.parents[1] / "state" / "kubeconfig"
    return pid.exists() and bool(
        _run(["kubectl", "--kubeconfig", str(pid), "get", "--raw", "/healthz"])
    )


def _with_light_probes(manifests: str) -> str:
    """``manifests`` without probes that start Python: where two CPUs are shared by all, these take
    longer than their timeouts.
    """
    documents = [document for document in yaml.safe_load_all(manifests) if document]
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        (container,) = document["spec"]["template"]["spec"]["containers"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" not in container.get(name, {}):
                continue
            del container[name]["exec"]
            if "ports" in container:
                container[name]["tcpSocket"] = {"port": container["ports"][0]["containerPort"]}
            else:
                del container[name]
    return yaml.safe_dump_all(documents)


def wait_for_dagster() -> None:
    """Return once the code server, the webserver and the daemon are ready."""
    for name in ("mlops-assets", "dagster-webserver", "dagster-daemon"):
        kubectl("rollout", "status", f"deployment/{name}", "--namespace", "dagster", "--timeout=6m")


def _document(kind: str, namespace: str, name: str, content: Mapping[str, str]) -> str:
    if kind == "Secret":
        content = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
    metadata = {"name": name, "namespace": namespace}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": dict(content)}
    )


def objects(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """The objects of a kind, as the API has them."""
    options = ["--selector", selector] if selector else []
    listed = kubectl("get", kind, "--namespace", namespace, "--output", "json", *options)
    return json.loads(listed)["items"]


def until(condition: Callable[[], object], seconds: float, what: str, every: float = 1.0) -> Any:
    """What ``condition`` gives once that is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(every)


def names(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The objects' names."""
    return [item["metadata"]["name"] for item in found]
