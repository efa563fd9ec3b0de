"""The rollout to look at: where it is, what each guard says, what was decided, and the plot."""

from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.spec import UseCaseSpec
from mlops_assets.lifecycle.assets import asset_key, common, placed
from mlops_assets.lifecycle.platform import Platform
from mlops_assets.lifecycle.rollout.paired import ROLLOUT_EVIDENCE

if TYPE_CHECKING:
    from mlops_assets.adapters.ledger import Book
    from mlops_assets.core.promotion_ledger import Decided

ROLLOUT = "rollout"


def rollout_asset(spec: UseCaseSpec) -> dg.AssetsDefinition:
    """The asset that shows the use case's rollout as the ledger has it."""

    @dg.asset(
        **common(
            spec,
            ROLLOUT,
            "The challenger's way to champion: shadow, canary, watch, decided by the sensor "
            f"{spec.name}_rollout and kept in the promotion ledger.",
            ["python"],
        ),
        **placed(spec, ROLLOUT),
        deps=[asset_key(spec, name) for name in ("promotion", "endpoint", ROLLOUT_EVIDENCE)],
        metadata={"policy": dg.MetadataValue.json(spec.rollout.model_dump(mode="json"))},
    )
    def _rollout(platform: Platform) -> "dg.MaterializeResult[object]":
        from mlops_assets.adapters import ledger

        book = ledger.book(platform.ledgers(), spec.name)
        return dg.MaterializeResult(value=None, metadata=_metadata(book))

    return _rollout


def decisions_of(book: "Book", rollout_id: str | None = None) -> "list[Decided]":
    """The decisions about a rollout, by default the newest one, in the order of recording."""
    from mlops_assets.core.promotion_ledger import Begun, Decided

    ids = [one.rollout.rollout_id for one in book.records if isinstance(one, Begun)]
    wanted = rollout_id or (ids[-1] if ids else "")
    decided = (one for one in book.records if isinstance(one, Decided))
    return [one for one in decided if one.decision.rollout_id == wanted]


def _metadata(book: "Book") -> dict[str, dg.MetadataValue | str | int | float]:
    from mlops_assets.adapters.figures import markdown_image
    from mlops_assets.adapters.rollout_plot import rollout_plot
    from mlops_assets.core.rollout_text import guards_markdown, history_markdown, serving

    decided = [one.decision for one in decisions_of(book)]
    under_way = book.state.under_way
    found: dict[str, dg.MetadataValue | str | int | float] = {
        "serves": serving(book.state.wanted),
        "stage": under_way.rollout.stage if under_way else "none",
        "share": under_way.rollout.share if under_way else 0.0,
        "entries": book.state.entries,
        "history": dg.MetadataValue.md(history_markdown(book.records)),
    }
    if not decided:
        return found
    last = decided[-1]
    return found | {
        "rollout": last.rollout_id,
        "decision": last.action,
        "decided_at": last.decided_at.isoformat(),
        "overdue": str(last.overdue),
        "requests": last.requests,
        "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in last.reasons)),
        "guards": dg.MetadataValue.md(guards_markdown(last.guards)),
        "plot": dg.MetadataValue.md(markdown_image(rollout_plot(decided), "confidence sequences")),
    }
