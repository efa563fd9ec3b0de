"""Which target an endpoint has: a process of this machine, or pods of a cluster.

Told by the URL of the place: ``kubernetes://<namespace>``, or a local folder.
"""

from pathlib import Path

from mlops_assets.adapters.storage import join, local_path
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import EndpointRecord, Release
from mlops_assets.core.spec import EndpointSpec

LOCAL_READY_S = 60.0
"""A server that imports its libraries on a busy machine is ready within 10 seconds."""

CLUSTER_READY_S = 600.0
"""A new node takes two minutes or three, an image's first pull another one."""

PREDICTION_LOG = "prediction-log"
"""Below the documents, whose folders are named by use cases: none has a hyphen."""

_CLUSTER = "kubernetes://"


def deploy(
    release: Release, spec: EndpointSpec, endpoints_url: str, documents_url: str
) -> EndpointRecord:
    """Bring ``release`` to the use case's endpoint and return once it answers with it.

    Deploying what is served already changes nothing; on failure the release before is served
    again. Raises PermanentError and TransientError with what the servers say.
    """
    namespace = namespace_of(endpoints_url)
    if namespace is None:
        from mlops_assets.adapters.endpoints import local

        return local.deploy(release, spec, str(_folder(endpoints_url)), LOCAL_READY_S)
    from mlops_assets.adapters.endpoints import kubernetes

    log = prediction_log_of(release.use_case, endpoints_url, documents_url)
    return kubernetes.deploy(release, spec, namespace, log, CLUSTER_READY_S)


def prediction_log_of(use_case: str, endpoints_url: str, documents_url: str) -> str:
    """The folder or URL where the endpoint's prediction log is."""
    if namespace_of(endpoints_url) is not None:
        return join(documents_url, PREDICTION_LOG, use_case)
    from mlops_assets.adapters.endpoints.state import paths_of

    return str(paths_of(use_case, str(_folder(endpoints_url))).predictions)


def given_up(use_case: str, endpoints_url: str) -> bool:
    """Whether a person stopped the endpoint, as far as its place tells."""
    if namespace_of(endpoints_url) is not None:
        return False
    from mlops_assets.adapters.endpoints.state import paths_of

    paths = paths_of(use_case, str(_folder(endpoints_url)))
    return paths.folder.exists() and not paths.endpoint.exists()


def namespace_of(endpoints_url: str) -> str | None:
    """The namespace of the endpoints' pods; none for processes of this machine."""
    if not endpoints_url.startswith(_CLUSTER):
        return None
    namespace = endpoints_url.removeprefix(_CLUSTER)
    if not namespace or "/" in namespace:
        raise PermanentError(
            f"{endpoints_url!r} names no place for endpoints: give kubernetes://<namespace> or a "
            "local folder"
        )
    return namespace


def _folder(endpoints_url: str) -> Path:
    folder = local_path(endpoints_url)
    if folder is None:
        raise PermanentError(
            f"{endpoints_url!r} names no place for endpoints: give kubernetes://<namespace> or a "
            "local folder"
        )
    return folder
