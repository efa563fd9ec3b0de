"""Backtest: retraining policies replayed over what was, and the one that would have paid."""

from datetime import date

import dagster as dg

from mlops_assets.adapters.backtest_cache import Cache
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.backtest.engine import Backtest, Options, backtest
from mlops_assets.lifecycle.platform import Platform


class BacktestConfig(dg.Config):
    """Which days a backtest replays."""

    every_days: int = 7
    """Days between the ends of training windows."""
    first: str | None = None
    """First day that is scored, ISO date; default: training_set.end of defs.yaml."""
    until: str | None = None
    """First day after, ISO date; default: the end of the data, else today."""


def backtest_asset(spec: UseCaseSpec, functions: Functions) -> dg.AssetsDefinition:
    """The asset that compares retraining policies, materialized on request."""

    @dg.asset(
        **common(
            spec,
            "backtest",
            "Retraining policies replayed over the past: log-loss, trainings, cost and regret of "
            "each, and a recommendation. On request.",
            [spec.model.engine, "polars"],
        ),
        **placed(spec, "backtest"),
        deps=[asset_key(spec, name) for name in (*spec.feature_views, spec.events.dataset)],
    )
    def _backtest(
        context: dg.AssetExecutionContext, config: BacktestConfig, platform: Platform
    ) -> dg.MaterializeResult:
        from mlops_assets.adapters.figures import markdown_image

        told = ""

        def tell(what: str, done: float, total: float) -> None:
            nonlocal told
            line = f"{what}: {done / total:.0%}"
            if line != told:
                told = line
                context.log.info(line)

        options = Options(
            every_days=config.every_days, first=_date(config.first), until=_date(config.until)
        )
        found = backtest(spec, functions, platform.lake(), cache_at(platform, spec), options, tell)
        paths = keep(found, platform, spec)
        best = found.summary.best
        return dg.MaterializeResult(
            metadata={
                "chosen": found.summary.chosen,
                "beats_baselines": found.summary.beats_baselines,
                "log_loss_second_half": best.second.log_loss,
                "trainings_second_half": best.second.trainings,
                "regret": best.regret,
                "cost": best.whole.cost,
                "models": found.summary.models,
                "policies": dg.MetadataValue.md(found.markdown),
                "loss_over_time": dg.MetadataValue.md(
                    markdown_image(found.plot, "log-loss by policy")
                ),
                "recommended": dg.MetadataValue.md(f"```yaml\n{found.recommended}```"),
                "report": dg.MetadataValue.path(paths[0]),
            }
        )

    return _backtest


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise PermanentError(f"{text!r} is no ISO date like 2013-03-01") from error


def cache_at(platform: Platform, spec: UseCaseSpec) -> Cache:
    """Where the use case's backtests keep what they have computed."""
    from mlops_assets.adapters.storage import join

    return Cache(join(platform.artifacts_url, "backtest", spec.name))


def keep(
    found: Backtest, platform: Platform, spec: UseCaseSpec, out: str | None = None
) -> list[str]:
    """Write the table, the plot, the summary and the recommendation; returns their places."""
    from mlops_assets.adapters.storage import join, write_bytes

    folder = out or join(platform.reports_url, spec.name, "backtest")
    files = {
        "policies.md": found.markdown.encode(),
        "policies.png": found.plot,
        "summary.json": found.summary.model_dump_json(indent=1).encode(),
        "recommended.yaml": found.recommended.encode(),
    }
    for name, content in files.items():
        write_bytes(join(folder, name), content)
    return [join(folder, name) for name in files]
