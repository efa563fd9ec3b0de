"""As much of the Kubernetes API as the endpoint's deployment talks to; pods follow at once."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

_OBJECTS = re.compile(
    r"/(?:api|apis/(?P<group>[\w.]+))/(?P<version>\w+)/namespaces/(?P<namespace>[\w-]+)"
    r"/(?P<plural>\w+)(?:/(?P<name>[\w-]+))?(?P<log>/log)?"
)

GROUPS = {
    "apps": ["v1"],
    "policy": ["v1"],
    "autoscaling": ["v2", "v1"],
    "networking.k8s.io": ["v1"],
}


@dataclass
class FakeEndpoints:
    """A namespace with what server-side apply made of it."""

    groups: dict[str, list[str]] = field(default_factory=lambda: dict(GROUPS))
    """Versions of each API group."""
    forbidden: set[str] = field(default_factory=set)
    """Kinds of objects, in plural, that may not be changed."""
    on_deployment: Callable[["FakeEndpoints"], None] = lambda cluster: None
    """Called when the Deployment was applied: plays the pods' servers."""
    container: Document = field(default_factory=dict)
    """What the pods' status says of their container, where they are not ready."""
    found: dict[str, Document] = field(default_factory=dict)
    """The objects, by plural and name."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and object (plural and name) of each change, in order."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _serial: int = 0

    def kinds(self) -> set[str]:
        """The objects that there are."""
        return {document["kind"] for document in self.found.values()}

    def of(self, kind: str) -> Document:
        """The only object of a kind."""
        (found,) = (each for each in self.found.values() if each["kind"] == kind)
        return found

    def pod_names(self) -> list[str]:
        """The Deployment's pods."""
        deployment = next((d for d in self.found.values() if d["kind"] == "Deployment"), None)
        if deployment is None:
            return []
        template = json.dumps(deployment["spec"]["template"], sort_keys=True)
        prefix = f"{deployment['metadata']['name']}-{abs(hash(template)) % 10**6}"
        return [f"{prefix}-{number}" for number in range(deployment["spec"]["replicas"])]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and body of a request."""
        with self.lock:
            if path == "/apis/":
                return 200, {"groups": [_group(*each) for each in self.groups.items()]}
            match = _OBJECTS.fullmatch(path)
            if match is None or (match["group"] or "") not in {"", *self.groups}:
                return 404, _status(404, f"nothing at {path}")
            if match["log"]:
                return 200, "the last line\n"
            if match["plural"] == "pods":
                return 200, {"metadata": {}, "items": [self._pod(n) for n in self.pod_names()]}
            return self._object(method, f"{match['plural']}/{match['name']}", query, body)

    def _object(
        self, method: str, key: str, query: dict[str, str], body: Any
    ) -> tuple[int, Document]:
        plural = key.partition("/")[0]
        if method != "GET":
            self.asked.append((method, key))
            if plural in self.forbidden:
                return 403, _status(403, f"cannot patch resource {plural!r}")
        if method == "PATCH" and "fieldManager" in query:
            self._apply(key, body)
        elif key not in self.found:
            return 404, _status(404, f"{key} not found")
        elif method == "PATCH":
            metadata = self.found[key]["metadata"]
            annotations = {**metadata.get("annotations", {}), **body["metadata"]["annotations"]}
            kept = {name: value for name, value in annotations.items() if value is not None}
            metadata["annotations"] = kept
        elif method == "DELETE":
            return 200, self.found.pop(key)
        return 200, self.found[key]

    def _apply(self, key: str, body: Document) -> None:
        self._serial += 1
        before = self.found.get(key)
        document = json.loads(json.dumps(body))
        changed = before is None or before["spec"] != document["spec"]
        was = (
            {"uid": f"uid-{self._serial}", "generation": 0}
            if before is None
            else before["metadata"]
        )
        document["metadata"]["uid"] = was["uid"]
        document["metadata"]["generation"] = was["generation"] + changed
        self.found[key] = document
        if document["kind"] == "Deployment":
            pods, ready = document["spec"]["replicas"], not self.container
            document["status"] = {
                "observedGeneration": document["metadata"]["generation"],
                "replicas": pods,
                "updatedReplicas": pods,
                "availableReplicas": pods if ready else 0,
            }
            self.on_deployment(self)

    def _pod(self, name: str) -> Document:
        ready = {"type": "Ready", "status": "False" if self.container else "True"}
        status: Document = {"phase": "Running", "conditions": [ready]}
        if self.container:
            status["containerStatuses"] = [self.container]
        return {"metadata": {"name": name}, "status": status}


def _group(name: str, versions: list[str]) -> Document:
    return {"name": name, "versions": [{"version": version} for version in versions]}


def _status(code: int, message: str) -> Document:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}
