"""The endpoint: the server that answers with the champion."""

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import EndpointRecord, PromotionRecord, Release
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common
from mlops_assets.lifecycle.platform import Platform

READY_TIMEOUT_SECONDS = 60
"""A server that imports its libraries on a busy machine is ready within 10 seconds."""


def deploy(spec: UseCaseSpec, promotion: PromotionRecord, endpoints_dir: str) -> EndpointRecord:
    """Serve the champion after ``promotion``: start a server or hand the release to a running one.

    The decision is verified again: without a champion nothing is served.
    """
    from mlops_assets.adapters.endpoints import local

    champion = promotion.champion
    if champion is None:
        raise PermanentError(
            f"{spec.name} has no champion: version {promotion.version} was {promotion.decision} "
            f"({'; '.join(promotion.reasons)}). Train a model that passes the gate, or correct "
            "the gate in defs.yaml"
        )
    release = Release(
        use_case=spec.name,
        version=champion.version,
        sha256=champion.sha256,
        artifact=champion.artifact,
    )
    return local.deploy(release, spec.endpoint, endpoints_dir, READY_TIMEOUT_SECONDS)


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
        ins={"promotion": dg.AssetIn(asset_key(spec, "promotion"))},
    )
    def _endpoint(
        platform: Platform, promotion: PromotionRecord
    ) -> dg.MaterializeResult[EndpointRecord]:
        record = deploy(spec, promotion, platform.endpoints_dir)
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.release.sha256),
            metadata={
                "url": dg.MetadataValue.url(f"{record.url}/v2/models/{spec.name}"),
                "version": record.release.version,
                "sha256": record.release.sha256,
                "pid": record.pid,
                "prediction_log": dg.MetadataValue.path(record.prediction_log),
            },
        )

    return _endpoint
