"""The gate: its intervals, its verdicts, and its words."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.gate import judge
from mlops_assets.core.records import RuleResult
from mlops_assets.core.spec import GateRule, GateSpec


def _spec(*rules: dict[str, object], confidence: float = 0.95) -> GateSpec:
    return GateSpec(rules=[GateRule.model_validate(rule) for rule in rules], confidence=confidence)


class _Holdout:
    """Days with their own base rate, a good model and a blurred one."""

    def __init__(self, seed: int, days: int, rows_per_day: int) -> None:
        random = np.random.default_rng(seed)
        self.days = np.repeat(np.arange(days), rows_per_day)
        mood = random.normal(0, 0.5, days)[self.days]
        logit = random.normal(-1, 1, len(self.days)) + mood
        self.good = 1 / (1 + np.exp(-logit))
        self.labels = (random.uniform(size=len(self.days)) < self.good).astype(int)
        self.blurred = np.clip(self.good + random.normal(0, 0.15, len(self.days)), 0.01, 0.99)
        self.base_rate = np.full(len(self.days), 0.3)

    def judge(self, spec: GateSpec, challenger: np.ndarray, champion: np.ndarray | None = None):
        return judge(
            spec,
            self.labels,
            self.days,
            challenger=challenger,
            base_rate=self.base_rate,
            champion=champion,
            samples=300,
            seed=11,
        )

    def only(self, rule: dict[str, object], challenger, champion=None, **spec) -> RuleResult:
        (result,) = self.judge(_spec(rule, **spec), challenger, champion)[1]
        return result


HOLDOUT = _Holdout(0, 14, 200)
METRICS = ["log_loss", "brier", "ece", "roc_auc"]


@pytest.mark.parametrize(
    ("metric", "peer"),
    [("log_loss", log_loss), ("brier", brier_score_loss), ("roc_auc", roc_auc_score)],
)
def test_intervals_equal_those_from_copied_rows(metric: str, peer) -> None:
    """Sums per day give what copying each drawn day's rows gives, for the same draws."""
    holdout = _Holdout(4, 6, 25)
    scores = np.round(holdout.blurred, 1)  # Ties, within days and between them.
    champion = np.round(holdout.good, 1)
    found = holdout.only({"metric": metric, "against": "champion", "at_least": 0}, scores, champion)
    draws = np.random.default_rng(11).multinomial(6, np.full(6, 1 / 6), size=300)
    sign = 1 if metric == "roc_auc" else -1
    gains = []
    for counts in draws:
        rows = np.repeat(np.arange(len(holdout.days)), counts[holdout.days])
        labels = holdout.labels[rows]
        gains.append(sign * (peer(labels, scores[rows]) - peer(labels, champion[rows])))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))
    own = peer(holdout.labels, scores) - peer(holdout.labels, champion)
    assert found.value == pytest.approx(sign * own)


@pytest.mark.parametrize("metric", METRICS)
def test_a_challenger_equal_to_the_champion_gains_exactly_nothing(metric: str) -> None:
    """So that a rule of no loss at all passes for the same model."""
    rule = {"metric": metric, "against": "champion", "at_least": 0}
    found = HOLDOUT.only(rule, HOLDOUT.good, HOLDOUT.good.copy())
    assert (found.value, found.low, found.high, found.verdict) == (0, 0, 0, "pass")


@pytest.mark.parametrize("metric", METRICS)
def test_gains_change_sign_when_models_change_places(metric: str) -> None:
    """Better by so much one way is worse by as much the other way."""
    rule = {"metric": metric, "against": "champion", "at_least": 0}
    one = HOLDOUT.only(rule, HOLDOUT.good, HOLDOUT.blurred)
    other = HOLDOUT.only(rule, HOLDOUT.blurred, HOLDOUT.good)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_is_the_metric_of_the_whole_holdout(metric: str) -> None:
    """As core.metrics computes it, less the base rate's where a rule asks for the gain."""
    from mlops_assets.core.metrics import metrics

    own = getattr(metrics(HOLDOUT.labels, HOLDOUT.good), metric)
    base = getattr(metrics(HOLDOUT.labels, HOLDOUT.base_rate), metric)
    plain = HOLDOUT.only({"metric": metric, "at_least": 0}, HOLDOUT.good)
    gain = HOLDOUT.only({"metric": metric, "against": "base_rate", "at_least": 0}, HOLDOUT.good)
    assert plain.value == pytest.approx(own)
    assert gain.value == pytest.approx(own - 0.5 if metric == "roc_auc" else base - own)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random) -> None:
    """Rows may come in any order; only which day they are of counts."""
    holdout = _Holdout(2, 6, 20)
    spec = _spec(*({"metric": metric, "at_most": 0.5} for metric in METRICS))
    order = list(range(len(holdout.days)))
    random.shuffle(order)
    _, before = holdout.judge(spec, holdout.good)
    for name in ("labels", "days", "good", "base_rate"):
        setattr(holdout, name, getattr(holdout, name)[order])
    _, after = holdout.judge(spec, holdout.good)
    for one, other in zip(before, after, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@pytest.mark.parametrize("metric", ["log_loss", "brier", "roc_auc"])
def test_more_days_narrow_the_interval(metric: str) -> None:
    """Sixteen times the days, about a quarter of the width."""
    rule = {"metric": metric, "at_least": 0}
    widths = []
    for days in (10, 160):
        holdout = _Holdout(5, days, 50)
        found = holdout.only(rule, holdout.good)
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """With days that differ, where an interval from resampled rows would be far too narrow."""
    truth = _Holdout(99, 4000, 50)
    expected = float(((truth.base_rate - truth.labels) ** 2).mean())
    rule = {"metric": "brier", "at_least": 0}
    covered = 0
    for seed in range(200):
        holdout = _Holdout(seed, 25, 50)
        found = holdout.only(rule, holdout.base_rate, confidence=0.9)
        covered += found.low <= expected <= found.high
    assert 0.8 <= covered / 200 <= 0.97


def test_a_calibrated_model_does_not_fail_a_bound_that_its_calibration_error_keeps() -> None:
    """Resamples of few rows have larger calibration errors than the holdout itself."""
    holdout = _Holdout(3, 6, 30)
    value = holdout.only({"metric": "ece", "at_most": 1}, holdout.good).value
    found = holdout.only({"metric": "ece", "at_most": value * 1.001}, holdout.good, confidence=0.51)
    assert (found.low, found.verdict) == (value, "inconclusive")


def test_the_same_seed_gives_the_same_result() -> None:
    """A decision can be computed again, by an auditor too."""
    spec = _spec({"metric": "log_loss", "against": "base_rate", "at_least": 0.01})
    assert HOLDOUT.judge(spec, HOLDOUT.good) == HOLDOUT.judge(spec, HOLDOUT.good)


def test_days_may_be_dates() -> None:
    """Dates, their ISO text and numbers are the same days."""
    spec = _spec({"metric": "roc_auc", "at_least": 0.5})
    dates = [date(2013, 3, 1) + timedelta(days=int(day)) for day in HOLDOUT.days]
    results = [
        judge(
            spec,
            HOLDOUT.labels,
            days,
            challenger=HOLDOUT.good,
            base_rate=HOLDOUT.base_rate,
            champion=None,
            samples=100,
            seed=1,
        )
        for days in (HOLDOUT.days, dates, [day.isoformat() for day in dates])
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"at_least": 0.01}, "pass"),
        ({"at_least": 0.9}, "fail"),
        ({"at_most": 0.9}, "pass"),
        ({"at_most": 0.01}, "fail"),
        ({"at_least": 0.01, "at_most": 0.9}, "pass"),
        ({"at_least": 0.8, "at_most": 0.9}, "fail"),
    ],
)
def test_a_rule_without_reference_bounds_the_metric(bounds: dict[str, float], verdict: str) -> None:
    """The whole interval within passes, the whole interval outside fails."""
    assert HOLDOUT.only({"metric": "log_loss", **bounds}, HOLDOUT.good).verdict == verdict


@pytest.mark.parametrize("bound", ["at_least", "at_most"])
def test_a_bound_inside_the_interval_is_inconclusive(bound: str) -> None:
    """Neither luck nor bad luck decides; the reason gives the interval."""
    value = HOLDOUT.only({"metric": "brier", "at_least": 0}, HOLDOUT.good).value
    found = HOLDOUT.only({"metric": "brier", bound: value}, HOLDOUT.good)
    assert found.verdict == "inconclusive"
    assert "lies on both sides" in found.reason


@pytest.mark.parametrize(
    ("least", "verdict"),
    [((0.0, 0.0), "pass"), ((0.0, 9.0), "fail"), ((0.0, None), "inconclusive")],
)
def test_the_gate_is_as_good_as_its_worst_rule(
    least: tuple[float, float | None], verdict: str
) -> None:
    """One failure fails; else one doubt makes it inconclusive; None stands for a doubtful bound."""
    gain = {"metric": "log_loss", "against": "base_rate"}
    doubtful = HOLDOUT.only({**gain, "at_least": 0}, HOLDOUT.good).value
    rules = [{**gain, "at_least": doubtful if bound is None else bound} for bound in least]
    found, results = HOLDOUT.judge(_spec(*rules), HOLDOUT.good)
    assert found == verdict
    assert [result.verdict for result in results] == ["pass", verdict]
    both = _spec(*rules, {**gain, "at_least": 9.0})
    assert HOLDOUT.judge(both, HOLDOUT.good)[0] == "fail"


def test_rules_against_a_champion_pass_without_one() -> None:
    """The first model has none to beat, and is judged by its other rules."""
    spec = _spec(
        {"metric": "log_loss", "against": "champion", "at_least": 0},
        {"metric": "log_loss", "against": "base_rate", "at_least": 9},
    )
    verdict, (champion, base) = HOLDOUT.judge(spec, HOLDOUT.good)
    assert champion.verdict == "pass"
    assert champion.reason == "there is no other champion to compare with"
    assert (base.verdict, verdict) == ("fail", "fail")


def test_fewer_than_five_days_are_inconclusive() -> None:
    """However clear the numbers of four days look."""
    few, enough = _Holdout(1, 4, 300), _Holdout(1, 5, 300)
    rule = {"metric": "log_loss", "at_most": 5}
    found = few.only(rule, few.good)
    assert found.verdict == "inconclusive"
    assert "fewer than 5 days" in found.reason
    assert enough.only(rule, enough.good).verdict == "pass"


def test_positives_on_one_day_alone_are_inconclusive_for_the_ranking() -> None:
    """A third of the resamples of five days leaves that day out."""
    labels = np.zeros(50, dtype=int)
    labels[:5] = 1
    (found,) = judge(
        _spec({"metric": "roc_auc", "at_least": 0}),
        labels,
        np.repeat(np.arange(5), 10),
        challenger=np.linspace(0.9, 0.1, 50),
        base_rate=np.full(50, 0.1),
        champion=None,
        samples=500,
        seed=0,
    )[1]
    assert found.verdict == "inconclusive"
    assert "of the resamples have one class only" in found.reason


def test_reasons_tell_a_person_the_numbers() -> None:
    """What is measured, how sure, over how many days, and what is asked for."""
    rule = {"metric": "log_loss", "against": "base_rate", "at_least": 0.01}
    found = HOLDOUT.only(rule, HOLDOUT.good)
    assert found.rule == "log_loss against base_rate at least 0.01"
    assert found.reason == (
        f"the gain in log_loss over the base rate is {found.value:.4g} "
        f"(95% interval {found.low:.4g} to {found.high:.4g} over 14 days); "
        "at least 0.01 is asked for: the whole interval keeps it"
    )


def test_bad_input_is_refused() -> None:
    """Days of another length, one class, scores that are none."""
    rule = _spec({"metric": "roc_auc", "at_least": 0})

    def judged(labels, days, scores):
        return judge(
            rule,
            labels,
            days,
            challenger=scores,
            base_rate=np.full(len(labels), 0.5),
            champion=None,
            samples=100,
            seed=0,
        )

    with pytest.raises(PermanentError, match="1 days and 2 labels"):
        judged([0, 1], [1], [0.1, 0.2])
    with pytest.raises(PermanentError, match="one class only"):
        judged([1, 1], [1, 2], [0.1, 0.2])
    with pytest.raises(PermanentError, match="score of row 1 is nan"):
        judged([0, 1], [1, 2], [0.1, np.nan])
