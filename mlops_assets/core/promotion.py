"""From an evaluation to the recorded decision about its challenger."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Literal

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import EvaluationRecord, ModelRecord, PromotionRecord, Verdict

Decision = Literal["promoted", "admitted", "refused", "held"]

_DECISIONS: dict[Verdict, Decision] = {
    "pass": "promoted",
    "fail": "refused",
    "inconclusive": "held",
}


def decide(
    evaluation: EvaluationRecord,
    champion: ModelRecord | None,
    now: datetime,
    dagster_run_id: str,
    *,
    guarded: bool = False,
) -> PromotionRecord:
    """What happens to the challenger of ``evaluation`` while ``champion`` serves.

    A pass promotes, a fail refuses, an inconclusive verdict holds. Where rollouts are ``guarded``,
    a pass against a champion admits the challenger to one, and the champion serves on until that
    has decided. An evaluation against another
    champion than the present one holds, whatever its verdict: its comparison is about a model that
    serves no longer.

    When the challenger is the champion already, an evaluation that passed before it became so gives
    the same decision as it did then, apart from the time and the run: a repeated run finds it in
    the ledger and adds nothing. An evaluation of the champion against itself holds.

    ``now`` has a time zone. Raises PermanentError for one without, and for a champion of another
    use case.
    """
    if now.tzinfo is None:
        raise PermanentError(f"the time of the decision, {now}, has no time zone: give one")
    model = evaluation.model
    if champion is not None and champion.use_case != evaluation.use_case:
        raise PermanentError(
            f"the evaluation is of {evaluation.use_case}, the champion of {champion.use_case}: "
            "give the champion of the same use case"
        )
    decision, reasons = _decision(evaluation, None if champion is None else champion.version)
    if decision == "promoted" and guarded and evaluation.champion_version is not None:
        decision = "admitted"
        reasons = (*reasons[:1], "a guarded rollout decides whether it serves", *reasons[1:])
    promoted = decision == "promoted"
    return PromotionRecord(
        use_case=evaluation.use_case,
        version=model.version,
        sha256=model.sha256,
        decision=decision,
        reasons=reasons,
        previous_version=evaluation.champion_version
        if decision in ("promoted", "admitted")
        else (None if champion is None else champion.version),
        champion=model if promoted else champion,
        evaluation_digest=evaluation_digest(evaluation),
        decided_at=now.astimezone(UTC),
        dagster_run_id=dagster_run_id,
    )


def _decision(
    evaluation: EvaluationRecord, serving: int | None
) -> tuple[Decision, tuple[str, ...]]:
    version, against = evaluation.model.version, evaluation.champion_version
    if version == against:
        return "held", (f"version {version} is the champion already: there is nothing to promote",)
    if serving not in (against, version) or (serving == version and evaluation.verdict != "pass"):
        evaluated = "without a champion" if against is None else f"against version {against}"
        serves = "no champion serves" if serving is None else f"version {serving} serves"
        return "held", (f"evaluated {evaluated}, {serves} now: evaluate again",)
    return _DECISIONS[evaluation.verdict], _reasons(evaluation)


def _reasons(evaluation: EvaluationRecord) -> tuple[str, ...]:
    """The verdict in a sentence, then each rule with its reason, those that decided it first."""
    rules = sorted(evaluation.rules, key=lambda rule: rule.verdict != evaluation.verdict)
    deciding = sum(rule.verdict == evaluation.verdict for rule in rules)
    words = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
    return (
        f"the gate's verdict is {evaluation.verdict}: {deciding} of {len(rules)} rules "
        f"{words[evaluation.verdict]}",
        *(f"{rule.rule}: {rule.verdict}, {rule.reason}" for rule in rules),
    )


def evaluation_digest(evaluation: EvaluationRecord) -> str:
    """SHA-256 (hexadecimal) of the evaluation's JSON with sorted keys and without spaces."""
    text = json.dumps(
        evaluation.model_dump(mode="json"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()
