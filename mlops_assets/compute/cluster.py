"""What the executor asks of Kubernetes: Jobs of steps with their pods, nodes, deletions."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.core.compute_pods import Job, NodeState, Pod
from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from kubernetes.client import BatchV1Api, CoreV1Api

COMPONENT = "app.kubernetes.io/component"
RUN_LABEL = "dagster/run-id"

Document = dict[str, Any]
"""An object of Kubernetes as JSON: its client's classes call each field optional, and refuse what
another version of the server leaves out."""

TIMEOUT_SECONDS = (5, 20)
"""To connect, and to read."""

_LISTED = 500
"""Objects of one page of a list."""

_NOT_FOUND, _FORBIDDEN = 404, 403

# Taints that nodes get before they go.
LEAVING = ("karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler")


@dataclass(frozen=True)
class RunJob:
    """The Job of a step or run worker."""

    name: str
    run_id: str | None
    created: datetime
    finished: bool


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster, through its API."""

    batch: "BatchV1Api"
    core: "CoreV1Api"
    namespace: str

    def job(self, name: str) -> Job:
        """The Job ``name`` with its pods and their node; one that is not there does not exist."""
        from kubernetes.client.rest import ApiException

        try:
            found = _document(
                self.batch.read_namespaced_job(
                    name, self.namespace, _request_timeout=TIMEOUT_SECONDS, _preload_content=False
                )
            )
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return Job(name, exists=False)
            raise
        seen = tuple(_pod(pod) for pod in self._pods(name) if _controlled_by(pod, found))
        placed = [pod.node for pod in seen if pod.node is not None]
        conditions = _holding(found)
        failed = conditions.get("Failed")
        return Job(
            name,
            exists=True,
            pods=seen,
            node=self._node(placed[-1]) if placed else "unknown",
            complete="Complete" in conditions,
            failed=None if failed is None else failed.get("reason", "Failed"),
            warning=None if seen else self._warning(name),
        )

    def jobs(self, component: str, run_id: str | None = None) -> list[RunJob]:
        """The Jobs of all runs, or of one; ``component`` is ``step_worker`` or ``run_worker``."""
        selector = f"{COMPONENT}={component}" + (f",{RUN_LABEL}={run_id}" if run_id else "")
        found: list[RunJob] = []
        token: str | None = None
        while True:
            following = {"_continue": token} if token else {}
            page = _document(
                self.batch.list_namespaced_job(
                    self.namespace,
                    label_selector=selector,
                    limit=_LISTED,
                    _request_timeout=TIMEOUT_SECONDS,
                    _preload_content=False,
                    **following,
                )
            )
            found.extend(_run_job(job) for job in page["items"])
            token = page["metadata"].get("continue")
            if not token:
                return found

    def delete_job(self, name: str) -> bool:
        """Delete the Job and its pods, with their grace; False when there was none."""
        from kubernetes.client import V1DeleteOptions
        from kubernetes.client.rest import ApiException

        try:
            self.batch.delete_namespaced_job(
                name,
                self.namespace,
                # Without it the pods of a Job outlive it.
                body=V1DeleteOptions(propagation_policy="Background"),
                _request_timeout=TIMEOUT_SECONDS,
            )
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True

    def last_lines(self, pod: str, lines: int = 20) -> str:
        """The end of a pod's output; empty where there is none to be had."""
        from kubernetes.client.rest import ApiException

        try:
            output = self.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                tail_lines=lines,
                _request_timeout=TIMEOUT_SECONDS,
                _preload_content=False,
            )
        except ApiException:  # the pod is gone, or its node
            return ""
        return _text(output)

    def _pods(self, job: str) -> list[Document]:
        """The pods of a Job, oldest first."""
        page = _document(
            self.core.list_namespaced_pod(
                self.namespace,
                label_selector=f"job-name={job}",
                _request_timeout=TIMEOUT_SECONDS,
                _preload_content=False,
            )
        )
        return sorted(page["items"], key=lambda pod: pod["metadata"]["creationTimestamp"])

    def _node(self, name: str) -> NodeState:
        from kubernetes.client.rest import ApiException

        try:
            node = _document(
                self.core.read_node(name, _request_timeout=TIMEOUT_SECONDS, _preload_content=False)
            )
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return "gone"
            if error.status == _FORBIDDEN:
                return "unknown"
            raise
        if "Ready" not in _holding(node):
            return "not_ready"
        taints = {taint["key"] for taint in node["spec"].get("taints", [])}
        leaving = node["spec"].get("unschedulable", False) or taints & set(LEAVING)
        return "leaving" if leaving else "ready"

    def _warning(self, job: str) -> str | None:
        """Why the Job's controller makes no pod: a quota, a PriorityClass that is not there."""
        from kubernetes.client.rest import ApiException

        try:
            page = _document(
                self.core.list_namespaced_event(
                    self.namespace,
                    field_selector=f"involvedObject.kind=Job,involvedObject.name={job}",
                    _request_timeout=TIMEOUT_SECONDS,
                    _preload_content=False,
                )
            )
        except ApiException as error:
            if error.status == _FORBIDDEN:
                return None
            raise
        warnings = [event["message"] for event in page["items"] if event["type"] == "Warning"]
        return warnings[-1] if warnings else None


def connect(namespace: str, *, incluster: bool, kubeconfig: str | None) -> Cluster:
    """The cluster that the process runs in, or that the file ``kubeconfig`` names."""
    import kubernetes.client
    import kubernetes.config
    import urllib3

    configuration = kubernetes.client.Configuration()
    try:
        if incluster:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        else:
            kubernetes.config.load_kube_config(kubeconfig, client_configuration=configuration)
    except kubernetes.config.ConfigException as error:
        raise PermanentError(
            f"there is no Kubernetes to talk to ({error}); run inside a cluster, or name a "
            "kubeconfig file"
        ) from error
    # An API server that restarts, or has too much to do, answers soon after.
    configuration.retries = urllib3.Retry(  # type: ignore[assignment]  # its class says None
        total=5,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
    )
    client = kubernetes.client.ApiClient(configuration)
    return Cluster(
        kubernetes.client.BatchV1Api(client), kubernetes.client.CoreV1Api(client), namespace
    )


def _document(response: Any) -> Document:
    return json.loads(response.data)


def _text(response: Any) -> str:
    return response.data.decode(errors="replace").strip()


def _holding(document: Document) -> dict[str, Document]:
    """The conditions of an object that hold, by type."""
    conditions = document.get("status", {}).get("conditions") or []
    return {found["type"]: found for found in conditions if found["status"] == "True"}


def _pod(pod: Document) -> Pod:
    status, spec = pod.get("status", {}), pod["spec"]
    scheduled = {found["type"]: found for found in status.get("conditions") or []}.get(
        "PodScheduled", {}
    )
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state", {})
    waiting, ended = state.get("waiting", {}), state.get("terminated", {})
    return Pod(
        name=pod["metadata"]["name"],
        phase=status.get("phase", "Unknown"),
        image=spec["containers"][0]["image"],
        node=spec.get("nodeName"),
        deleting="deletionTimestamp" in pod["metadata"],
        reason=status.get("reason"),
        message=status.get("message"),
        disruption=_holding(pod).get("DisruptionTarget", {}).get("reason"),
        unschedulable=scheduled.get("message") if scheduled.get("status") == "False" else None,
        waiting=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        exit_code=ended.get("exitCode"),
        ended=ended.get("reason"),
    )


def _controlled_by(pod: Document, job: Document) -> bool:
    """Whether it is this Job's: one that was deleted may have had a Job of the same name."""
    owners = pod["metadata"].get("ownerReferences")
    return not owners or any(owner["uid"] == job["metadata"]["uid"] for owner in owners)


def _run_job(job: Document) -> RunJob:
    metadata = job["metadata"]
    return RunJob(
        name=metadata["name"],
        run_id=metadata.get("labels", {}).get(RUN_LABEL),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        finished=bool({"Complete", "Failed"} & set(_holding(job))),
    )
