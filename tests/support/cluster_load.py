"""Requests to an endpoint from inside the cluster, one after the other, and what became of each."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import ENDPOINTS, SERVER, kubectl, objects, until

CONNECTIONS = 4
LIMIT_S = 900
"""A pod that nobody ends is ended by Kubernetes."""

_POD = "load"

_CLIENT = """
import collections, http.client, json, signal, sys, threading, time

host, port, path, body, connections = json.loads(sys.argv[1])
ended, lock = threading.Event(), threading.Lock()
answers, failures = collections.Counter(), []
slowest = 0.0
signal.signal(signal.SIGTERM, lambda *_: ended.set())

def ask():
    global slowest
    connection, left = None, 0
    while not ended.wait(0.05):
        if left == 0:  # so that servers which came later get their part
            connection, left = http.client.HTTPConnection(host, port, timeout=5), 40
        left -= 1
        began = time.time()
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise ValueError("%s: %s" % (answer.status, content[:200]))
            model = json.loads(content)["model_version"]
            if answer.will_close:
                left = 0
        except Exception as error:
            with lock:
                failures.append((round(began, 3), round(time.time() - began, 3), repr(error)))
            left = 0
            continue
        finally:
            if left == 0:
                connection.close()
        with lock:
            answers[model] += 1
            slowest = max(slowest, time.time() - began)

for _ in range(connections):
    threading.Thread(target=ask, daemon=True).start()
while True:
    over = ended.wait(1)
    time.sleep(6 if over else 0)  # what is under way
    with lock:
        said = {"answers": answers, "failures": failures[:50], "failed": len(failures)}
        print(json.dumps({**said, "slowest": slowest, "over": over}), flush=True)
    if over:
        break
"""


@dataclass(frozen=True)
class Load:
    """Requests that are being sent."""

    pod: str

    def seen(self) -> dict[str, Any]:
        """What became of the requests until a moment ago."""
        lines = kubectl("logs", self.pod, "--namespace", ENDPOINTS, "--tail=1").strip()
        return json.loads(lines) if lines else {"answers": {}, "failed": 0, "over": False}

    def answered(self) -> dict[str, int]:
        """How many requests each model version answered."""
        return self.seen()["answers"]

    def goes_on(self, requests: int = 40) -> None:
        """Return after so many further answers."""
        wanted = sum(self.answered().values()) + requests
        until(lambda: sum(self.answered().values()) >= wanted, 60, "further answers")

    def end(self) -> dict[str, Any]:
        """Send no more; what became of all requests."""
        kubectl("exec", self.pod, "--namespace", ENDPOINTS, "--", "sh", "-c", "kill -TERM 1")
        return until(lambda: found if (found := self.seen())["over"] else None, 60, "the end")


@contextlib.contextmanager
def load(service: str, port: int, path: str, request: Mapping[str, object]) -> Iterator[Load]:
    """Requests to ``path`` of a Service, over a few connections, until the end of the block."""
    arguments = [f"{service}.{ENDPOINTS}.svc", port, path, json.dumps(request), CONNECTIONS]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _POD, "namespace": ENDPOINTS},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIMIT_S,
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": "cpu-on-demand"},
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001},
            "containers": [
                {
                    "name": "client",
                    "image": f"{SERVER}:test",
                    "command": ["python", "-c", _CLIENT, json.dumps(arguments)],
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                }
            ],
        },
    }
    _remove()
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        until(
            lambda: (
                objects("pod", ENDPOINTS, "")
                and _phase() == "Running"
                and sum(Load(_POD).answered().values()) > CONNECTIONS
            ),
            120,
            "the first answers",
        )
        yield Load(_POD)
    finally:
        _remove()


def _phase() -> str:
    return kubectl(
        "get", "pod", _POD, "--namespace", ENDPOINTS, "--output", "jsonpath={.status.phase}"
    )


def _remove() -> None:
    command = ["delete", "pod", _POD, "--namespace", ENDPOINTS, "--ignore-not-found"]
    kubectl(*command, "--grace-period=0", "--force")
    time.sleep(1)
