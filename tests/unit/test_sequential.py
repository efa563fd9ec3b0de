"""Sequential tests: they hold at any time of looking, and answer as mathematics says."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.sequential import excess_evidence, excess_interval, ratio_interval

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
MARGINS = st.floats(-0.9, 0.9)
unhurried = settings(deadline=None)


def sums_of(d: npt.ArrayLike, b: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], ...]:
    """Running sums over the last axis, as ``ratio_interval`` takes them."""
    d, b = np.asarray(d, np.float64), np.asarray(b, np.float64)
    parts = (np.ones_like(d), d, b, d * d, d * b, b * b)
    return tuple(np.cumsum(part, axis=-1) for part in parts)


def ever_outside(d: npt.NDArray[np.float64], b: npt.NDArray[np.float64], truth: float) -> float:
    """Share of the sequences (rows) in which an end is beyond the truth at any time: the larger
    of both ends'.
    """
    low, high = ratio_interval(*sums_of(d, b), alpha=0.05)
    return max(float(beyond.any(axis=1).mean()) for beyond in (low > truth, high < truth))


def test_ratios_of_normal_observations_are_inside_at_all_times() -> None:
    """2,000 sequences looked at after each of 200 observations: at most 5 % are ever outside."""
    random = np.random.default_rng(1)
    shape = (2000, 200)
    base = 2 + 0.1 * random.normal(size=shape)
    assert ever_outside(0.3 * base + random.normal(size=shape), base, 0.3) <= 0.05


def test_a_t_interval_looked_at_each_time_is_outside_far_more_often() -> None:
    """The same sequences, judged each time as if it were the only one."""
    random = np.random.default_rng(1)
    n, d, _, dd, _, _ = sums_of(random.normal(size=(2000, 200)), np.ones((2000, 200)))
    with np.errstate(all="ignore"):
        error = np.sqrt((dd / n - (d / n) ** 2) / (n - 1))
        outside = (np.abs(d / n) > 1.96 * error)[:, 9:].any(axis=1).mean()
    assert outside > 0.3


def test_observations_that_are_skewed_need_to_be_sums_of_many_rows() -> None:
    """Single waiting times are outside too often, as with any t test; sums of thirty are not."""
    random = np.random.default_rng(2)
    ones = np.ones((2000, 200))
    single = random.exponential(size=ones.shape)
    sums = random.gamma(30, size=ones.shape) / 30
    assert ever_outside(single, ones, 1.0) > 0.1
    assert ever_outside(sums, ones, 1.0) <= 0.05


def test_the_interval_is_where_the_bayes_factor_reaches_its_level() -> None:
    """At both ends the formula itself, written out, gives what makes one side's 1/alpha."""
    random = np.random.default_rng(3)
    base = 2 + random.uniform(size=20)
    d = 0.1 * base + 0.2 * random.normal(size=20)
    low, high = ratio_interval(*(sums[-1] for sums in sums_of(d, base)), alpha=0.05)
    for end in (float(low), float(high)):
        z = d - end * base
        n = len(z)
        t2 = n * z.mean() ** 2 / z.var(ddof=1)
        factor = (1 + n) ** -0.5 * ((1 + t2 / (n - 1)) / (1 + t2 / (n - 1) / (1 + n))) ** (n / 2)
        assert factor == pytest.approx((20 + 1) / 2, rel=1e-6)


def test_few_observations_have_no_bounds() -> None:
    """Nothing is known about a variance from one observation, nor from three at this level."""
    for n in (0, 1, 2, 3):
        ends = ratio_interval(n, 0.1 * n, n, 0.01 * n, 0.1 * n, n, 0.05)
        assert [float(end) for end in ends] == [-math.inf, math.inf]


def test_no_base_has_no_ratio() -> None:
    """A champion without any loss cannot be compared with relatively."""
    ends = ratio_interval(50, 5, 0, 1, 0, 0, 0.05)
    assert [float(end) for end in ends] == [-math.inf, math.inf]


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.5, 2)), min_size=2, max_size=60),
    st.floats(0.001, 0.5),
)
def test_a_ratio_is_inside_its_own_interval(rows: list[tuple[float, float]], alpha: float) -> None:
    """And a stricter level gives a wider one."""
    sums = [part[-1] for part in sums_of([d for d, _ in rows], [b for _, b in rows])]
    low, high = (float(end) for end in ratio_interval(*sums, alpha=alpha))
    ratio = sums[1] / sums[2]
    assert low <= ratio + 1e-6
    assert high >= ratio - 1e-6
    wider = [float(end) for end in ratio_interval(*sums, alpha=alpha / 2)]
    assert wider[0] <= low + 1e-9
    assert wider[1] >= high - 1e-9


def test_equal_shares_are_refused_by_chance_alone() -> None:
    """2,000 pairs of sequences, looked at after each of 300 requests, at the hypothesis's edge."""
    random = np.random.default_rng(4)
    shape = (2000, 300)
    ours = random.binomial(1, 0.06, size=shape).cumsum(axis=1)
    theirs = random.binomial(1, 0.05, size=shape).cumsum(axis=1)
    n = np.arange(1, 301)
    refused = excess_evidence(ours, n, theirs, n, 0.01) >= math.log(20)
    assert refused.any(axis=1).mean() <= 0.05


def test_one_that_fails_always_is_known_within_ten_requests() -> None:
    """Power where it matters: no minimum of requests stands in the way of an abort."""
    assert float(excess_evidence(10, 10, 0, 10, 0.005)) > math.log(80)


@unhurried
@given(COUNTS, COUNTS, MARGINS)
def test_more_hits_are_more_evidence(
    ours: tuple[int, int], theirs: tuple[int, int], margin: float
) -> None:
    """One more hit of ours, or one less of theirs, never weakens evidence of an excess."""
    (n1, k1), (n0, k0) = ours, theirs
    found = float(excess_evidence(k1, n1, k0, n0, margin))
    if found >= 0:
        assert float(excess_evidence(min(k1 + 1, n1), n1, k0, n0, margin)) >= found - 1e-6
        assert float(excess_evidence(k1, n1, max(k0 - 1, 0), n0, margin)) >= found - 1e-6


@unhurried
@given(COUNTS, COUNTS, MARGINS)
def test_a_smaller_margin_is_exceeded_more_surely(
    ours: tuple[int, int], theirs: tuple[int, int], margin: float
) -> None:
    """Evidence falls as the hypothesis allows more; without an excess there is none."""
    (n1, k1), (n0, k0) = ours, theirs
    found = float(excess_evidence(k1, n1, k0, n0, margin))
    more = float(excess_evidence(k1, n1, k0, n0, min(margin + 0.05, 0.95)))
    assert more <= found + 1e-6 or found == -math.inf == more
    if k1 / n1 - k0 / n0 <= margin:
        assert found == -math.inf


@unhurried
@given(COUNTS, COUNTS)
def test_the_interval_of_an_excess_is_what_evidence_does_not_refuse(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    """It holds the excess that was seen, and just outside of it the evidence is enough."""
    (n1, k1), (n0, k0) = ours, theirs
    low, high = excess_interval(k1, n1, k0, n0, 0.05)
    assert -1 <= low <= k1 / n1 - k0 / n0 <= high <= 1
    if low > -1:
        assert float(excess_evidence(k1, n1, k0, n0, low)) >= math.log(20) - 1e-6
    if high < 1:
        assert float(excess_evidence(k0, n0, k1, n1, -high)) >= math.log(20) - 1e-6


def test_the_least_evidence_is_the_least() -> None:
    """No pair of shares that differ by the margin has less, up to rounding."""
    random = np.random.default_rng(5)
    for k1, n1, k0, n0, margin in [(30, 100, 5, 90, 0.05), (0, 50, 40, 60, -0.9), (3, 3, 0, 9, 0)]:
        least = float(excess_evidence(k1, n1, k0, n0, margin))
        for other in random.uniform(max(0, -margin), min(1, 1 - margin), size=200):
            likelihoods = sum(
                math.lgamma(k + 0.5)
                + math.lgamma(n - k + 0.5)
                - math.lgamma(n + 1)
                - math.log(math.pi)
                - k * math.log(p)
                - (n - k) * math.log(1 - p)
                for k, n, p in ((k1, n1, other + margin), (k0, n0, other))
            )
            assert likelihoods >= least - 1e-9


def test_no_requests_say_nothing() -> None:
    """Neither side's."""
    assert excess_interval(0, 0, 5, 10, 0.05) == (-1.0, 1.0)
    assert excess_interval(5, 10, 0, 0, 0.05) == (-1.0, 1.0)
    assert float(excess_evidence(0, 0, 5, 10, -0.5)) == -math.inf
