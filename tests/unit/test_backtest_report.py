"""The table of policies, what is chosen from it, and the YAML that comes out."""

from datetime import date, timedelta

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.backtest_records import ScoredDays, known_by
from mlops_assets.core.backtest_report import (
    BacktestSummary,
    beats_baselines,
    default_budget,
    recommended_yaml,
    results_of,
    table_markdown,
    week_starts,
)
from mlops_assets.core.candidates import ANY_PSI, AS_CONFIGURED, NEVER, Candidate, candidates
from mlops_assets.core.performance_days import DayStatistics
from mlops_assets.core.replay import LossMatrix, Replay, next_day, replay
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import Costs, DriftSignal, Signals
from mlops_assets.core.retraining_spec import RetrainingSpec, problems

FIRST = date(2013, 3, 1)
COSTS = Costs(price_per_training=2.0, currency="USD")
CONFIGURED = RetrainingSpec.model_validate(
    {"policy": {"kind": "every", "days": 10}, "cooldown_days": 5, "budget_per_month": 50}
)


def matrix(seed: int = 1, n: int = 60) -> LossMatrix:
    """A model a day; the older one is on a day, the worse."""
    days = tuple(FIRST + timedelta(days=k) for k in range(n))
    age = np.arange(n)[None, :] - np.arange(n)[:, None]
    noise = np.random.default_rng(seed).normal(0, 0.02, (n, n))
    return LossMatrix(days, days, 0.4 + 0.01 * np.maximum(age, 0) + noise, np.full(n, 100.0))


def signals_of(day: date, trained_until: date, served_from: date) -> Signals:
    """Drift grows with the champion's age."""
    return Signals(
        use_case="visits",
        day=day,
        champion_version=1,
        trained_until=trained_until,
        drift=DriftSignal(weighted=max(0, (day - trained_until).days) / 20),
        labelled_until=next_day(day),
    )


def replays(
    chosen: tuple[Candidate, ...], found: LossMatrix, promotes: bool = True
) -> dict[str, Replay]:
    """Each policy over the matrix, behind a gate that lets all through, or none."""
    return {
        candidate.name: replay(
            policy(candidate.retraining),
            found.days,
            signals_of,
            found.loss_of,
            first=FIRST,
            costs=COSTS,
            rows=found.rows,
            window_end=lambda day: found.newest(next_day(day)),
            promotes=lambda _champion, _challenger: promotes,
        )
        for candidate in chosen
    }


@pytest.fixture(scope="module")
def table() -> tuple[Candidate, ...]:
    """The policies that need no performance, which these signals do not have."""
    return tuple(c for c in candidates(CONFIGURED) if not c.looks_at_performance)


@pytest.fixture(scope="module")
def summary(table: tuple[Candidate, ...]) -> BacktestSummary:
    """All of them over the same days, with a budget for three trainings before the split."""
    found = matrix()
    split = FIRST + timedelta(days=30)
    chosen, results = results_of(table, replays(table, found), {None: found}, split, 6.0)
    return BacktestSummary(
        use_case="visits",
        first=FIRST,
        split=split,
        end=FIRST + timedelta(days=60),
        every_days=1,
        models=60,
        budget=6.0,
        price_per_training=2.0,
        currency="USD",
        training_seconds=3.0,
        source="the lake",
        weeks=week_starts(found.days),
        chosen=chosen,
        beats_baselines=beats_baselines(chosen, results),
        policies=results,
    )


def test_every_candidate_keeps_the_teams_guards_and_contradicts_nothing() -> None:
    """Names are unique, for they are keys; a calendar shorter than the cooldown is left out."""
    found = candidates(CONFIGURED.model_copy(update={"cooldown_days": 10}), (None, 59))
    assert found[0].name == AS_CONFIGURED
    assert len({candidate.name for candidate in found}) == len(found)
    assert all(candidate.retraining.budget_per_month == 50 for candidate in found)
    assert not any(list(problems(candidate.retraining)) for candidate in found)
    assert "every 14 days, last 59 days" in {candidate.name for candidate in found}
    assert "every 7 days" not in {candidate.name for candidate in found}
    assert [c.name for c in found if c.naive_drift] == [
        ANY_PSI,
        f"{ANY_PSI}, last 59 days",
    ]


@pytest.mark.parametrize("candidate", candidates(CONFIGURED, (None, 59)), ids=lambda c: c.name)
def test_the_recommended_yaml_reads_back_as_the_policy(
    candidate: Candidate, summary: BacktestSummary
) -> None:
    """What is pasted is what was chosen, down to the last guard."""
    text = recommended_yaml(summary, candidate.retraining)
    read = RetrainingSpec.model_validate(yaml.safe_load(text)["retraining"])
    assert read == candidate.retraining


def test_the_choice_keeps_the_budget_and_is_something_to_configure(
    summary: BacktestSummary,
) -> None:
    """Weekly is better here and too dear; the naive trigger cannot be written down."""
    best = summary.best
    assert best.affordable
    assert best.first.cost <= 6.0
    weekly, naive = summary.policy("every 7 days"), summary.policy(ANY_PSI)
    assert weekly is not None
    assert naive is not None
    assert weekly.first.log_loss < best.first.log_loss
    assert not weekly.affordable
    assert not naive.affordable
    affordable = [found for found in summary.policies if found.affordable]
    assert best.first.log_loss == min(found.first.log_loss for found in affordable)


def test_without_a_budget_the_naive_trigger_is_to_be_undercut(
    table: tuple[Candidate, ...],
) -> None:
    """Nine tenths of its cost on the first part; no bound where it did not train."""
    found, split = matrix(), FIRST + timedelta(days=30)
    walked = replays(table, found)
    naive = [d for d in walked[ANY_PSI].decisions if d.retrain and d.day < split]
    assert len(naive) > 0
    assert default_budget(walked, split) == pytest.approx(0.9 * 2.0 * len(naive))
    assert default_budget({NEVER: walked[NEVER]}, split) is None
    assert default_budget({ANY_PSI: walked[NEVER]}, split) is None


def test_parts_add_up_and_nothing_beats_hindsight(summary: BacktestSummary) -> None:
    """Trainings and cost of both parts are those of the whole, each at its price."""
    for found in summary.policies:
        assert found.first.trainings + found.second.trainings == found.whole.trainings
        assert found.whole.cost == pytest.approx(2.0 * found.whole.trainings)
        assert len(found.trained) == found.whole.trainings
        assert found.regret >= 0
        assert len(found.weekly) == len(summary.weeks)
    never = summary.policy(NEVER)
    assert never is not None
    assert never.whole.trainings == 0


def test_the_goal_is_judged_on_the_second_part_alone(summary: BacktestSummary) -> None:
    """Against each baseline, and with fewer trainings than the PSI trigger."""
    by_name = {found.name: found for found in summary.policies}
    assert beats_baselines(NEVER, summary.policies) is False
    best = summary.best
    trigger = by_name[ANY_PSI]
    dear = best.model_copy(
        update={
            "second": best.second.model_copy(
                update={"log_loss": 0.0, "trainings": trigger.second.trainings}
            )
        }
    )
    cheap = dear.model_copy(update={"second": dear.second.model_copy(update={"trainings": 0})})
    others = [found for found in summary.policies if found is not best]
    assert beats_baselines(best.name, [*others, dear]) is False
    assert beats_baselines(best.name, [*others, cheap]) is True


def test_the_table_names_each_policy_once_and_the_chosen_one_in_bold(
    summary: BacktestSummary,
) -> None:
    """Markdown that a UI shows, best first part first."""
    lines = [line for line in table_markdown(summary).splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(summary.policies)
    (bold,) = [line for line in lines if "(chosen)" in line]
    assert bold.startswith(f"| **{summary.chosen}** (chosen) |")
    losses = [float(line.split("|")[2]) for line in lines]
    assert losses == sorted(losses)


def test_a_summary_survives_json(summary: BacktestSummary) -> None:
    """summary.json is read back as it was written."""
    assert BacktestSummary.model_validate_json(summary.model_dump_json()) == summary


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_behind_a_gate_that_nobody_passes_every_policy_is_never(seed: int) -> None:
    """Trainings cost, and the first model serves all days."""
    found = matrix(seed, 40)
    chosen = tuple(c for c in candidates(CONFIGURED) if not c.looks_at_performance)
    for name, walked in replays(chosen, found, promotes=False).items():
        assert np.array_equal(walked.loss, found.loss[0])
        assert walked.promoted == ()
        assert walked.cost == 2.0 * len(walked.trainings)
        assert (name == NEVER) == (len(walked.trainings) == 0)


def statistics(day: date, rows: int) -> DayStatistics:
    """Sums that say where they come from."""
    return DayStatistics(
        kind="realized",
        day=day,
        version=1,
        role="champion",
        rows=rows,
        log_loss=rows / 2,
        brier=rows / 4,
        own_pairs=0.0,
        bins=(),
        bin_rows=(),
        bin_positives=(),
        bin_scores=(),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4))
def test_what_is_known_grows_by_the_night_until_all_is_known(rows: list[list[int]]) -> None:
    """Labels of night n count from the n-th night on, and are then added up by day."""
    days = [FIRST + timedelta(days=n) for n in range(6)]
    scored = ScoredDays(
        realized=tuple(
            tuple(statistics(day, count) for day, count in zip(days, night, strict=True) if count)
            for night in rows
        ),
        estimated=(),
    )
    end = FIRST + timedelta(days=6)
    for last in range(10):
        night_after = FIRST + timedelta(days=last)
        found = known_by(scored, night_after, FIRST, end)
        for n, day in enumerate(days):
            expected = sum(night[n] for k, night in enumerate(rows) if n + k <= last)
            assert (found[day].rows if day in found else 0) == expected
            assert day not in found or found[day].log_loss == expected / 2
