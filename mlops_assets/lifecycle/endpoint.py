"""The endpoint: the server that answers with the champion."""

import dagster as dg

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import EndpointRecord, PromotionRecord, Release
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.platform import Platform


def deploy(
    spec: UseCaseSpec, promotion: PromotionRecord, endpoints_url: str, documents_url: str
) -> EndpointRecord:
    """Serve the champion after ``promotion``: start a server or hand the release to a running one.

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
    release = Release(
        use_case=spec.name,
        version=champion.version,
        sha256=champion.sha256,
        artifact=champion.artifact,
    )
    return targets.deploy(release, spec.endpoint, endpoints_url, documents_url)


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
        record = deploy(spec, promotion, platform.endpoints_url, platform.documents_url)
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.release.sha256),
            metadata={
                "url": dg.MetadataValue.url(f"{record.url}/v2/models/{spec.name}"),
                "version": record.release.version,
                "sha256": record.release.sha256,
                **({} if record.pid is None else {"pid": record.pid}),
                "prediction_log": dg.MetadataValue.path(record.prediction_log),
            },
        )

    return _endpoint
