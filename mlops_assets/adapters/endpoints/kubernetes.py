"""The endpoint target on Kubernetes: a release in the store, a Deployment and a Service.

The pods follow the release: a change of models restarts none of them. Server-side apply: what is
applied already is left alone, so nothing rolls without a change of image, spec or package; while
new pods come up, those before go on answering.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from importlib.metadata import version

from mlops_assets import clock
from mlops_assets.adapters.endpoints import kubernetes_api as api
from mlops_assets.adapters.endpoints import kubernetes_objects as objects
from mlops_assets.adapters.endpoints import kubernetes_scaling as scaling
from mlops_assets.adapters.endpoints import release_store
from mlops_assets.adapters.endpoints.kubernetes_companions import (
    Owner,
    disruption_budget,
    network_policy,
    service,
)
from mlops_assets.adapters.endpoints.rollout import (
    Deployment,
    hopeless,
    is_rolled_out,
    waiting_for,
)
from mlops_assets.adapters.storage import join
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError
from mlops_assets.core.replica_reports import not_applied, refusals
from mlops_assets.core.rollout_state import EndpointRecord, Release, ServedModel, deployed
from mlops_assets.core.spec import EndpointSpec

IMAGE_VARIABLE = "MLOPS_SERVER_IMAGE"
POLL_S = 1.0

POLICY_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True)
class Wanted:
    """What is to be served, and where."""

    use_case: str
    champion: ServedModel
    spec: EndpointSpec
    namespace: str
    place: str
    """The ``s3://`` URL below which the release and the pods' reports are."""
    log_url: str
    reason: str


def deploy(wanted: Wanted, timeout_s: float) -> EndpointRecord:
    """Write the release, apply the objects, and return once all pods answer with it.

    A champion that serves already changes no release. After a failure release and Deployment are
    what they were before; a first one has no pods.

    Raises PermanentError when trying again cannot help (a model that is refused, a server that
    crashes, a right that is missing), TransientError when it may (no node, no image, a rollout
    later than ``timeout_s``).
    """
    image = os.environ.get(IMAGE_VARIABLE)
    if not image:
        raise PermanentError(
            f"the environment variable {IMAGE_VARIABLE} is not set: it names the model server's "
            "image; set it where runs are executed"
        )
    if not wanted.place.startswith("s3://"):
        raise PermanentError(
            f"pods cannot follow a release at {wanted.place}: set MLOPS_DOCUMENTS_URL to "
            "s3://bucket/prefix"
        )
    use_case, spec, namespace = wanted.use_case, wanted.spec, wanted.namespace
    cluster = api.connect(use_case, namespace)
    server = objects.Server(
        use_case=use_case,
        image=image,
        version=version("mlops-assets"),
        release_url=join(wanted.place, release_store.RELEASE),
        log_url=wanted.log_url,
    )
    running = api.read_deployment(cluster)
    before = _applied_before(cluster, running)
    pods = objects.replicas(spec, running.spec.replicas if running else 0)
    document = objects.deployment(server, spec, namespace, pods)
    former, release = release_store.change(
        wanted.place,
        lambda found: deployed(found, use_case, wanted.champion, clock.now(), wanted.reason),
    )
    try:
        with scaling.held(cluster):
            owner = Owner(use_case, namespace, api.apply(cluster, document))
            _apply_companions(cluster, owner, spec)
            _ready(cluster, wanted.place, release, document, timeout_s)
        if not scaling.follow_load(cluster, owner, spec):
            # The autoscaler that is gone may have asked for another number meanwhile.
            api.apply(cluster, document)
    except PlatformError:
        # The failure that led here is what the caller has to hear about.
        with contextlib.suppress(PlatformError):
            release_store.restore(wanted.place, release, former, clock.now())
        with contextlib.suppress(PlatformError):
            # A server that was given up must not begin to serve later.
            api.apply(cluster, before or objects.without_pods(document))
        raise
    release_store.prune(wanted.place, clock.now())
    return EndpointRecord(
        use_case=use_case,
        url=f"http://{cluster.name}.{namespace}.svc:{spec.port}",
        instance=owner.uid,
        release=release,
        prediction_log=wanted.log_url,
    )


def instances(use_case: str, namespace: str) -> tuple[str, ...]:
    """The pods of the endpoint that run; each reports under its name."""
    pods = api.list_pods(api.connect(use_case, namespace))
    return tuple(pod.metadata.name for pod in pods if pod.status.phase == "Running")


def _apply_companions(cluster: api.Cluster, owner: Owner, spec: EndpointSpec) -> None:
    api.apply(cluster, service(owner, spec))
    api.apply(cluster, network_policy(owner, spec))
    policy = api.served(cluster, "policy", POLICY_VERSIONS)
    if policy is not None:
        api.apply(cluster, disruption_budget(owner, policy))


def _applied_before(cluster: api.Cluster, found: Deployment | None) -> objects.Document | None:
    """The Deployment as it was applied last; none for a first one."""
    if found is None:
        return None
    applied = found.metadata.annotations.get(objects.APPLIED_ANNOTATION)
    if applied is None:
        raise PermanentError(
            f"the Deployment {cluster.namespace}/{cluster.name} was not made by this platform: "
            "remove it, or give the use case another name"
        )
    return objects.from_applied(applied)


def _ready(
    cluster: api.Cluster, place: str, release: Release, document: objects.Document, timeout_s: float
) -> None:
    """Return once all pods of the Deployment are of ``document`` and serve ``release``."""
    deadline = time.monotonic() + timeout_s
    applied = objects.applied_text(document)
    while True:
        found = api.read_deployment(cluster)
        if found is None or found.metadata.annotations.get(objects.APPLIED_ANNOTATION) != applied:
            raise TransientError(
                f"another deployment of {release.use_case} came after this one: look at what is "
                "served, and deploy again if it is not what it should be"
            )
        pods = api.list_pods(cluster)
        missing = tuple(pod.metadata.name for pod in pods)
        if is_rolled_out(found):
            reports = release_store.read_reports(place)
            missing = not_applied(reports, missing, release.revision)
            if not missing:
                return
            if said := refusals(reports, missing, release.revision):
                raise PermanentError(
                    f"the endpoint of {release.use_case} refuses the release: {'; '.join(said)}"
                )
        problem = hopeless(found, pods)
        if problem is not None:
            words = "" if problem.crashed is None else api.last_words(cluster, problem.crashed)
            raise problem.error(problem.reason + words)
        if time.monotonic() > deadline:
            raise TransientError(
                f"the endpoint of {release.use_case} was not ready within {timeout_s:g} s: "
                f"{waiting_for(pods, missing)}"
            )
        time.sleep(POLL_S)
