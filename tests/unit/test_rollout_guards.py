"""The guards of a rollout: what each says on which evidence."""

from datetime import timedelta

import pytest
from rollout_evidence_support import GOOD, LONG, SPEC, START, begun, compared, counted, verdict_of

from mlops_assets.core.rollout import decide
from mlops_assets.core.rollout_guards import since_weights, verdicts
from mlops_assets.core.rollout_records import (
    Evidence,
)
from mlops_assets.core.rollout_spec import RolloutSpec


def test_without_evidence_no_guard_says_anything() -> None:
    """And nothing but the time passes."""
    decision = decide(SPEC, begun(), Evidence(), LONG)
    assert {each.verdict for each in decision.guards} == {"insufficient"}
    assert [each.value for each in decision.guards] == [None] * 4
    assert decision.action == "wait"


def test_a_good_challenger_passes_all_guards() -> None:
    """With numbers that say how good."""
    found = verdicts(SPEC, GOOD, LONG)
    assert [each.verdict for each in found] == ["promote"] * 4
    quality = found[0]
    assert quality.value is not None
    assert quality.high is not None
    assert quality.value < quality.high < 0.01
    assert (quality.rows, quality.units) == (14_000, 14)
    assert quality.reason.startswith("quality: log-loss is -")


def test_a_worse_challenger_is_aborted_by_quality() -> None:
    """Surely worse than the champion, if only by three per cent."""
    evidence = Evidence(quality=compared(0.03, 30, spread=0.01))
    assert verdict_of("quality", evidence) == "abort"


def test_one_observation_is_a_day_by_default() -> None:
    """Days that differ among themselves are not outvoted by their many requests."""
    days = Evidence(quality=compared(0.03, 5, rows=5000, spread=0.05, seed=5))
    by_request = SPEC.model_copy(
        update={"quality": SPEC.quality and SPEC.quality.model_copy(update={"unit": "request"})}
    )
    assert verdict_of("quality", days) == "insufficient"
    assert verdict_of("quality", days, by_request) == "abort"


def test_a_day_counts_once_it_is_over_and_labelled() -> None:
    """Early labels are not like late ones; the places of days that wait stay theirs."""
    evidence = Evidence(quality=compared(-0.02, 14, rows=800, requests=1000))
    assert verdict_of("quality", evidence) == "insufficient"
    waiting = verdicts(SPEC, evidence, LONG)[0]
    assert "14 blocks wait for their end or for labels" in waiting.reason
    labelled = Evidence(quality=compared(-0.02, 14, rows=950, requests=1000))
    assert verdict_of("quality", labelled) == "promote"
    today = verdicts(SPEC, labelled, START + timedelta(days=3, hours=5))[0]
    assert today.units == 3


def test_a_broken_model_is_aborted_by_its_scores() -> None:
    """Within one hour, long before labels."""
    evidence = Evidence(scores=compared(0.8, 1, hours=1, rows=300))
    found = verdicts(SPEC, evidence, START + timedelta(minutes=20))
    assert found[1].verdict == "abort"


def test_few_scores_say_nothing() -> None:
    """However far they diverge: the bound needs many rows to hold."""
    evidence = Evidence(scores=compared(0.8, 1, hours=1, rows=90))
    assert verdict_of("scores", evidence) == "insufficient"


def test_failures_abort_within_few_requests() -> None:
    """Of 20 requests the challenger fails 12, the champion none."""
    assert verdict_of("errors", Evidence(errors=counted([12], [0], 20))) == "abort"


def test_failures_of_both_are_nobodys() -> None:
    """An outage that hits both models alike says nothing about the challenger."""
    evidence = Evidence(errors=counted([50] * 5, [50] * 5, 100))
    assert verdict_of("errors", evidence) != "abort"


def test_a_good_week_is_no_credit_for_a_bad_hour() -> None:
    """Two hundred thousand good requests, then every fifth of a thousand fails."""
    hits = [0] * 200 + [200]
    evidence = Evidence(errors=counted(hits, [0] * 201, 1000))
    verdict = verdicts(SPEC, evidence, LONG)[2]
    assert verdict.verdict == "abort"
    assert verdict.value is not None
    assert verdict.value < 0.005
    assert "since 2013-03-09T08:00:00+00:00" in verdict.reason


def test_the_shares_of_the_error_add_up() -> None:
    """However many blocks there are, all tests together have the guard's error and no more."""
    assert since_weights(1000).sum() == pytest.approx(1 - 1 / 1001)


def test_low_traffic_does_not_abort() -> None:
    """One failure of three requests is no proof."""
    assert verdict_of("errors", Evidence(errors=counted([1], [0], 3))) == "insufficient"


def test_slow_requests_abort() -> None:
    """One in ten is slower than the champion's slowest in a hundred."""
    evidence = Evidence(latency=counted([50] * 2, [5] * 2, 500))
    assert verdict_of("latency", evidence) == "abort"


def test_a_guard_that_is_off_is_not_asked() -> None:
    """And the others share its part of the error."""
    spec = SPEC.model_copy(update={"quality": None, "latency": None})
    assert [each.guard for each in verdicts(spec, GOOD, LONG)] == ["scores", "errors"]


def test_a_guard_is_switched_off_by_null() -> None:
    """As YAML writes it."""
    assert RolloutSpec.model_validate({"latency": None}).latency is None
