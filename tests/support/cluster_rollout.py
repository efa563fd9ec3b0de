"""What the pods of an endpoint are told to serve, and when each of them said that it does."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cluster import ENDPOINTS, ENVIRONMENT, kubectl, objects, until

from mlops_assets.adapters.endpoints import targets
from mlops_assets.adapters.endpoints.kubernetes_objects import selector
from mlops_assets.core.rollout_state import Release

PLACES = (ENVIRONMENT["MLOPS_ENDPOINTS"], ENVIRONMENT["MLOPS_DOCUMENTS_URL"])
POLL_S = 0.1


@dataclass
class Told:
    """A release; times are seconds of the epoch."""

    release: Release
    seen: float
    """When it was found in the store, at most a look after it was written."""
    applied: dict[str, float] = field(default_factory=dict)
    """By pod: when it said that it serves it, or a later one."""

    @property
    def follow_s(self) -> float:
        """Seconds from the document to the last pod that serves it."""
        return max(0.0, max(self.applied.values()) - self.seen)


@dataclass
class Watch:
    """The releases of a use case's endpoint since the watch began, oldest first."""

    use_case: str
    told: list[Told] = field(default_factory=list)
    failed: Exception | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def until(self, wanted: Callable[[Release], bool], what: str, seconds: float = 180) -> Told:
        """The first release that is ``wanted``, once each pod serves it."""

        def found() -> Told | None:
            assert self.failed is None, self.failed
            first = next((each for each in self.told if wanted(each.release)), None)
            running = {pod["metadata"]["name"] for pod in pods(self.use_case)}
            return first if first is not None and running <= set(first.applied) else None

        return until(found, seconds, f"{what}; told was {self.told}", 0.2)

    def look(self) -> None:
        """Look until the end."""
        try:
            while not self._over.wait(POLL_S):
                self._look()
        except Exception as error:  # noqa: BLE001 - the test says it
            self.failed = error

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self) -> None:
        release = targets.read_release(self.use_case, *PLACES)
        assert release is not None
        if not self.told or self.told[-1].release != release:
            self.told.append(Told(release, time.time()))
        for report in targets.read_reports(self.use_case, *PLACES):
            for each in self.told:
                if report.revision >= each.release.revision and report.ready:
                    each.applied.setdefault(report.instance, report.at.timestamp())


@contextlib.contextmanager
def watched(use_case: str) -> Iterator[Watch]:
    """Look at the endpoint until the end of the block."""
    watch = Watch(use_case)
    thread = threading.Thread(target=watch.look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join(30)


def pods(use_case: str) -> list[dict]:
    """The endpoint's pods."""
    labels = ",".join(f"{key}={value}" for key, value in selector(use_case).items())
    return objects("pod", ENDPOINTS, labels)


def order(use_case: str, action: str, *options: str, by: str = "ann") -> str:
    """What ``mlops rollout`` says to a person who is at the code server's pod."""
    command = ["mlops", "rollout", action, use_case, *options]
    if action == "at":  # the time comes first
        command = ["mlops", "rollout", action, *options, use_case]
    pod = ["--namespace", "dagster", "deployment/mlops-assets"]
    return kubectl("exec", *pod, "--", "env", f"LOGNAME={by}", *command)
