"""As much of the Kubernetes API as the executor talks to, over HTTP on loopback."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import yaml

Document = dict[str, Any]


def condition(kind: str, status: str = "True", **more: str) -> Document:
    """A condition of a pod, Job or node."""
    return {"type": kind, "status": status, **more}


@dataclass
class FakeCluster:
    """A namespace's Jobs and their pods; tests play the controllers and the kubelet."""

    on_job: Callable[["FakeCluster", str], None] = lambda cluster, job: None
    """Called with the name of each new Job of a step."""
    jobs: dict[str, Document] = field(default_factory=dict)
    pods: dict[str, Document] = field(default_factory=dict)
    nodes: dict[str, Document] = field(default_factory=dict)
    events: list[Document] = field(default_factory=list)
    made: list[Document] = field(default_factory=list)
    """Every Job that was ever posted."""
    deleted: list[str] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    """Status and message that Jobs are refused with."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _serial: int = 0

    def clear(self) -> None:
        """A cluster without nodes and Jobs."""
        with self.lock:
            for kept in (self.jobs, self.pods, self.nodes, self.events, self.made, self.deleted):
                kept.clear()
            self.refuse = None

    def add_node(self, name: str, *, ready: str = "True", taints: tuple[str, ...] = ()) -> None:
        """A node, or its new state."""
        self.nodes[name] = {
            "metadata": {"name": name},
            "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
            "status": {"conditions": [condition("Ready", ready)]},
        }

    def add_pod(self, job: str, *, phase: str = "Pending", node: str | None = None) -> str:
        """A pod of the Job; gives its name."""
        with self.lock:
            self._serial += 1
            name = f"{job}-p{self._serial}"
            template = self.jobs[job]["spec"]["template"]
            self.pods[name] = {
                "metadata": {
                    "name": name,
                    "creationTimestamp": f"2026-01-01T00:{self._serial // 60:02}:"
                    f"{self._serial % 60:02}Z",
                    "labels": {"job-name": job},
                    "ownerReferences": [{"uid": self.jobs[job]["metadata"]["uid"]}],
                },
                "spec": {**template["spec"], **({"nodeName": node} if node else {})},
                "status": {"phase": phase, "conditions": []},
            }
            return name

    def end_pod(self, name: str, code: int | None, *, why: str = "Error", **status: str) -> None:
        """The pod's container has ended."""
        with self.lock:
            if name not in self.pods:  # deleted meanwhile
                return
            found = self.pods[name]["status"]
            found["phase"] = "Succeeded" if code == 0 else "Failed"
            if code is not None:
                found["containerStatuses"] = [
                    {"state": {"terminated": {"exitCode": code, "reason": why}}}
                ]
            found.update(status)

    def names(self) -> list[str]:
        """Names of the Jobs that were ever made, in order."""
        return [job["metadata"]["name"] for job in self.made]

    def answer(  # noqa: PLR0911  # one a kind of request
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, Any]:
        """Status and body of a request."""
        with self.lock:
            if found := re.fullmatch(r"/apis/batch/v1/namespaces/[\w-]+/jobs", path):
                return self._jobs(method, query, body)
            if found := re.fullmatch(r"/apis/batch/v1/namespaces/[\w-]+/jobs/([\w-]+)", path):
                return self._job(method, found[1])
            if re.fullmatch(r"/api/v1/namespaces/[\w-]+/pods", path):
                wanted = query["labelSelector"].removeprefix("job-name=")
                pods = [
                    pod
                    for pod in self.pods.values()
                    if pod["metadata"]["labels"]["job-name"] == wanted
                ]
                return 200, {"metadata": {}, "items": pods}
            if re.fullmatch(r"/api/v1/namespaces/[\w-]+/pods/[\w-]+/log", path):
                return 200, "the last line\n"
            if re.fullmatch(r"/api/v1/namespaces/[\w-]+/events", path):
                return 200, {"metadata": {}, "items": self.events}
            if found := re.fullmatch(r"/api/v1/nodes/([\w-]+)", path):
                node = self.nodes.get(found[1])
                return (200, node) if node else (404, _status(404, "node not found"))
        return 404, _status(404, f"nothing at {method} {path}")

    def _jobs(self, method: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            wanted = dict(pair.split("=", 1) for pair in query["labelSelector"].split(","))
            items = [
                job
                for job in self.jobs.values()
                if wanted.items() <= job["metadata"]["labels"].items()
            ]
            return 200, {"metadata": {}, "items": items}
        if self.refuse is not None:
            return self.refuse[0], _status(*self.refuse)
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, _status(409, f"jobs {name!r} already exists")
        self._serial += 1
        body["metadata"] |= {
            "uid": f"uid-{self._serial}",
            "creationTimestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        body["status"] = {}
        self.jobs[name] = body
        self.made.append(body)
        if body["metadata"]["labels"].get("app.kubernetes.io/component") == "step_worker":
            threading.Thread(target=self.on_job, args=(self, name), daemon=True).start()
        return 201, body

    def _job(self, method: str, name: str) -> tuple[int, Any]:
        job = self.jobs.get(name)
        if job is None:
            return 404, _status(404, f"jobs {name!r} not found")
        if method == "DELETE":
            self.deleted.append(name)
            del self.jobs[name]
            for pod in [
                p for p, d in self.pods.items() if d["metadata"]["labels"]["job-name"] == name
            ]:
                del self.pods[pod]
        return 200, job


class Api(Protocol):
    """What answers as a cluster's API."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and body of a request."""
        ...


@contextmanager
def serving(cluster: Api, folder: Path) -> Iterator[Path]:
    """The API of ``cluster``; gives the kubeconfig file that leads there."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, answer = cluster.answer(self.command, parts.path, query, body)
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the console."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "fake",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"},
                    }
                ],
                "users": [{"name": "fake", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                "current-context": "fake",
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()


def _status(code: int, message: str) -> Document:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}
