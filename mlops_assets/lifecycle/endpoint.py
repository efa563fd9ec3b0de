"""The endpoint: the server that answers with the champion."""

from datetime import datetime

import dagster as dg

from mlops_assets import clock
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import PromotionRecord
from mlops_assets.core.rollout_state import EndpointRecord, served_model
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.online_config import remove_config
from mlops_assets.lifecycle.platform import Platform


def deploy(
    spec: UseCaseSpec, promotion: PromotionRecord, endpoints_url: str, documents_url: str
) -> EndpointRecord:
    """Serve the champion after ``promotion``: start a server or tell a running one.

    The decision is verified again: without a champion nothing is served.
    """
    from mlops_assets.adapters.endpoints import targets

    champion = promotion.champion
    if champion is None:
        raise PermanentError(
            f"{spec.name} has no champion: version {promotion.version} was {promotion.decision} "
            f"({'; '.join(promotion.reasons)}). Train a model that passes the gate, or correct "
            "the gate in defs.yaml"
        )
    reason = f"version {promotion.version} was {promotion.decision}"
    return targets.deploy(
        spec.name, served_model(champion), spec.endpoint, endpoints_url, documents_url, reason
    )


def deploy_guarded(
    spec: UseCaseSpec, promotion: PromotionRecord, platform: Platform, now: datetime
) -> EndpointRecord:
    """Serve what the promotion ledger says, which begins with the rollout of a challenger that the
    gate has just admitted. One that a replica refuses ends at once, and the champion serves on.
    """
    from mlops_assets.adapters import ledger
    from mlops_assets.lifecycle.rollout import actions
    from mlops_assets.lifecycle.rollout.follow import align
    from mlops_assets.lifecycle.rollout.tick import followed

    read = ledger.book(platform.ledgers(), spec.name)
    wanted = read.state.wanted
    places = (platform.endpoints_url, platform.documents_url)
    if wanted is None:
        return deploy(spec, promotion, *places)
    from mlops_assets.adapters.endpoints import targets

    record = targets.deploy(spec.name, wanted.champion, spec.endpoint, *places, read.state.reason)
    read = actions.admitted(spec, platform, read, record.release, now)
    read, release = followed(spec, platform, read, record.release, now, [])
    align(spec, platform, read.state, release)
    return record.model_copy(update={"release": release})


def endpoint_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that starts, checks and replaces the endpoint."""

    @dg.asset(
        **common(
            spec,
            "endpoint",
            "The model server: answers the Open Inference Protocol and /invocations with the "
            "champion, and outlives the run that started it.",
            ["python"],
        ),
        **placed(spec, "endpoint"),
        ins={"promotion": dg.AssetIn(asset_key(spec, "promotion"))},
    )
    def _endpoint(
        platform: Platform, promotion: PromotionRecord
    ) -> dg.MaterializeResult[EndpointRecord]:
        places = (platform.endpoints_url, platform.documents_url)
        if spec.rollout.strategy == "guarded":
            record = deploy_guarded(spec, promotion, platform, clock.now())
        else:
            record = deploy(spec, promotion, *places)
        if spec.online is None:
            # After the release, so that who fails before it changes nothing.
            remove_config(spec.name, *places)
        champion = record.release.champion
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(champion.sha256),
            metadata={
                "url": dg.MetadataValue.url(f"{record.url}/v2/models/{spec.name}"),
                "version": champion.version,
                "sha256": champion.sha256,
                "revision": record.release.revision,
                "mode": record.release.mode,
                **({} if record.pid is None else {"pid": record.pid}),
                "prediction_log": dg.MetadataValue.path(record.prediction_log),
            },
        )

    return _endpoint
