"""The engine of a backtest: rows, models, replays, and what they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_assets import clock
from mlops_assets.adapters.backtest_cache import Cache
from mlops_assets.adapters.functions import Functions
from mlops_assets.core.compute_stages import profile_name
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.assets import table_name, view_lookback_days
from mlops_assets.lifecycle.feature_views import needed_days
from mlops_assets.lifecycle.training_set import retraining_window, training_window

if TYPE_CHECKING:
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.core.backtest_report import BacktestSummary
    from mlops_assets.core.candidates import Candidate
    from mlops_assets.core.replay import LossMatrix, Replay
    from mlops_assets.lifecycle.backtest.matrix import Cell
    from mlops_assets.lifecycle.backtest.rows import Span
    from mlops_assets.lifecycle.tables import Tables

OnStep = Callable[[str, float, float], None]
"""Told what is being done, and how much of it is done, and of how much."""

FEWEST_DAYS = 14


@dataclass(frozen=True)
class Options:
    """Which days are replayed, and which models may serve on them.

    ``first``: the first day that is scored, and the end of the first champion's window (default:
    that of the use case's training set); ``until``: the first day after (default: the end of the
    use case's data, else today). ``every_days`` between the ends of training windows; a policy that
    retrains on another day gets the newest model that there is. ``windows`` are the lengths of
    training windows in days, None for everything so far. ``budget`` bounds the cost of the chosen
    policy on the first half (default: nine tenths of what the naive trigger costs there).
    """

    every_days: int = 7
    first: date | None = None
    until: date | None = None
    windows: tuple[int | None, ...] = (None,)
    budget: float | None = None


@dataclass(frozen=True)
class Backtest:
    """What was found, and how it is shown."""

    summary: "BacktestSummary"
    markdown: str
    recommended: str
    """YAML."""
    plot: bytes
    """PNG."""


def backtest(
    spec: UseCaseSpec,
    functions: Functions,
    lake: "Lake",
    cache: Cache,
    options: Options,
    on_step: OnStep | None = None,
) -> Backtest:
    """Train each model that a policy may have needed, once, and replay every policy over them.

    Raises PermanentError for options that leave nothing to replay, and what the use case's own
    functions and the training raise.
    """
    from mlops_assets.adapters.backtest_plot import backtest_plot
    from mlops_assets.core.backtest_report import recommended_yaml, table_markdown
    from mlops_assets.core.candidates import candidates
    from mlops_assets.lifecycle.backtest.matrix import fill
    from mlops_assets.lifecycle.backtest.rows import read_span

    tell = on_step or (lambda _what, _done, _total: None)
    ends, until = training_ends(spec, options)
    policies = candidates(spec.retraining, options.windows)
    lengths = dict.fromkeys(candidate.retraining.window_days for candidate in policies)
    families = {length: [_window(spec, end, length) for end in ends] for length in lengths}
    windows = list(dict.fromkeys(window for family in families.values() for window in family))
    span_window = Window(min(window.first for window in windows), until, spec.timezone)
    tell("rows", 0, 1)
    tables, source = _tables(spec, functions, lake, span_window)
    span = read_span(spec, functions, tables, span_window)
    tell("rows", 1, 1)

    # A training costs about as much as it has days.
    total = sum(len(window.days) for window in windows)

    def on_model(done: int, trained: bool) -> None:
        del trained
        tell("models", sum(len(window.days) for window in windows[:done]), total)

    cells = fill(spec, span, windows, cache, on_model)
    summary = _compared(spec, span, families, cells, policies, options, source, cache, tell)
    chosen = next(c for c in policies if c.name == summary.chosen)
    return Backtest(
        summary,
        table_markdown(summary),
        recommended_yaml(summary, chosen.retraining),
        backtest_plot(summary),
    )


def training_ends(spec: UseCaseSpec, options: Options) -> tuple[list[date], date]:
    """The ends of the training windows, and the first day that is not replayed.

    Raises PermanentError for fewer than FEWEST_DAYS days, and for days outside the data.
    """
    first = options.first or spec.training_set.end
    today = clock.now().astimezone(ZoneInfo(spec.timezone)).date()
    until = options.until or spec.end or today
    if options.every_days < 1:
        raise PermanentError(f"every: {options.every_days} days; give 1 or more")
    if spec.end is not None and until > spec.end:
        raise PermanentError(f"until: the data ends on {spec.end}; choose that or an earlier day")
    if (until - first).days < FEWEST_DAYS:
        raise PermanentError(
            f"{first} to {until} are {(until - first).days} days: choose at least {FEWEST_DAYS}, "
            "so that a policy can be chosen on some and reported on others"
        )
    count = -(-(until - first).days // options.every_days)
    return [first + timedelta(days=options.every_days * n) for n in range(count)], until


def _window(spec: UseCaseSpec, end: date, length: int | None) -> Window:
    """What a retraining would have trained on. The first model is that of the training set."""
    if end == spec.training_set.end:
        return training_window(spec)
    retraining = spec.retraining.model_copy(update={"window_days": length})
    return retraining_window(spec.model_copy(update={"retraining": retraining}), end)


def _tables(
    spec: UseCaseSpec, functions: Functions, lake: "Lake", window: Window
) -> "tuple[Tables, str]":
    """The lake where it has all that the window needs, else the sources; and which it is."""
    from mlops_assets.lifecycle.source_tables import tables_from_sources

    labels = {spec.events.dataset, spec.label.dataset}
    needed = {name: needed_days(spec, window, 0) for name in labels}
    for name, view in spec.feature_views.items():
        lookback = view_lookback_days(view)
        needed[name] = needed_days(spec, window, lookback) if view.partitioned else []
    for name, days in needed.items():
        states = lake.states(table_name(spec, name))
        if not states or not states.keys() >= set(days):
            return tables_from_sources(spec, functions, window), "the sources"
    return lake, "the lake"


def _compared(
    spec: UseCaseSpec,
    span: "Span",
    families: "dict[int | None, list[Window]]",
    cells: "dict[Window, Cell]",
    policies: "Sequence[Candidate]",
    options: Options,
    source: str,
    cache: Cache,
    tell: OnStep,
) -> "BacktestSummary":
    from mlops_assets.adapters.prices import price_of, training_cost
    from mlops_assets.core.backtest_report import (
        BacktestSummary,
        beats_baselines,
        default_budget,
        results_of,
        week_starts,
    )
    from mlops_assets.lifecycle.backtest.matrix import losses

    first = families[policies[0].retraining.window_days][0].end
    of = {
        length: {window: cells[window] for window in family} for length, family in families.items()
    }
    matrices = {length: losses(found, first, span.window.end) for length, found in of.items()}
    profile = profile_name(spec, "model")
    seconds = {
        length: sum(cell.fitted.seconds for cell in found.values()) / len(found)
        for length, found in of.items()
    }
    prices = {length: training_cost(taken, profile) for length, taken in seconds.items()}
    replays = _replays(spec, span, of, matrices, policies, prices, cache, tell)
    days = next(iter(matrices.values())).days
    split = days[len(days) // 2]
    usual = next(iter(prices))
    budget = default_budget(replays, split) if options.budget is None else options.budget
    chosen, results = results_of(policies, replays, matrices, split, budget)
    return BacktestSummary(
        use_case=spec.name,
        first=first,
        split=split,
        end=span.window.end,
        every_days=options.every_days,
        models=len(cells),
        budget=budget,
        price_per_training=prices[usual],
        currency=price_of(profile).currency,
        training_seconds=seconds[usual],
        source=source,
        weeks=week_starts(days),
        chosen=chosen,
        beats_baselines=beats_baselines(chosen, results),
        policies=results,
    )


def _replays(
    spec: UseCaseSpec,
    span: "Span",
    of: "dict[int | None, dict[Window, Cell]]",
    matrices: "dict[int | None, LossMatrix]",
    policies: "Sequence[Candidate]",
    prices: dict[int | None, float],
    cache: Cache,
    tell: OnStep,
) -> "dict[str, Replay]":
    from mlops_assets.adapters.prices import price_of
    from mlops_assets.core.replay import replay
    from mlops_assets.core.retraining import policy
    from mlops_assets.core.retraining_records import Costs
    from mlops_assets.lifecycle.backtest.gate import gate
    from mlops_assets.lifecycle.backtest.signals import labels_of, watch

    labels = labels_of(span)
    watches = {length: watch(spec, span, cells, labels) for length, cells in of.items()}
    gates = {length: gate(spec, span, cells, cache) for length, cells in of.items()}
    found: dict[str, Replay] = {}
    for n, candidate in enumerate(policies):
        tell("policies", n, len(policies))
        length = candidate.retraining.window_days
        matrix = matrices[length]
        found[candidate.name] = replay(
            policy(candidate.retraining),
            matrix.days,
            watches[length](candidate),
            matrix.loss_of,
            first=matrix.trained_until[0],
            costs=Costs(
                price_per_training=prices[length],
                currency=price_of(profile_name(spec, "model")).currency,
                budget_per_month=candidate.retraining.budget_per_month,
            ),
            rows=matrix.rows,
            timezone=spec.timezone,
            window_end=lambda day, matrix=matrix: matrix.newest(
                max(labels.until(day) or matrix.trained_until[0], matrix.trained_until[0])
            ),
            promotes=gates[length],
        )
    tell("policies", len(policies), len(policies))
    return found
