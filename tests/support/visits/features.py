"""Events, label and feature views of the tests' use case."""

from datetime import timedelta

import polars as pl

from mlops_assets.core.windows import Window, day_start


def events(window: Window, visits: pl.DataFrame) -> pl.DataFrame:
    """One event per visit."""
    return visits.select(
        pl.col("visit_id").alias("event_id"), pl.col("visited_at").alias("event_time"), "shop"
    )


def returned(window: Window, visits: pl.DataFrame) -> pl.DataFrame:
    """Whether the visitor came back, known two hours later."""
    return visits.select(
        pl.col("visit_id").alias("event_id"),
        pl.col("returned").cast(pl.Int8).alias("label"),
        pl.col("settled_at").alias("known_at"),
    )


def visit(window: Window, visits: pl.DataFrame) -> pl.DataFrame:
    """What is known when the visit begins."""
    return visits.select(
        pl.col("visit_id").alias("event_id"),
        pl.col("visited_at").alias("event_time"),
        pl.col("visited_at").alias("known_at"),
        pl.col("minutes").cast(pl.Float32),
        pl.col("shop").alias("shop_name"),
    )


def shop_returns(window: Window, visits: pl.DataFrame) -> pl.DataFrame:
    """Share of returns per shop over the three days before, as known when the day starts."""
    frames: list[pl.DataFrame] = []
    shops = visits.select("shop").unique().sort("shop")
    for day in window.days:
        start = day_start(day, window.timezone)
        first = day_start(day - timedelta(days=3), window.timezone)
        before = visits.filter((pl.col("visited_at") >= first) & (pl.col("settled_at") <= start))
        share = before.group_by("shop").agg(
            pl.col("returned").mean().cast(pl.Float32).alias("shop_return_share")
        )
        at = pl.lit(start).cast(pl.Datetime("us", "UTC"))
        frames.append(
            shops.join(share, on="shop", how="left").select(
                "shop", at.alias("event_time"), at.alias("known_at"), "shop_return_share"
            )
        )
    return pl.concat(frames)


def shop_sizes(window: Window, shops: pl.DataFrame) -> pl.DataFrame:
    """Sizes, known from the first day on."""
    at = pl.lit(window.start_time).cast(pl.Datetime("us", "UTC"))
    return shops.select(
        "shop",
        at.alias("event_time"),
        at.alias("known_at"),
        pl.col("size").cast(pl.Float32).alias("shop_size"),
    )
