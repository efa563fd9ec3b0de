"""What one stage tells the next: small frozen documents, stored as JSON."""

from datetime import date, datetime
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mlops_assets.core.spec import FeatureType

Verdict = Literal["pass", "fail", "inconclusive"]


class Record(BaseModel):
    """An immutable document; unknown fields are refused so that a foreign one is noticed, and
    NaN and infinities because JSON has none: they would be read as nulls.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FeatureField(Record):
    """One model input. ``categories`` are in code order: code n is categories[n]."""

    name: str
    type: FeatureType
    categories: tuple[str, ...] = ()


class Signature(Record):
    """A model's inputs in order, and the name of its output (a probability)."""

    inputs: tuple[FeatureField, ...]
    output: str

    @cached_property
    def codes(self) -> tuple[tuple[str, dict[str, int] | None], ...]:
        """Each input's name, with the code of each category (its place); None for a number."""
        return tuple(
            (
                field.name,
                {category: code for code, category in enumerate(field.categories)}
                if field.type == "category"
                else None,
            )
            for field in self.inputs
        )


class TrainingSetRecord(Record):
    """A frozen training set: ``digest`` identifies its content and names its table partition."""

    use_case: str
    digest: str
    first: date
    validation_first: date
    holdout_first: date
    end: date
    rows: int
    positives: int
    unlabelled: int
    table_versions: dict[str, int]
    """Delta version of each table that it was computed from, by table name."""


class ModelRecord(Record):
    """A registered model version."""

    use_case: str
    version: int
    sha256: str
    artifact: str
    """URL or path of the model file (UBJSON), which holds its signature."""
    mlflow_run_id: str
    training_set: TrainingSetRecord
    rounds: int
    """Boosting rounds kept, early stopping applied."""
    unchanged: bool
    """Whether the same bytes were registered before."""
    onnx: str | None = None
    """URL or path of its export, where there is one: a model that has no tables of bits answers
    small requests with it."""
    onnx_sha256: str | None = None
    onnx_note: str = ""
    """How far the export's probabilities are from XGBoost's, or why there is none."""


class Metrics(Record):
    """Quality of probabilities against outcomes (see core.metrics for the formulas)."""

    rows: int
    log_loss: float
    roc_auc: float
    brier: float
    ece: float
    base_rate: float
    """Share of positives."""


class RuleResult(Record):
    """One gate rule, judged. ``low`` and ``high`` bound ``value`` at the gate's confidence."""

    rule: str
    value: float
    low: float
    high: float
    verdict: Verdict
    reason: str


class EvaluationRecord(Record):
    """A challenger on the holdout, against the base rate and the champion on the same rows."""

    use_case: str
    model: ModelRecord
    champion_version: int | None
    challenger: Metrics
    base_rate: Metrics
    champion: Metrics | None
    verdict: Verdict
    rules: tuple[RuleResult, ...]
    report: str
    """Path or URL of the HTML report."""


class PromotionRecord(Record):
    """A decision about a challenger, as written to the ledger."""

    use_case: str
    version: int
    sha256: str
    decision: Literal["promoted", "admitted", "refused", "held"]
    reasons: tuple[str, ...]
    previous_version: int | None
    champion: ModelRecord | None
    """The champion after this decision, if there is one."""
    evaluation_digest: str
    decided_at: datetime
    dagster_run_id: str
