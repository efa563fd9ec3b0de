"""Whether the gate would have let a model of the backtest take over from another."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_assets.adapters.backtest_cache import Cache, key_of
from mlops_assets.core.spec import LABEL, UseCaseSpec
from mlops_assets.core.windows import Window
from mlops_assets.lifecycle.backtest.matrix import Cell, model_of, scores
from mlops_assets.lifecycle.backtest.rows import Span, training_rows
from mlops_assets.lifecycle.training_set import DAY, PART

if TYPE_CHECKING:
    from datetime import date

    from mlops_assets.core.inference import Model
    from mlops_assets.core.replay import Promotes


def gate(spec: UseCaseSpec, span: Span, cells: Mapping[Window, Cell], cache: Cache) -> "Promotes":
    """The gate between models of ``cells`` (whose windows end on different days), as a live
    promotion applies it: on the challenger's holdout, and only a pass promotes.
    """
    by_end = {window.end: window for window in cells}

    @functools.lru_cache(maxsize=8)
    def model(end: "date") -> "Model":
        cell = cells[by_end[end]]
        return model_of(cell.key, cell.fitted, cache)

    @functools.cache
    def promotes(champion: "date", challenger: "date") -> bool:
        if champion == challenger:
            return False
        of = [cells[by_end[end]].key for end in (champion, challenger)]
        depends_on = {
            "models": of,
            "gate": spec.gate.model_dump(mode="json"),
            "samples": spec.evaluation.bootstrap_samples,
        }
        key = key_of("verdict", depends_on)
        verdict = cache.get(key)
        if verdict is None:
            verdict = _verdict(challenger, model(champion), model(challenger)).encode()
            cache.put(key, verdict)
        return verdict == b"pass"

    def _verdict(end: "date", champion: "Model", challenger: "Model") -> str:
        import polars as pl

        from mlops_assets.core.gate import judge
        from mlops_assets.core.metrics import base_rate_scores

        frame = training_rows(spec, span, by_end[end])
        holdout = frame.filter(pl.col(PART) == "holdout")
        seen = frame.filter(pl.col(PART) != "holdout")
        verdict, _ = judge(
            spec.gate,
            holdout[LABEL].to_numpy(),
            holdout[DAY].to_list(),
            challenger=scores(challenger, holdout),
            base_rate=base_rate_scores(seen[LABEL].to_numpy(), holdout.height),
            champion=scores(champion, holdout),
            samples=spec.evaluation.bootstrap_samples,
            seed=spec.model.seed,
        )
        return verdict

    return promotes
