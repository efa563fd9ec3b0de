"""Online features: the newest rows of the feature views, where the model server looks them up."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets import clock
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.spec import KNOWN_AT, UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed, table_name
from mlops_assets.lifecycle.online_config import (
    config_of,
    looked_up,
    refuse_computed,
    write_config,
)
from mlops_assets.lifecycle.platform import Platform

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.online_store import OnlineStore
    from mlops_assets.adapters.online_store.publishing import Fresh
    from mlops_assets.core.online import Generation, Manifest, OnlineConfig, OnlineView

ONLINE_FEATURES = "online_features"

WRITE_TIMEOUT_S = 30.0
"""Seconds for one exchange of a materialization with the store."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

AC = dg.AutomationCondition


@dataclass(frozen=True)
class Materialized:
    """What is served after a materialization."""

    manifest: "Manifest"
    written: tuple[str, ...]
    """Views with new content."""
    superseded: bool
    """A later lake was there already: nothing was changed."""
    dropped: int
    """Generations that were removed."""


def materialize(
    spec: UseCaseSpec, config: "OnlineConfig", lake: "Lake", store: "OnlineStore", now: datetime
) -> Materialized:
    """Serve what the lake has at ``now`` of the looked-up views.

    A view whose partitions are those that its served generation was made of stays as it is, unless
    the store has lost some of it. One that is not in the lake yet has no features.
    """
    from mlops_assets.adapters.online_store.publishing import publish
    from mlops_assets.adapters.online_store.store import Reader

    served = Reader(store, config.space).manifest()
    generations = {} if served is None else served.views
    fresh: dict[str, Fresh] = {}
    for view in config.views:
        found = _fresh(spec, view, lake, now, generations.get(view.name), store)
        if found is not None:
            fresh[view.name] = found
    names = [view.name for view in config.views if view.name not in fresh]
    unchanged = [name for name in names if name in generations]
    as_of = (now - _EPOCH) // _MICROSECOND
    done = publish(store, spec.name, config.space, as_of, fresh, unchanged)
    written = () if done.superseded else tuple(fresh)
    return Materialized(done.manifest, written, done.superseded, len(done.dropped))


def _fresh(
    spec: UseCaseSpec,
    view: "OnlineView",
    lake: "Lake",
    now: datetime,
    served: "Generation | None",
    store: "OnlineStore",
) -> "Fresh | None":
    """The view's new content; None when what is served was made of the same partitions, and for a
    view that is not in the lake.
    """
    import polars as pl

    from mlops_assets.adapters.online_store.publishing import Fresh
    from mlops_assets.core.online_rows import entities, still_needed

    table = table_name(spec, view.name)
    history = timedelta(minutes=0 if spec.online is None else spec.online.history_minutes)
    version = lake.version(table)
    if version < 0:
        # Not materialized yet: its features are missing until it is, the other views' are not.
        return None
    states = lake.states(table, version)
    first = _first_day(spec, view, now, history)
    inputs = {name: state.digest for name, state in states.items() if name >= first}
    if (
        served is not None
        and _same(inputs, served.inputs, first)
        and store.count(served.bucket) == served.entities
    ):
        return None
    rows = cast("pl.DataFrame", pl.from_arrow(lake.read(table, list(inputs), version=version)))
    kept = still_needed(rows, view, now, history)
    newest = cast("datetime | None", kept[KNOWN_AT].max())
    return Fresh(
        entities=entities(kept, view),
        inputs=inputs,
        table_version=version,
        newest=None if newest is None else (newest - _EPOCH) // _MICROSECOND,
    )


def _first_day(spec: UseCaseSpec, view: "OnlineView", now: datetime, history: timedelta) -> str:
    """The first partition with rows that a request may still use; of a view without days, any."""
    from zoneinfo import ZoneInfo

    if not spec.feature_views[view.name].partitioned or view.ttl is None:
        return ""
    oldest = now - history - view.ttl * _MICROSECOND
    return max(oldest.astimezone(ZoneInfo(spec.timezone)).date(), spec.start).isoformat()


def _same(inputs: Mapping[str, str], before: Mapping[str, str], first: str) -> bool:
    """Whether nothing came, changed or went since, but for days that nobody needs any more."""
    return inputs == {name: digest for name, digest in before.items() if name >= first}


def _metadata(done: Materialized, now: datetime) -> dict[str, object]:
    generations = done.manifest.views
    header = ("| view | entities | rows | bytes | newest row | |", "|---|---|---|---|---|---|")
    rows = [
        f"| {name} | {g.entities} | {g.rows} | {g.bytes} | {_age(g, now)} | "
        f"{'new' if name in done.written else 'unchanged'} |"
        for name, g in generations.items()
    ]
    ages = [
        (now - _EPOCH) / timedelta(hours=1) - g.newest / 3.6e9
        for g in generations.values()
        if g.newest is not None
    ]
    return {
        "dagster/row_count": sum(g.rows for g in generations.values()),
        "entities": sum(g.entities for g in generations.values()),
        "bytes": sum(g.bytes for g in generations.values()),
        "views_written": len(done.written),
        "views_unchanged": len(generations) - len(done.written),
        "generations_removed": done.dropped,
        "revision": done.manifest.revision,
        **({"staleness_hours": max(ages)} if ages else {}),
        "views": dg.MetadataValue.md("\n".join([*header, *rows])),
        "result": "a later lake is served already: left as it is"
        if done.superseded
        else f"{len(done.written)} of {len(generations)} views are new or changed",
    }


def _age(generation: "Generation", now: datetime) -> str:
    if generation.newest is None:
        return "no rows"
    hours = (now - _EPOCH - generation.newest * _MICROSECOND) / timedelta(hours=1)
    return f"{hours:.1f} h ago" if hours >= 0 else f"known in {-hours:.1f} h"


def follows() -> dg.AutomationCondition:
    """Whether the store follows: a view has new content, and none is under way.

    One run serves whatever is in the lake by then, so that a backfill of many days asks once.
    """
    changed = AC.any_deps_match(AC.newly_updated())
    busy = AC.any_deps_match(
        AC.run_in_progress() | AC.backfill_in_progress() | AC.will_be_requested()
    )
    return (
        changed.since(AC.newly_requested() & ~changed).with_label("a view has changed")
        & ~busy.with_label("a view is under way")
        & ~AC.in_progress()
    ).with_label("follows")


def online_features_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that keeps the online store up to date, and tells the server of it."""

    @dg.asset(
        **common(
            spec,
            ONLINE_FEATURES,
            "The newest rows of each feature view by entity, where the model server looks up what "
            "a request leaves out. Swapped as a whole; the generation before stays until the next.",
            ["python"],
        ),
        **placed(spec, ONLINE_FEATURES),
        deps=[asset_key(spec, name) for name in looked_up(spec)],
        automation_condition=follows(),
    )
    def _online_features(platform: Platform) -> dg.MaterializeResult[None]:
        from mlops_assets.adapters.online_store import open_store, shown

        refuse_computed(spec, platform.endpoints_url)
        config = config_of(spec, functions, platform.online_url)
        now = clock.now()
        store = open_store(platform.online_url, WRITE_TIMEOUT_S)
        done = materialize(spec, config, platform.lake(), store, now)
        # After the first rows: a server that hears of the store finds something there.
        document = write_config(config, platform.endpoints_url, platform.documents_url)
        return dg.MaterializeResult(
            value=None,
            data_version=dg.DataVersion(_digest(done.manifest)),
            metadata=cast(
                "dict[str, str]",
                {
                    **_metadata(done, now),
                    "store": shown(platform.online_url),
                    "config": dg.MetadataValue.path(document),
                },
            ),
        )

    return _online_features


def _digest(manifest: "Manifest") -> str:
    """The content that is served: what its views were made of."""
    import hashlib

    import msgspec

    made = {name: generation.inputs for name, generation in manifest.views.items()}
    return hashlib.sha256(msgspec.json.encode(made, order="deterministic")).hexdigest()
