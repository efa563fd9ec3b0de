"""Promotion: which decision an evaluation leads to, and that it can be taken twice."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.promotion import decide, evaluation_digest
from mlops_assets.core.records import (
    EvaluationRecord,
    Metrics,
    ModelRecord,
    RuleResult,
    TrainingSetRecord,
    Verdict,
)

NOW = datetime(2013, 4, 1, 12, tzinfo=UTC)


def _model(version: int, use_case: str = "flight_delays") -> ModelRecord:
    training_set = TrainingSetRecord(
        use_case=use_case,
        digest="d" * 64,
        first=date(2013, 1, 1),
        validation_first=date(2013, 2, 1),
        holdout_first=date(2013, 2, 8),
        end=date(2013, 2, 22),
        rows=1000,
        positives=200,
        unlabelled=10,
        table_versions={"flights": 1},
    )
    return ModelRecord(
        use_case=use_case,
        version=version,
        sha256=f"{version:064d}",
        artifact=f"models/{version}.ubj",
        mlflow_run_id="run",
        training_set=training_set,
        rounds=100,
        unchanged=False,
    )


def _evaluation(
    verdict: Verdict = "pass", version: int = 4, champion_version: int | None = 3
) -> EvaluationRecord:
    numbers = Metrics(rows=100, log_loss=0.4, roc_auc=0.7, brier=0.2, ece=0.02, base_rate=0.2)
    rules = [
        RuleResult(
            rule=rule, value=0.1, low=0.0, high=0.2, verdict=judged, reason=f"because {rule}"
        )
        for rule, judged in (("one", "pass"), ("two", verdict))
    ]
    return EvaluationRecord(
        use_case="flight_delays",
        model=_model(version),
        champion_version=champion_version,
        challenger=numbers,
        base_rate=numbers,
        champion=None if champion_version is None else numbers,
        verdict=verdict,
        rules=tuple(rules),
        report="report.html",
    )


@pytest.mark.parametrize(
    ("verdict", "decision", "champion"),
    [("pass", "promoted", 4), ("fail", "refused", 3), ("inconclusive", "held", 3)],
)
def test_the_verdict_decides(verdict: Verdict, decision: str, champion: int) -> None:
    """A pass replaces the champion, anything else leaves it."""
    found = decide(_evaluation(verdict), _model(3), NOW, "dagster-run")
    assert (found.decision, found.version, found.previous_version) == (decision, 4, 3)
    assert found.champion == _model(champion)
    assert (found.decided_at, found.dagster_run_id) == (NOW, "dagster-run")
    assert found.evaluation_digest == evaluation_digest(_evaluation(verdict))


def test_the_first_model_has_no_predecessor() -> None:
    """A pass without a champion promotes, a failure leaves none."""
    promoted = decide(_evaluation(champion_version=None), None, NOW, "run")
    assert (promoted.decision, promoted.previous_version) == ("promoted", None)
    refused = decide(_evaluation("fail", champion_version=None), None, NOW, "run")
    assert (refused.decision, refused.champion) == ("refused", None)


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize(
    ("against", "serving", "reason"),
    [
        (2, 3, "evaluated against version 2, version 3 serves now: evaluate again"),
        (None, 3, "evaluated without a champion, version 3 serves now: evaluate again"),
        (3, None, "evaluated against version 3, no champion serves now: evaluate again"),
    ],
)
def test_an_evaluation_against_another_champion_holds(
    verdict: Verdict, against: int | None, serving: int | None, reason: str
) -> None:
    """It compared with a model that serves no longer."""
    champion = None if serving is None else _model(serving)
    found = decide(_evaluation(verdict, champion_version=against), champion, NOW, "run")
    assert (found.decision, found.reasons, found.champion) == ("held", (reason,), champion)


def test_a_repeated_promotion_is_the_same_decision() -> None:
    """After the alias moved, the same evaluation leads to the same record but for time and run."""
    first = decide(_evaluation(), _model(3), NOW, "run")
    again = decide(_evaluation(), _model(4), NOW + timedelta(hours=1), "other run")
    assert again == first.model_copy(
        update={"decided_at": NOW + timedelta(hours=1), "dagster_run_id": "other run"}
    )


def test_the_champion_judged_against_itself_holds() -> None:
    """Training again on the same data gives the same model: nothing to promote."""
    found = decide(_evaluation(version=3), _model(3), NOW, "run")
    assert found.decision == "held"
    assert found.reasons == ("version 3 is the champion already: there is nothing to promote",)
    assert found.champion == _model(3)


def test_a_champion_that_failed_an_older_evaluation_stays() -> None:
    """A failed evaluation of a version that was promoted since cannot refuse the champion."""
    found = decide(_evaluation("fail"), _model(4), NOW, "run")
    assert (found.decision, found.champion) == ("held", _model(4))


def test_reasons_begin_with_the_rules_that_decided() -> None:
    """The verdict in a sentence, the failed rule, then the rest."""
    found = decide(_evaluation("fail"), _model(3), NOW, "run")
    assert found.reasons == (
        "the gate's verdict is fail: 1 of 2 rules failed",
        "two: fail, because two",
        "one: pass, because one",
    )


def test_the_digest_depends_on_the_evaluation_alone() -> None:
    """Equal evaluations have one digest, a different figure another."""
    evaluation = _evaluation()
    copy = EvaluationRecord.model_validate_json(evaluation.model_dump_json())
    assert evaluation_digest(copy) == evaluation_digest(evaluation)
    other = evaluation.model_copy(update={"report": "elsewhere.html"})
    assert evaluation_digest(other) != evaluation_digest(evaluation)


def test_the_time_is_kept_in_utc() -> None:
    """Whatever zone the caller's clock has; one without a zone is refused."""
    local = NOW.astimezone(timezone(timedelta(hours=-4)))
    assert decide(_evaluation(), _model(3), local, "run").decided_at.utcoffset() == timedelta(0)
    with pytest.raises(PermanentError, match="no time zone"):
        decide(_evaluation(), _model(3), NOW.replace(tzinfo=None), "run")


def test_a_champion_of_another_use_case_is_refused() -> None:
    """It would be an error of the caller, and no reason to hold."""
    with pytest.raises(PermanentError, match="the champion of churn"):
        decide(_evaluation(), _model(3, "churn"), NOW, "run")
