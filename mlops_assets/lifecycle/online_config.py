"""What the model server is told about a use case's online features: views, keys, time limits."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import EVENT_ID, FeatureViewSpec, UseCaseSpec

if TYPE_CHECKING:
    from mlops_assets.core.online import OnlineConfig, OnlineView

CONFIG = "online.json"
"""Beside the release."""

COMPUTES_VARIABLE = "MLOPS_SERVER_COMPUTES"
"""Set where runs are executed: the server's image has polars and the code of use cases."""

_MICROSECOND = timedelta(microseconds=1)


def looked_up(spec: UseCaseSpec) -> dict[str, FeatureViewSpec]:
    """The views that are looked up: those of the event itself come with the request."""
    return {name: v for name, v in spec.feature_views.items() if EVENT_ID not in v.entity}


def config_of(spec: UseCaseSpec, functions: Functions, url: str) -> "OnlineConfig":
    """What the model server has to know; ``url`` is the store's."""
    from mlops_assets.core.online import ComputedViews, OnlineConfig, layout_of

    online, dataset = spec.online, spec.datasets[spec.events.dataset]
    if online is None:
        raise PermanentError(f"{spec.name} has no online features: write online: in its defs.yaml")
    views = tuple(online_view(spec, name) for name in looked_up(spec))
    computed = None
    if online.computed:
        computed = ComputedViews(
            views=tuple(online_view(spec, name) for name in online.computed),
            functions={
                name: functions.full_name(spec.feature_views[name].function)
                for name in online.computed
            },
            events=functions.full_name(spec.events.function),
            dataset=spec.events.dataset,
            key=dataset.key[0],
            event_time=cast("str", dataset.event_time),
            columns=dict(dataset.columns),
            given=tuple(online.event_columns),
            timezone=spec.timezone,
        )
    return OnlineConfig(
        use_case=spec.name,
        layout=layout_of(views),
        url=_told(url),
        views=views,
        computed=computed,
        lead=timedelta(minutes=spec.events.lead_minutes) // _MICROSECOND,
        on_timeout=online.on_timeout,
        timeout_s=online.timeout_ms / 1000,
    )


def _told(url: str) -> str:
    """The store's URL as a server is told: a password is the environment's to tell."""
    from mlops_assets.adapters.storage import local_path

    folder = local_path(url)
    if url and folder is not None:
        return str(folder.absolute())  # a server has another working directory
    return "" if urlsplit(url).password is not None else url


def online_view(spec: UseCaseSpec, name: str) -> "OnlineView":
    """The view ``name`` as the server reads it."""
    from mlops_assets.core.online import OnlineView

    view = spec.feature_views[name]
    ttl = None if view.ttl_hours is None else timedelta(hours=view.ttl_hours) // _MICROSECOND
    return OnlineView(
        name=name,
        keys={column: spec.entity_types.get(column, "string") for column in view.entity},
        floats=tuple(feature for feature, kind in view.features.items() if kind == "float"),
        categories=tuple(feature for feature, kind in view.features.items() if kind == "category"),
        ttl=ttl,
    )


def refuse_computed(spec: UseCaseSpec, endpoints_url: str) -> None:
    """Raises PermanentError where servers elsewhere could not compute what ``spec`` says they do.

    The platform's image of the server has neither polars nor the code of use cases: it would look
    healthy, and refuse each request that leaves those features out.
    """
    from mlops_assets.adapters.endpoints.targets import is_remote

    computed = [] if spec.online is None else spec.online.computed
    if computed and is_remote(endpoints_url) and not os.environ.get(COMPUTES_VARIABLE):
        raise PermanentError(
            f"{spec.name}: its servers are to compute {', '.join(computed)}, and the server's "
            "image has neither polars nor the use case's code. Take them out of online.computed "
            "and send their features, or build an image that has both, name it in "
            f"MLOPS_SERVER_IMAGE and set {COMPUTES_VARIABLE}=true: see docs/online-features.md"
        )


def write_config(config: "OnlineConfig", endpoints_url: str, documents_url: str) -> str:
    """Put what the server has to know beside its release, and return where."""
    import msgspec

    from mlops_assets.adapters.endpoints.targets import place_of
    from mlops_assets.adapters.storage import join, read_bytes, write_bytes

    url = join(place_of(config.use_case, endpoints_url, documents_url), CONFIG)
    content = msgspec.json.encode(config)
    if read_bytes(url) != content:
        write_bytes(url, content)
    return url


def remove_config(use_case: str, endpoints_url: str, documents_url: str) -> None:
    """Take away what :func:`write_config` put there: servers look nothing up any more."""
    from mlops_assets.adapters.endpoints import conditional
    from mlops_assets.adapters.endpoints.targets import place_of
    from mlops_assets.adapters.storage import join

    where = join(place_of(use_case, endpoints_url, documents_url), CONFIG)
    # Deleting what is not there leaves a marker in a bucket with versions, each time.
    if conditional.get(where) is not None:
        conditional.delete(where)
