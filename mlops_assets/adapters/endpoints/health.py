"""Whether an endpoint is well, asked from outside."""

from mlops_assets import clock
from mlops_assets.adapters.endpoints import targets
from mlops_assets.adapters.endpoints.client import connect, request
from mlops_assets.core.errors import TransientError
from mlops_assets.core.replica_reports import is_stale
from mlops_assets.core.spec import EndpointSpec

PING_S = 2.0

_OK = 200


def is_well(
    use_case: str, spec: EndpointSpec, url: str, endpoints_url: str, documents_url: str
) -> bool:
    """Whether the endpoint at ``url`` is ready, or has no server because nobody asks for one.

    What only its cloud can reach is well when one of its servers says so. Raises PermanentError and
    TransientError where neither the servers nor the store can be asked.
    """
    if not url.startswith("http://"):
        reports = targets.read_reports(use_case, endpoints_url, documents_url)
        return any(report.ready and not is_stale(report, clock.now()) for report in reports)
    try:
        with connect(url, PING_S) as connection:
            if request(connection, "GET", "/v2/health/ready")[0] == _OK:
                return True
    except TransientError:
        pass
    may_rest = spec.replicas.min == 0 and targets.is_remote(endpoints_url)
    return may_rest and not targets.expected_instances(use_case, endpoints_url, documents_url)
