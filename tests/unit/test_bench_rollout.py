"""The simulation of rollouts decides as rollouts do."""

from datetime import UTC, datetime, timedelta

import numpy as np

from bench import _rollout_counts as counts
from bench import _rollout_paired as paired
from bench._rollout_paired import NEVER
from bench._rollout_scores import Pool, tempered
from mlops_assets.core.rollout_guards import verdicts
from mlops_assets.core.rollout_records import CountBlock, Evidence, PairedBlock
from mlops_assets.core.rollout_spec import (
    ErrorGuardSpec,
    QualityGuardSpec,
    RolloutSpec,
    ScoreGuardSpec,
)

START = datetime(2013, 3, 1, tzinfo=UTC)
SPEC = RolloutSpec(strategy="guarded")


def pool_of(rows: int = 20_000, days: int = 30) -> Pool:
    """Made-up requests whose challengers are better and worse than the champion."""
    random = np.random.default_rng(1)
    truth = 1 / (1 + np.exp(-random.normal(size=rows)))
    label = (random.uniform(size=rows) < truth).astype(np.float64)
    champion = 0.7 * truth + 0.15
    day = np.sort(random.integers(days, size=rows))
    day[-1] = days - 1
    challengers = {
        "better": truth,
        "equal": tempered(label, champion, truth, 0.0),
        "worse": tempered(label, champion, truth, 0.05),
        "inverted": 1 - truth,
    }
    return Pool(day, random.integers(24, size=rows), label, champion, challengers)


def test_challengers_are_as_good_as_they_should_be() -> None:
    """Over all requests, to the last digits; and the inverted one is far away."""
    pool = pool_of()
    assert abs(pool.difference("equal")) < 1e-9
    assert abs(pool.difference("worse") - 0.05) < 1e-9
    assert pool.disagreement("inverted") > 0.9
    assert pool.disagreement("equal") < 0.1


def _said(guard: str, evidence: Evidence, now: datetime) -> str:
    return {each.guard: each.verdict for each in verdicts(SPEC, evidence, now)}[guard]


def _first(said: list[str], verdict: str) -> int:
    return said.index(verdict) if verdict in said else NEVER


def test_paired_simulations_decide_as_the_guards_do() -> None:
    """Block by block, for both guards and kinds of traffic."""
    pool = pool_of()
    names = list(pool.challengers)
    checked = 0
    for guard, spec, hours, traffic in (
        ("quality", QualityGuardSpec(), 24, paired.traffic(pool, names, "days", (2, 12), 3)),
        ("quality", QualityGuardSpec(), 24, paired.traffic(pool, names, "requests", (2, 12), 3)),
        ("scores", ScoreGuardSpec(), 1, paired.hours(pool, names, 1, 2, 3)),
    ):
        for name in names:
            found = paired.guarded(traffic[name], SPEC, spec)
            for n, simulation in enumerate(traffic[name]):
                blocks = [
                    PairedBlock(
                        start=START + timedelta(hours=hours * k),
                        end=START + timedelta(hours=hours * (k + 1)),
                        requests=int(block[0]),
                        rows=int(block[0]),
                        d=block[1],
                        b=block[2],
                        dd=block[3],
                        db=block[4],
                        bb=block[5],
                    )
                    for k, block in enumerate(simulation)
                ]
                known = [tuple(blocks[: k + 1]) for k in range(len(blocks))]
                said = [
                    _said(
                        guard,
                        Evidence(quality=each) if guard == "quality" else Evidence(scores=each),
                        each[-1].end,
                    )
                    for each in known
                ]
                assert found.aborted[n] == _first(said, "abort")
                assert found.passed[n] == _first(said, "promote")
                checked += len({"abort", "promote"} & set(said))
    assert checked > 10


def test_counted_simulations_decide_as_the_guard_does() -> None:
    """Hour by hour."""
    spec = ErrorGuardSpec()
    ends: set[str] = set()
    for share in (0.001, 0.03):
        ours, theirs = counts.hits(share, 200, 3, 10, 1), counts.hits(0.001, 200, 3, 10, 2)
        found = counts.guarded(ours, theirs, 200, SPEC, spec)
        for n in range(3):
            blocks = [
                CountBlock(
                    start=START + timedelta(hours=k),
                    end=START + timedelta(hours=k + 1),
                    champion_requests=200,
                    champion_hits=int(theirs[n, k]),
                    challenger_requests=200,
                    challenger_hits=int(ours[n, k]),
                )
                for k in range(10)
            ]
            said = [
                _said("errors", Evidence(errors=tuple(blocks[: k + 1])), START) for k in range(10)
            ]
            assert found.aborted[n] == _first(said, "abort")
            assert found.passed[n] == _first(said, "promote")
            ends |= set(said)
    assert ends >= {"abort", "promote"}


def test_requests_until_a_decision_are_those_of_the_first() -> None:
    """An abort on day 3 and a pass on day 2: two days' requests; without both, none."""
    outcomes = paired.Outcomes(
        np.array([3, NEVER]), np.array([2, NEVER]), np.array([[10, 20, 30, 40]] * 2)
    )
    assert outcomes.decided().tolist() == [30, NEVER]
