"""Requests to an endpoint from inside the cluster, one after the other, and what became of each."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cluster import ENDPOINTS, SERVER, kubectl, objects, until

CONNECTIONS = 4
CALLERS = 4
"""Callers who share a connection, each with a key of its own."""
LIMIT_S = 900
"""A pod that nobody ends is ended by Kubernetes."""

_POD = "load"
_ANSWERS = "/tmp/answers"

_CLIENT = """
import collections, http.client, itertools, json, signal, sys, threading, time

host, port, path, bodies, connections, callers, file = json.loads(sys.argv[1])
ended, lock = threading.Event(), threading.Lock()
answers, failures = collections.Counter(), []
slowest, body = 0.0, 0
answered = open(file, "w", buffering=1)
signal.signal(signal.SIGTERM, lambda *_: ended.set())

def change(*_):
    global body
    body = (body + 1) % len(bodies)

signal.signal(signal.SIGUSR1, change)

def ask(thread):
    global slowest
    connection, left = None, 0
    for n in itertools.count():
        if ended.wait(0.05):
            break
        if left == 0:  # so that servers which came later get their part
            connection, left = http.client.HTTPConnection(host, port, timeout=5), 40
        left -= 1
        key, sent = "caller-%d-%d" % (thread, n % callers), body
        headers = {"content-type": "application/json", "x-request-key": key}
        began = time.time()
        try:
            connection.request("POST", path, bodies[sent], headers)
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
        seconds = time.time() - began
        with lock:
            answers[model] += 1
            slowest = max(slowest, seconds)
            print("%.3f" % began, "%.3f" % seconds, key, sent, model, file=answered)

for thread in range(connections):
    threading.Thread(target=ask, args=[thread], daemon=True).start()
while True:
    over = ended.wait(1)
    time.sleep(6 if over else 0)  # what is under way
    with lock:
        said = {"answers": answers, "failures": failures[:50], "failed": len(failures)}
        print(json.dumps({**said, "slowest": slowest, "over": over}), flush=True)
    while over:  # what was answered can be read until the pod goes
        signal.pause()
"""


class Answered(NamedTuple):
    """A request that was answered."""

    began: float
    """Seconds of the epoch; the cluster's pods have this machine's clock."""
    seconds: float
    key: str
    """Whose it was."""
    body: int
    """Which of the requests."""
    version: int
    """The model's that answered."""


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

    def change(self) -> None:
        """From now on send the next of the requests, and after the last one the first again."""
        kubectl("exec", self.pod, "--namespace", ENDPOINTS, "--", "sh", "-c", "kill -USR1 1")

    def all_answered(self) -> list[Answered]:
        """Each request that was answered, in the order of the answers."""
        lines = kubectl("exec", self.pod, "--namespace", ENDPOINTS, "--", "cat", _ANSWERS)
        # The last line may be on its way.
        found = [line.split() for line in lines.rpartition("\n")[0].splitlines()]
        return [
            Answered(float(began), float(seconds), key, int(body), int(version))
            for began, seconds, key, body, version in found
        ]

    def goes_on(self, requests: int = 40) -> None:
        """Return after so many further answers."""
        wanted = sum(self.answered().values()) + requests
        until(lambda: sum(self.answered().values()) >= wanted, 60, "further answers")

    def end(self) -> dict[str, Any]:
        """Send no more; what became of all requests."""
        kubectl("exec", self.pod, "--namespace", ENDPOINTS, "--", "sh", "-c", "kill -TERM 1")
        return until(lambda: found if (found := self.seen())["over"] else None, 60, "the end")


@contextlib.contextmanager
def load(service: str, port: int, path: str, *requests: Mapping[str, object]) -> Iterator[Load]:
    """Requests to ``path`` of a Service, over a few connections, until the end of the block: the
    first of ``requests``, until it is told to change.
    """
    bodies = [json.dumps(request) for request in requests]
    host = f"{service}.{ENDPOINTS}.svc"
    arguments = [host, port, path, bodies, CONNECTIONS, CALLERS, _ANSWERS]
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
