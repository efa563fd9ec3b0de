"""The models of a backtest, each trained once and scored on every later day.

What is computed is kept by the digest of all that it depends on: a backtest that was killed goes on
where it was, and one with other days, policies or prices trains nothing again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from mlops_assets.adapters.backtest_cache import Cache, key_of
from mlops_assets.core.records import Record
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.backtest.rows import NIGHTS, Span, training_rows
from mlops_assets.lifecycle.training_set import DAY, PART

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from mlops_assets.core.backtest_records import FittedModel, ScoredDays
    from mlops_assets.core.inference import Model
    from mlops_assets.core.performance_days import DayStatistics
    from mlops_assets.core.replay import LossMatrix, Vector

    Chosen = npt.NDArray[np.bool_]

ANSWERED_AS = "champion"
"""The role that a live endpoint would have logged."""

Document = TypeVar("Document", bound=Record)

OnModel = Callable[[int, bool], None]
"""Told after each model: how many there are so far, and whether this one was trained just now."""


@dataclass(frozen=True)
class Cell:
    """A model of the matrix; ``key`` is that of its file in the cache."""

    key: str
    fitted: "FittedModel"
    scored: "ScoredDays"


def fill(
    spec: UseCaseSpec,
    span: Span,
    windows: Sequence[Window],
    cache: Cache,
    on_model: OnModel | None = None,
) -> dict[Window, Cell]:
    """Each window's model, trained and scored or taken from ``cache``.

    Raises PermanentError where a window cannot be trained on.
    """
    cells: dict[Window, Cell] = {}
    for window in windows:
        key = _fitted_key(spec, span, window)
        fitted = _known_model(cache, key)
        trained = fitted is None
        if fitted is None:
            fitted = _fit(spec, span, window, cache, key)
        cells[window] = Cell(key, fitted, _scored(spec, span, window, cache, key, fitted))
        if on_model is not None:
            on_model(len(cells), trained)
    return cells


def model_of(key: str, fitted: "FittedModel", cache: Cache) -> "Model":
    """The trained model; DigestMismatchError when its file in ``cache`` is another one."""
    from mlops_assets.core.inference import load_model

    return load_model(cache.get(_file(key)) or b"", fitted.sha256)


def scores(model: "Model", rows: "pl.DataFrame") -> "Vector":
    """The model's probability for each of ``rows``, of shape (rows,)."""
    import numpy as np

    from mlops_assets.core.inference import encode_frame, predict

    return predict(model, encode_frame(rows, model.signature)).astype(np.float64)


def losses(cells: Mapping[Window, Cell], first: date, end: date) -> "LossMatrix":
    """The loss of each model on each day from ``first`` to before ``end`` that has labels.

    The windows end on different days.
    """
    import numpy as np

    from mlops_assets.core.backtest_records import known_by
    from mlops_assets.core.replay import LossMatrix

    models = sorted(cells, key=lambda window: window.end)
    of = [known_by(cells[window].scored, date.max, first, end) for window in models]
    days = sorted({day for statistics in of for day in statistics})
    loss = np.full((len(models), len(days)), np.nan)
    rows = np.zeros(len(days))
    for m, statistics in enumerate(of):
        for d, day in enumerate(days):
            if day in statistics:
                loss[m, d] = statistics[day].log_loss / statistics[day].rows
                rows[d] = statistics[day].rows
    return LossMatrix(tuple(window.end for window in models), tuple(days), loss, rows)


def _fitted_key(spec: UseCaseSpec, span: Span, window: Window) -> str:
    from importlib import metadata

    return key_of(
        "fitted",
        {
            "window": [window.first.isoformat(), window.end.isoformat(), window.timezone],
            "parts": [spec.training_set.validation_days, spec.training_set.holdout_days],
            "rows": _digests(span, window.first, window.end),
            "features": list(spec.feature_types.items()),
            "label": spec.label.name,
            "model": spec.model.model_dump(mode="json"),
            "xgboost": metadata.version("xgboost"),
        },
    )


def _digests(span: Span, first: date, end: date) -> list[str]:
    return [span.digests[day] for day in sorted(span.digests) if first <= day < end]


def _file(key: str) -> str:
    return key.replace("fitted", "model", 1)


def _known_model(cache: Cache, key: str) -> "FittedModel | None":
    """The document of a model whose file is there too, and sound."""
    import hashlib

    from mlops_assets.core.backtest_records import FittedModel

    fitted, data = _document(cache, key, FittedModel), cache.get(_file(key))
    if fitted is None or data is None:
        return None
    return fitted if hashlib.sha256(data).hexdigest() == fitted.sha256 else None


def _document(cache: Cache, key: str, kind: "type[Document]") -> "Document | None":
    """The document ``key``; None for one of another release, which is then written again."""
    data = cache.get(key)
    try:
        return None if data is None else kind.model_validate_json(data)
    except ValueError:
        return None


def _fit(spec: UseCaseSpec, span: Span, window: Window, cache: Cache, key: str) -> "FittedModel":
    import time

    import polars as pl

    from mlops_assets.adapters.xgboost_engine import gain_shares, train
    from mlops_assets.core.backtest_records import VERSION, FittedModel, without_bins
    from mlops_assets.core.inference import load_model
    from mlops_assets.core.performance_days import reference_of

    frame = training_rows(spec, span, window)
    started = time.monotonic()
    trained = train(
        frame,
        spec.feature_types,
        label=LABEL,
        part=PART,
        spec=spec.model,
        output=spec.label.name,
    )
    seconds = time.monotonic() - started
    unseen = frame.filter(pl.col(PART) != "train")
    # What is known of a live model is known of its file.
    model = load_model(trained.data, trained.sha256)
    found = scores(model, unseen)
    reference = reference_of(
        unseen[DAY].to_list(), unseen[LABEL].to_numpy(), found, version=VERSION
    )
    fitted = FittedModel(
        first=window.first,
        end=window.end,
        sha256=trained.sha256,
        rows=frame.height,
        rounds=trained.rounds,
        seconds=seconds,
        importances=gain_shares(model.booster, model.signature),
        reference=reference.model_copy(
            update={
                "realized": without_bins(reference.realized),
                "estimated": without_bins(reference.estimated),
            }
        ),
    )
    # The document last: it says that the file is there.
    cache.put(_file(key), trained.data)
    cache.put(key, fitted.model_dump_json().encode())
    return fitted


def _scored(
    spec: UseCaseSpec,
    span: Span,
    window: Window,
    cache: Cache,
    fitted_key: str,
    fitted: "FittedModel",
) -> "ScoredDays":
    from mlops_assets.core.backtest_records import ScoredDays

    end = span.window.end
    depends_on = {
        "model": fitted.sha256,
        # The calibration that estimates rest on comes from the window's rows.
        "fitted": fitted_key,
        "days": [window.end.isoformat(), end.isoformat()],
        "rows": _digests(span, window.end, end),
    }
    key = key_of("scores", depends_on)
    known = _document(cache, key, ScoredDays)
    if known is not None:
        return known
    rows = span.between(window.end, end)
    if rows.is_empty():
        return ScoredDays(realized=(), estimated=())
    scored = _statistics(rows, scores(model_of(fitted_key, fitted, cache), rows), fitted)
    cache.put(key, scored.model_dump_json().encode())
    return scored


def _statistics(rows: "pl.DataFrame", found: "Vector", fitted: "FittedModel") -> "ScoredDays":
    import numpy as np

    from mlops_assets.core.backtest_records import VERSION, ScoredDays, without_bins
    from mlops_assets.core.performance_days import estimated_days, realized_days

    days = rows[DAY].to_numpy().astype("datetime64[D]")
    labels = rows[LABEL].fill_null(-1).to_numpy()
    nights = rows[NIGHTS].fill_null(-1).to_numpy()
    # An outcome that nobody ever knows is expected for ever.
    expected = np.where(labels >= 0, -1, nights)

    def realized(chosen: "Chosen") -> "Sequence[DayStatistics]":
        return realized_days(
            days[chosen], labels[chosen], found[chosen], versions=VERSION, roles=ANSWERED_AS
        )

    def estimated(chosen: "Chosen") -> "Sequence[DayStatistics]":
        return estimated_days(
            fitted.reference.calibration,
            days[chosen],
            found[chosen],
            version=VERSION,
            roles=ANSWERED_AS,
        )

    def by_night(
        statistics: "Callable[[Chosen], Sequence[DayStatistics]]", chosen: "Iterable[Chosen]"
    ) -> "tuple[tuple[DayStatistics, ...], ...]":
        return tuple(without_bins(statistics(each)) if each.any() else () for each in chosen)

    last = range(int(nights.max()) + 1)
    return ScoredDays(
        realized=by_night(realized, [(labels >= 0) & (nights == n) for n in last]),
        # What the first night tells is never estimated.
        estimated=by_night(
            estimated, [expected == -1, *(expected == n for n in range(1, len(last)))]
        ),
    )
