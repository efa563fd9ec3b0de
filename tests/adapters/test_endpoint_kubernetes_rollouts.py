"""Deployments on Kubernetes: the pods are played by what the real ones run, the API is a fake."""

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_kubernetes import serving
from kubernetes.config import kube_config
from serving_support import make_model

from mlops_assets import clock
from mlops_assets.adapters.endpoints import kubernetes, release_store, targets
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.rollout_state import (
    EndpointRecord,
    ServedModel,
    abort,
    set_share,
    start_rollout,
)
from mlops_assets.core.spec import EndpointSpec
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.models import Follower
from mlops_assets.serving.prediction_log import PredictionLog
from mlops_assets.serving.reports import Reporter

ENDPOINTS = "kubernetes://endpoints"
Document = dict[str, Any]


@dataclass
class Pod:
    """A server, without its socket."""

    server: Server
    template: str
    exit_code: int | None = None


@dataclass
class Namespace:
    """A namespace whose controllers and kubelets act whenever the API is asked."""

    folder: Path
    pool: ThreadPoolExecutor
    deployments: dict[str, Document] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    deaf: bool = False
    """Whether the pods follow nothing."""
    made: int = 0

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Document | None
    ) -> tuple[int, object]:
        """Status and body of a request."""
        if path == "/apis/":
            return 200, {"groups": []}
        if found := re.fullmatch(r"/apis/apps/v1/namespaces/endpoints/deployments/([\w-]+)", path):
            return self._deployment(method, found[1], body)
        if path == "/api/v1/namespaces/endpoints/pods":
            self._act()
            return 200, {"items": [self._seen(name) for name in self.pods]}
        if path.endswith("/log"):
            return 200, "its last words"
        if method == "PATCH" and body is not None:
            return 200, {**body, "metadata": {**body["metadata"], "uid": "uid"}}
        return 404, {"message": f"nothing at {method} {path}"}

    def _deployment(self, method: str, name: str, body: Document | None) -> tuple[int, object]:
        if method == "PATCH":
            assert body is not None
            before = self.deployments.get(name)
            changed = before is None or before["spec"] != body["spec"]
            generation = 0 if before is None else before["metadata"]["generation"]
            body["metadata"] |= {"uid": f"uid-{name}", "generation": generation + changed}
            self.deployments[name] = body
            return 200, body
        if name not in self.deployments:
            return 404, {"message": f"deployments {name!r} not found"}
        self._act()
        found = self.deployments[name]
        template = _digest(found["spec"]["template"])
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": len(self.pods),
            "updatedReplicas": sum(pod.template == template for pod in self.pods.values()),
            "availableReplicas": sum(_ready(pod) for pod in self.pods.values()),
        }
        return 200, {**found, "status": status}

    def _act(self) -> None:
        """The Deployment gets its pods; those before go when these are ready."""
        for found in self.deployments.values():
            wanted, template = found["spec"]["replicas"], _digest(found["spec"]["template"])
            for _ in range(wanted - len(self._of(template))):
                self._start(found, template)
            for pod in self.pods.values():
                self._run(pod)
            new = self._of(template)
            if all(_ready(pod) for pod in new):
                for name, pod in list(self.pods.items()):
                    if pod not in new[:wanted]:
                        Reporter(pod.server).write(ended=True)
                        pod.server.log.close()
                        del self.pods[name]

    def _of(self, template: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.template == template]

    def _start(self, found: Document, template: str) -> None:
        [container] = found["spec"]["template"]["spec"]["containers"]
        options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
        self.made += 1
        name = f"{found['metadata']['name']}-{self.made}"
        log = PredictionLog(self.folder / name, name)
        follower = Follower(options["--release"])
        server = Server(follower, log, Limits(), name, "1", self.pool)
        self.pods[name] = Pod(server, template)

    def _run(self, pod: Pod) -> None:
        if pod.server.follower.served is None:
            try:
                pod.server.follower.load_first()
                pod.exit_code = None
            except PlatformError as error:
                pod.exit_code = 75 if isinstance(error, TransientError) else 3
        elif not self.deaf:
            pod.server.follower.poll()
        if not self.deaf:
            Reporter(pod.server).write()

    def _seen(self, name: str) -> Document:
        pod = self.pods[name]
        container: Document = {"image": "server:1", "restartCount": 0, "state": {}}
        if pod.exit_code is not None:
            container["restartCount"] = 1
            container["lastState"] = {"terminated": {"exitCode": pod.exit_code}}
        return {
            "metadata": {"name": name},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": str(_ready(pod))}],
                "containerStatuses": [container],
            },
        }


def _ready(pod: Pod) -> bool:
    return pod.server.follower.served is not None


def _digest(template: object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


@dataclass
class Place:
    """Where one test deploys."""

    folder: Path
    namespace: Namespace
    documents: str

    def model(self, version: int = 1) -> ServedModel:
        """The tiny model; each version is another one."""
        return make_model(self.folder, version, seed=version)

    def deploy(self, model: ServedModel, timeout_s: float = 20, **spec: Any) -> EndpointRecord:
        """Serve ``model`` alone."""
        place = targets.place_of("flights", ENDPOINTS, self.documents)
        wanted = kubernetes.Wanted(
            "flights", model, EndpointSpec(**spec), "endpoints", place, "s3://logs/flights", "test"
        )
        return kubernetes.deploy(wanted, timeout_s)

    def change(self, transition: Any) -> Any:
        """Make a transition, and wait for all pods."""
        return targets.change("flights", transition, ENDPOINTS, self.documents, 20)

    def serving(self) -> set[tuple[int, int]]:
        """Revision and champion of each pod."""
        found = [pod.server.follower.served for pod in self.namespace.pods.values()]
        return {(s.release.revision, s.champion.served.version) for s in found if s is not None}


@pytest.fixture
def place(tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A namespace where nothing is, and a bucket for what pods follow."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv(kubernetes.IMAGE_VARIABLE, "server:1")
    monkeypatch.setattr(kubernetes, "POLL_S", 0.01)
    monkeypatch.setattr(targets, "POLL_S", 0.01)
    with ThreadPoolExecutor(1) as pool:
        namespace = Namespace(tmp_path / "pods", pool)
        with serving(namespace, tmp_path) as kubeconfig:  # type: ignore[arg-type]
            # The environment was looked at when the module was imported.
            monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
            yield Place(tmp_path, namespace, s3_bucket)


def test_a_new_model_restarts_no_pod(place: Place) -> None:
    """The pods that are there take it over; the same one again changes nothing."""
    first = place.deploy(place.model())
    assert (first.release.revision, first.url) == (1, "http://flights.endpoints.svc:8900")
    pods = set(place.namespace.pods)
    assert len(pods) == 2
    generation = place.namespace.deployments["flights"]["metadata"]["generation"]
    assert place.deploy(place.model()) == first
    second = place.deploy(place.model(2))
    assert (second.release.revision, second.release.champion) == (2, place.model(2))
    assert set(place.namespace.pods) == pods
    assert place.namespace.deployments["flights"]["metadata"]["generation"] == generation
    assert place.serving() == {(2, 2)}


def test_a_rollout_reaches_every_pod(place: Place) -> None:
    """A change is done when all of them say so, and a champion deployed again leaves it alone."""
    place.deploy(place.model())
    challenger = place.model(2)
    place.change(lambda r: start_rollout(r, challenger, "r1", clock.now(), "better"))
    canary = place.change(lambda r: set_share(r, 0.5, clock.now(), "no worse"))
    reports = targets.read_reports("flights", ENDPOINTS, place.documents)
    assert [(r.revision, r.champion, r.challenger) for r in reports] == [(3, 1, 2)] * 2
    assert place.deploy(place.model(), port=8901).release == canary
    bad = challenger.model_copy(update={"version": 3, "sha256": "0" * 64})
    alone = place.change(lambda r: abort(r, clock.now(), "by hand"))
    with pytest.raises(PermanentError, match=r"revision 5 of flights is refused.*model-2.ubj"):
        place.change(lambda r: start_rollout(r, bad, "r2", clock.now(), "better"))
    stored = targets.read_release("flights", ENDPOINTS, place.documents)
    assert stored is not None
    assert (stored.revision, stored.champion, stored.mode) == (6, alone.champion, "champion")


def test_a_changed_spec_rolls_the_pods_with_what_they_serve(place: Place) -> None:
    """New pods begin with the release as it is."""
    place.deploy(place.model())
    pods = set(place.namespace.pods)
    second = place.deploy(place.model(2), max_rows=5)
    assert second.release.revision == 2
    assert not pods & set(place.namespace.pods)
    assert place.serving() == {(2, 2)}


def test_a_model_that_pods_refuse_leaves_the_one_before(place: Place) -> None:
    """With the server's words; no pod is restarted for that."""
    place.deploy(place.model())
    pods = set(place.namespace.pods)
    bad = place.model(2).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PermanentError, match=r"refuses the release.*model-2.ubj"):
        place.deploy(bad)
    assert set(place.namespace.pods) == pods
    stored = targets.read_release("flights", ENDPOINTS, place.documents)
    assert stored is not None
    assert (stored.revision, stored.champion) == (3, place.model())
    assert place.deploy(place.model()).release == stored
    assert place.serving() == {(3, 1)}


def test_a_first_model_that_is_refused_leaves_nothing_that_serves(place: Place) -> None:
    """No pods, and no release that could be served later; the next attempt begins anew."""
    bad = place.model().model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PermanentError, match=r"ends with exit code 3(.|\n)*its last words"):
        place.deploy(bad)
    assert targets.read_release("flights", ENDPOINTS, place.documents) is None
    assert place.namespace.deployments["flights"]["spec"]["replicas"] == 0
    assert place.deploy(place.model()).release.champion == place.model()
    assert {version for _, version in place.serving()} == {1}


def test_pods_that_do_not_follow_are_named(place: Place) -> None:
    """The release before is told again; nobody serves what was given up."""
    place.deploy(place.model())
    place.namespace.deaf = True
    with pytest.raises(TransientError, match="pod flights-1 has not reported the release"):
        place.deploy(place.model(2), timeout_s=0.5)
    place.namespace.deaf = False
    assert place.deploy(place.model()).release.champion == place.model()


def test_a_place_that_pods_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the run's machine is none of theirs."""
    monkeypatch.setenv(kubernetes.IMAGE_VARIABLE, "server:1")
    with pytest.raises(PermanentError, match="set MLOPS_DOCUMENTS_URL to s3://"):
        targets.deploy(
            "flights", make_model(tmp_path), EndpointSpec(), ENDPOINTS, str(tmp_path), "test"
        )
    assert release_store.read(str(tmp_path / "endpoints" / "flights")) is None
