"""Which target an endpoint has: a process of this machine, pods of a cluster, or SageMaker.

Told by the URL of the place: ``kubernetes://<namespace>``, ``sagemaker://<ARN of the containers'
role>``, or a local folder.
"""

import time
from collections.abc import Callable
from pathlib import Path

from mlops_assets import clock
from mlops_assets.adapters.endpoints import release_store
from mlops_assets.adapters.storage import join, local_path
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.replica_reports import ReplicaReport, not_applied, refusals
from mlops_assets.core.rollout_state import EndpointRecord, Release, ServedModel
from mlops_assets.core.spec import EndpointSpec

LOCAL_READY_S = 60.0
"""A server that imports its libraries on a busy machine is ready within 10 seconds."""

CLUSTER_READY_S = 600.0
"""A new node takes two minutes or three, an image's first pull another one."""

SAGEMAKER_READY_S = 1800.0
"""A new instance takes five minutes or ten, and SageMaker's way back as long."""

APPLIED_S = 30.0
"""Replicas follow within two seconds, and load a model in less than one."""

POLL_S = 0.2

PREDICTION_LOG = "prediction-log"
"""Below the documents, whose folders are named by use cases: none has a hyphen."""

ENDPOINTS = "endpoints"
"""Below the documents: what the servers of a cluster are told."""

_CLUSTER = "kubernetes://"
_SAGEMAKER = "sagemaker://"
_PLACES = "kubernetes://<namespace>, sagemaker://<role ARN> or a local folder"


def deploy(
    use_case: str,
    champion: ServedModel,
    spec: EndpointSpec,
    endpoints_url: str,
    documents_url: str,
    reason: str,
) -> EndpointRecord:
    """Bring ``champion`` to the use case's endpoint and return once it answers with it.

    A champion that serves already changes nothing, and the rollout against it goes on; another one
    ends the rollout. On failure the release before is served again. Raises PermanentError and
    TransientError with what the servers say.
    """
    if not is_remote(endpoints_url):
        from mlops_assets.adapters.endpoints import local

        folder = str(_folder(endpoints_url))
        return local.deploy(use_case, champion, spec, folder, LOCAL_READY_S, reason)
    place = place_of(use_case, endpoints_url, documents_url)
    log = prediction_log_of(use_case, endpoints_url, documents_url)
    namespace = namespace_of(endpoints_url)
    if namespace is None:
        from mlops_assets.adapters.endpoints import sagemaker

        role = endpoints_url.removeprefix(_SAGEMAKER)
        task = sagemaker.Wanted(use_case, champion, spec, role, place, log, reason)
        return sagemaker.deploy(task, SAGEMAKER_READY_S)
    from mlops_assets.adapters.endpoints import kubernetes

    wanted = kubernetes.Wanted(use_case, champion, spec, namespace, place, log, reason)
    return kubernetes.deploy(wanted, CLUSTER_READY_S)


def place_of(use_case: str, endpoints_url: str, documents_url: str) -> str:
    """The folder or URL where the endpoint's release is, and its replicas' reports."""
    if is_remote(endpoints_url):
        return join(documents_url, ENDPOINTS, use_case)
    from mlops_assets.adapters.endpoints.state import paths_of

    return str(paths_of(use_case, str(_folder(endpoints_url))).folder)


def read_release(use_case: str, endpoints_url: str, documents_url: str) -> Release | None:
    """What the endpoint's replicas are told to serve; None before the first deployment.

    Raises PermanentError for a damaged release.
    """
    return release_store.read(place_of(use_case, endpoints_url, documents_url))


def write_release(release: Release, endpoints_url: str, documents_url: str) -> None:
    """Tell the replicas to serve ``release``, which follows the one that is stored.

    Raises ConflictError where it does not: somebody else was faster.
    """
    place = place_of(release.use_case, endpoints_url, documents_url)
    release_store.write(place, release, release_store.load(place))


def read_reports(
    use_case: str, endpoints_url: str, documents_url: str
) -> tuple[ReplicaReport, ...]:
    """What each replica reported last, those that are gone included (core.replica_reports)."""
    return release_store.read_reports(place_of(use_case, endpoints_url, documents_url))


def expected_instances(use_case: str, endpoints_url: str, documents_url: str) -> tuple[str, ...]:
    """The servers that run: the process of this machine, the pods of the Deployment, or SageMaker's
    containers.
    """
    if not is_remote(endpoints_url):
        from mlops_assets.adapters.endpoints import local

        return local.instances(use_case, str(_folder(endpoints_url)))
    namespace = namespace_of(endpoints_url)
    if namespace is None:
        from mlops_assets.adapters.endpoints import sagemaker

        return sagemaker.instances(use_case, place_of(use_case, endpoints_url, documents_url))
    from mlops_assets.adapters.endpoints import kubernetes

    return kubernetes.instances(use_case, namespace)


def wait_applied(
    release: Release, endpoints_url: str, documents_url: str, timeout_s: float = APPLIED_S
) -> tuple[ReplicaReport, ...]:
    """The reports, once each server that runs serves ``release``. Servers that start later read it
    themselves.

    Raises PermanentError when one refuses it, with its words; TransientError when one is later than
    ``timeout_s`` seconds, or when another change came after.
    """
    name = f"revision {release.revision} of {release.use_case}"
    deadline = time.monotonic() + timeout_s
    while True:
        found = read_reports(release.use_case, endpoints_url, documents_url)
        expected = expected_instances(release.use_case, endpoints_url, documents_url)
        if said := refusals(found, expected, release.revision):
            raise PermanentError(f"{name} is refused: {'; '.join(said)}")
        missing = not_applied(found, expected, release.revision)
        if not missing:
            return found
        if read_release(release.use_case, endpoints_url, documents_url) != release:
            raise TransientError(f"another change came after {name}: look at what is served")
        if time.monotonic() > deadline:
            raise TransientError(
                f"{name} is not served by {', '.join(missing)} within {timeout_s:g} s: look at "
                "their logs"
            )
        time.sleep(POLL_S)


def change(
    use_case: str,
    transition: Callable[[Release], Release],
    endpoints_url: str,
    documents_url: str,
    timeout_s: float = APPLIED_S,
) -> Release:
    """Make ``transition`` of what the replicas are told to serve, and return once they do.

    A transition that returns its argument changes nothing; after a race it is asked again, with
    what the other one wrote. When a replica refuses, the release before is written again. After a
    kill in between, the same call goes on.

    Raises PermanentError without a release and for one that is refused, TransientError when a
    replica is late (the change stays), and what ``transition`` raises.
    """
    place = place_of(use_case, endpoints_url, documents_url)

    def checked(found: Release | None) -> Release:
        if found is None:
            raise PermanentError(
                f"{use_case} has no release: materialize {use_case}/endpoint first"
            )
        return transition(found)

    former, release = release_store.change(place, checked)
    try:
        wait_applied(release, endpoints_url, documents_url, timeout_s)
    except PermanentError:
        release_store.restore(place, release, former, clock.now())
        raise
    return release


def prediction_log_of(use_case: str, endpoints_url: str, documents_url: str) -> str:
    """The folder or URL where the endpoint's prediction log is."""
    if is_remote(endpoints_url):
        return join(documents_url, PREDICTION_LOG, use_case)
    from mlops_assets.adapters.endpoints.state import paths_of

    return str(paths_of(use_case, str(_folder(endpoints_url))).predictions)


def given_up(use_case: str, endpoints_url: str) -> bool:
    """Whether a person stopped the endpoint, as far as its place tells."""
    if is_remote(endpoints_url):
        return False
    from mlops_assets.adapters.endpoints.state import paths_of

    paths = paths_of(use_case, str(_folder(endpoints_url)))
    return paths.folder.exists() and not paths.endpoint.exists()


def is_remote(endpoints_url: str) -> bool:
    """Whether the servers are elsewhere, so that release and log go through the store."""
    return namespace_of(endpoints_url) is not None or endpoints_url.startswith(_SAGEMAKER)


def namespace_of(endpoints_url: str) -> str | None:
    """The namespace of the endpoints' pods; none for other targets."""
    if not endpoints_url.startswith(_CLUSTER):
        return None
    namespace = endpoints_url.removeprefix(_CLUSTER)
    if not namespace or "/" in namespace:
        raise _no_place(endpoints_url)
    return namespace


def _folder(endpoints_url: str) -> Path:
    folder = local_path(endpoints_url)
    if folder is None:
        raise _no_place(endpoints_url)
    return folder


def _no_place(endpoints_url: str) -> PermanentError:
    return PermanentError(f"{endpoints_url!r} names no place for endpoints: give {_PLACES}")
