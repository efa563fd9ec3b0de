"""What follows from the promotion ledger: the release, then the aliases and the documents.

The ledger alone says what is to be served, and is written first. Each step finds itself done, so
that whoever is killed in between is made up for by the next one that asks.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.promotion_ledger import State, serves, towards
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.rollout_state import EndpointRecord, Release
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.platform import Platform

if TYPE_CHECKING:
    from mlops_assets.adapters.tracking import Tracking


def released(spec: UseCaseSpec, platform: Platform) -> Release | None:
    """What the use case's endpoint is told to serve; None before the first deployment."""
    from mlops_assets.adapters.endpoints import targets

    return targets.read_release(spec.name, platform.endpoints_url, platform.documents_url)


def follow(
    spec: UseCaseSpec, platform: Platform, release: Release, now: datetime, timeout_s: float
) -> Release:
    """Make the endpoint serve what the ledger says, and return once it does.

    ``release`` is what it was told last. Raises PermanentError when a replica refuses, and what it
    was told before stands again; TransientError when one is late: it stands, and is followed later.
    """
    from mlops_assets.adapters import ledger
    from mlops_assets.adapters.endpoints import targets

    ledgers = platform.ledgers()
    wanted = ledger.book(ledgers, spec.name).state.wanted
    if wanted is None or serves(release, wanted):
        return release

    def transition(found: Release) -> Release:
        # Read after the release: whoever decides meanwhile changes the release after it, and is
        # noticed by the swap.
        state = ledger.book(ledgers, spec.name).state
        if state.wanted is None:
            return found
        return towards(found, state.wanted, now, state.reason)

    return targets.change(
        spec.name, transition, platform.endpoints_url, platform.documents_url, timeout_s
    )


def align(spec: UseCaseSpec, platform: Platform, state: State, release: Release) -> None:
    """Make the registry's aliases, and the documents that other stages read, say what the ledger
    does. Raises TransientError when MLflow is away.
    """
    if state.wanted is None:
        return
    tracking = platform.tracking()
    _aliases(spec, tracking, state)
    _documents(spec, platform, tracking, state, release)


def _aliases(spec: UseCaseSpec, tracking: "Tracking", state: State) -> None:
    wanted, name = state.wanted, spec.name
    if wanted is None:
        return
    champion = tracking.champion(name)
    if champion is None or champion.version != wanted.champion.version:
        tracking.set_champion(name, wanted.champion.version)
    challenger = tracking.challenger(name)
    known = None if challenger is None else challenger.version
    if wanted.challenger is not None and wanted.mode != "watch":
        if known != wanted.challenger.version:
            tracking.set_challenger(name, wanted.challenger.version)
    elif known in state.ended:
        tracking.drop_challenger(name, known)


def _documents(
    spec: UseCaseSpec, platform: Platform, tracking: "Tracking", state: State, release: Release
) -> None:
    from mlops_assets.adapters import documents

    wanted, name, url = state.wanted, spec.name, platform.documents_url
    if wanted is None:
        return
    promotion = documents.read(url, name, "promotion", PromotionRecord)
    served = promotion.champion if promotion is not None else None
    if promotion is not None and (served is None or served.version != wanted.champion.version):
        champion = tracking.version(name, wanted.champion.version)
        promoted = promotion.version == champion.version
        changed = {
            "decision": "promoted" if promoted else "refused",
            "reasons": (state.reason, *promotion.reasons),
            "previous_version": served.version if promoted and served else champion.version,
            "champion": champion,
        }
        documents.write(url, name, "promotion", promotion.model_copy(update=changed))
    endpoint = documents.read(url, name, "endpoint", EndpointRecord)
    if endpoint is not None and endpoint.release != release:
        documents.write(url, name, "endpoint", endpoint.model_copy(update={"release": release}))


def no_endpoint(spec: UseCaseSpec) -> PermanentError:
    """Nothing is served yet."""
    return PermanentError(f"{spec.name} has no endpoint: materialize {spec.name}/endpoint first")
