"""The retraining ledger: each decision once, one winner of a race, and no damage unseen."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mlops_assets.adapters import chain, ledger_tables
from mlops_assets.adapters import decisions as ledger
from mlops_assets.adapters.chain import Ledgers
from mlops_assets.core.errors import PermanentError, PlatformError
from mlops_assets.core.replay import replay, succeeded
from mlops_assets.core.retraining import policy
from mlops_assets.core.retraining_records import (
    Costs,
    Decision,
    DriftSignal,
    History,
    Signals,
    outstanding,
)
from mlops_assets.core.retraining_spec import RetrainingSpec

COSTS = Costs(price_per_training=2.0, currency="EUR")
SPEC = RetrainingSpec.model_validate(
    {"policy": {"kind": "drift", "above": 0.2}, "cooldown_days": 3, "lost_after_hours": 500}
)
FIRST = date(2013, 3, 1)
TABLE = ledger.table("visits")


def _signals(day: date, drift: float, use_case: str = "visits", **changes: Any) -> Signals:
    fields: dict[str, Any] = {
        "use_case": use_case,
        "day": day,
        "champion_version": 1,
        "trained_until": FIRST,
        "drift": DriftSignal(weighted=drift),
        "labelled_until": day + timedelta(days=1),
    }
    return Signals.model_validate({**fields, **changes})


def _decide(history: History, n: int, drift: float, use_case: str = "visits") -> Decision:
    now = datetime(2013, 3, 2, tzinfo=UTC) + timedelta(days=n)
    return policy(SPEC)(_signals(FIRST + timedelta(days=n), drift, use_case), history, COSTS, now)


def _tick(ledgers: Ledgers, n: int, drift: float, use_case: str = "visits") -> ledger.Recorded:
    read = ledger.book(ledgers, use_case)
    return ledger.record(ledgers, read, _decide(read.history, n, drift, use_case))


def test_decisions_come_back_with_the_history_that_they_make(tmp_path: Path) -> None:
    """No's and yes's, of the asked use case alone, equal to what was recorded."""
    ledgers = Ledgers(str(tmp_path))
    assert ledger.book(ledgers, "visits") == ledger.Book(chain.Chain("visits"))
    made = []
    for n, drift in enumerate([0.1, 0.3, 0.1]):
        read = ledger.book(ledgers, "visits")
        made.append(_decide(read.history, n, drift))
        assert ledger.record(ledgers, read, made[-1]) == "recorded"
        assert _tick(ledgers, n, 0.3, "churn") == "recorded"
    read = ledger.book(ledgers, "visits")
    assert list(read.decisions) == made
    assert read.history.last == made[-1]
    assert [t.run_key for t in read.history.trainings] == ["visits:2013-03-02.v1:1"]


def test_a_repeated_decision_is_recorded_once(tmp_path: Path) -> None:
    """A tick that is retried writes nothing, whether it read before or after the first."""
    ledgers = Ledgers(str(tmp_path))
    empty = ledger.book(ledgers, "visits")
    decision = _decide(empty.history, 0, 0.1)
    assert ledger.record(ledgers, empty, decision) == "recorded"
    assert ledger.record(ledgers, ledger.book(ledgers, "visits"), decision) == "known"
    assert ledger_tables.read(ledgers, TABLE).num_rows == 1
    assert _tick(ledgers, 0, 0.1) == "known"
    assert ledger.record(ledgers, empty, decision) == "known"
    assert ledger.book(ledgers, "visits").decisions == (decision,)


def test_a_decision_on_an_old_reading_loses(tmp_path: Path) -> None:
    """It is void for every reader, and the use case goes on."""
    ledgers = Ledgers(str(tmp_path))
    old = ledger.book(ledgers, "visits")
    assert _tick(ledgers, 0, 0.1) == "recorded"
    assert ledger.record(ledgers, old, _decide(old.history, 1, 0.3)) == "lost"
    assert [d.retrain for d in ledger.book(ledgers, "visits").decisions] == [False]
    assert ledger.book(ledgers, "visits").history.trainings == ()
    assert _tick(ledgers, 1, 0.3) == "recorded"
    assert len(ledger.book(ledgers, "visits").history.trainings) == 1


@pytest.mark.parametrize("begun", [False, True])
def test_of_evaluators_at_once_one_alone_may_start_the_training(
    tmp_path: Path, begun: bool
) -> None:
    """Each has read the same ledger, and decides the same or not; on an absent table too."""
    ledgers = Ledgers(str(tmp_path))
    if begun:
        _tick(ledgers, 0, 0.1)
    together = Barrier(4)

    def evaluate(n: int) -> ledger.Recorded:
        read = ledger.book(ledgers, "visits")
        decision = _decide(read.history, 1 + n % 2, 0.3)
        together.wait()
        return ledger.record(ledgers, read, decision)

    with ThreadPoolExecutor(4) as pool:
        results = sorted(pool.map(evaluate, range(4)))
    assert results.count("recorded") == 1
    assert set(results) <= {"recorded", "known", "lost"}
    assert results.count("known") == 1
    read = ledger.book(ledgers, "visits")
    assert len(read.history.trainings) == 1
    assert len(read.decisions) == 1 + begun


_EVALUATOR = """
import sys
sys.path.insert(0, sys.argv[2])
import test_decisions as here
read = here.ledger.book(here.Ledgers(sys.argv[1]), "visits")
decision = here._decide(read.history, 1, 0.3)
print("ready", flush=True)
sys.stdin.readline()
print(here.ledger.record(here.Ledgers(sys.argv[1]), read, decision))
"""


def test_of_processes_at_once_one_alone_may_start_the_training(tmp_path: Path) -> None:
    """Two daemons on one lake."""
    _tick(Ledgers(str(tmp_path)), 0, 0.1)
    command = [sys.executable, "-c", _EVALUATOR, str(tmp_path), str(Path(__file__).parent)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60)[0].strip() for process in running]
    assert sorted(results) == ["known", "recorded"]
    assert len(ledger.book(Ledgers(str(tmp_path)), "visits").history.trainings) == 1


def test_a_decision_is_recorded_in_the_book_of_its_use_case(tmp_path: Path) -> None:
    """Nobody's history gets another one's entries."""
    ledgers = Ledgers(str(tmp_path))
    decision = _decide(History(), 0, 0.3)
    with pytest.raises(PermanentError, match="on the book of churn"):
        ledger.record(ledgers, ledger.book(ledgers, "churn"), decision)
    assert ledgers.version(TABLE) == -1


def test_a_training_is_outstanding_until_its_end_is_recorded(tmp_path: Path) -> None:
    """Its end is recorded once, its start is not reported after it, and it frees the next."""
    ledgers = Ledgers(str(tmp_path))
    _tick(ledgers, 0, 0.3)
    (training,) = outstanding(ledger.book(ledgers, "visits").history)
    started = training.model_copy(update={"dagster_run_id": "abc"})
    assert ledger.record_training(ledgers, started)
    assert outstanding(ledger.book(ledgers, "visits").history) == (started,)
    failed = started.model_copy(update={"outcome": "failed", "ended": started.started, "cost": 0.5})
    assert ledger.record_training(ledgers, failed)
    assert not ledger.record_training(ledgers, failed)
    assert not ledger.record_training(ledgers, started)
    read = ledger.book(ledgers, "visits")
    assert read.history.trainings == (failed,)
    assert _decide(read.history, 0, 0.3).attempt == 2


def test_the_same_evaluation_after_a_training_ended_is_another_decision(tmp_path: Path) -> None:
    """On a clock that stands still, the end of a training is news."""
    ledgers = Ledgers(str(tmp_path))
    _tick(ledgers, 0, 0.3)
    (training,) = outstanding(ledger.book(ledgers, "visits").history)
    end = {"outcome": "failed", "ended": training.started, "cost": 0.5}
    ledger.record_training(ledgers, training.model_copy(update=end))
    assert _tick(ledgers, 0, 0.3) == "recorded"
    assert [t.attempt for t in ledger.book(ledgers, "visits").history.trainings] == [1, 2]


def test_trainings_end_while_others_decide(tmp_path: Path) -> None:
    """Both land: the end is written again when a decision came first."""
    ledgers = Ledgers(str(tmp_path))
    for name in ("a", "b", "c"):
        _tick(ledgers, 0, 0.3, name)
    together = Barrier(3)

    def end(name: str) -> bool:
        (training,) = outstanding(ledger.book(ledgers, name).history)
        together.wait()
        return ledger.record_training(ledgers, succeeded(training, COSTS))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(end, ("a", "b", "c")))
    found = [ledger.book(ledgers, name) for name in ("a", "b", "c")]
    assert all(outstanding(one.history) == () for one in found)


def _rewritten(ledgers: Ledgers, tmp_path: Path, change: Any) -> Ledgers:
    """Another lake whose ledger has the rows that ``change`` makes of this one's."""
    other = Ledgers(str(tmp_path / "rewritten"))
    ledger_tables.append(other, TABLE, change(ledger_tables.read(ledgers, TABLE)))
    return other


def _with(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(
        at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
    )


@pytest.fixture
def filled(tmp_path: Path) -> Ledgers:
    """A ledger of three entries."""
    ledgers = Ledgers(str(tmp_path / "lake"))
    for n, drift in enumerate([0.1, 0.3, 0.1]):
        _tick(ledgers, n, drift)
    return ledgers


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("record", 2, '{"use_case":"visits","decided'),
        ("record", 1, ""),
        ("retrain", 1, False),
        ("sequence", 2, 1),
        ("previous", 1, "0" * 64),
        ("at", 0, datetime(2020, 1, 1, tzinfo=UTC)),
        ("digest", 2, "f" * 64),
    ],
)
def test_an_entry_that_was_cut_or_changed_is_named(
    filled: Ledgers, tmp_path: Path, column: str, row: int, value: object
) -> None:
    """Nothing is decided on it any more."""
    other = _rewritten(filled, tmp_path, lambda table: _with(table, column, row, value))
    named = 1 if column == "sequence" else row
    with pytest.raises(PermanentError, match=rf"entry {named} of ledger .*cut or was changed"):
        ledger.book(other, "visits")


@pytest.mark.parametrize("row", [0, 1])
def test_a_missing_entry_is_named_by_the_one_after_it(
    filled: Ledgers, tmp_path: Path, row: int
) -> None:
    """A gap is no history."""
    other = _rewritten(
        filled, tmp_path, lambda table: table.filter([n != row for n in range(table.num_rows)])
    )
    with pytest.raises(PermanentError, match=f"entry {row + 1} of ledger .*is missing"):
        ledger.book(other, "visits")


def test_a_ledger_whose_last_file_is_cut_is_named(filled: Ledgers) -> None:
    """Never an empty or a shorter history."""
    folder = Path(filled.root) / TABLE
    newest = max(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-40])
    with pytest.raises(PermanentError, match=f"{TABLE}.*cannot be read"):
        ledger.book(filled, "visits")


def test_a_ledger_whose_last_commit_is_cut_is_refused(filled: Ledgers) -> None:
    """The log that names the files, as well as the files."""
    log = Path(filled.root) / TABLE / "_delta_log"
    newest = max(log.glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:-40])
    with pytest.raises(PlatformError, match=TABLE):
        ledger.book(filled, "visits")


def test_the_ledger_of_another_use_case_is_refused(filled: Ledgers) -> None:
    """As after a folder was copied."""
    other = Ledgers(f"{filled.root}-copied")
    ledger_tables.append(other, ledger.table("churn"), ledger_tables.read(filled, TABLE))
    with pytest.raises(PermanentError, match="is of use case 'visits'"):
        ledger.book(other, "churn")


def test_the_ledger_is_kept_in_few_files(tmp_path: Path) -> None:
    """Reading costs by file, and each commit makes one."""
    ledgers = Ledgers(str(tmp_path))
    most = 0
    for n in range(25):
        assert _tick(ledgers, n, 0.1) == "recorded"
        files = DeltaTable(str(tmp_path / TABLE)).file_uris()
        most = max(most, len(files))
    assert most <= 11
    assert len(ledger.book(ledgers, "visits").decisions) == 25


def test_an_entry_of_another_release_is_named(tmp_path: Path) -> None:
    """A sound row that holds no decision of this one."""
    ledgers = Ledgers(str(tmp_path))
    row = chain.row_of(
        ledger.LEDGER,
        ledger.book(ledgers, "visits").chain,
        "decision",
        datetime(2013, 3, 1, tzinfo=UTC),
        '{"a": 1}',
        inputs="",
        retrain=False,
    )
    ledger_tables.append(
        ledgers, TABLE, pa.Table.from_pylist([row], schema=chain.schema(ledger.LEDGER))
    )
    with pytest.raises(PermanentError, match=r"entry 0 of ledger .*is no decision of this release"):
        ledger.book(ledgers, "visits")


def test_compaction_does_not_change_the_ledger(filled: Ledgers) -> None:
    """Nor who wins after it."""
    before = ledger.book(filled, "visits")
    ledger_tables.compact(filled, TABLE)
    now = ledger.book(filled, "visits")
    assert (now.entries, now.history) == (before.entries, before.history)
    assert now.chain.tail == before.chain.tail
    assert ledger.record(filled, before, _decide(before.history, 3, 0.1)) == "recorded"


def test_decisions_through_the_ledger_equal_the_replayed_ones(tmp_path: Path) -> None:
    """The live path, lake and JSON included, on the same history."""
    ledgers = Ledgers(str(tmp_path))
    days = [FIRST + timedelta(days=n) for n in range(12)]
    drifts = dict(
        zip(days, [0.1, 0.3, 0.1, 0.3, 0.1, 0.1, 0.1, 0.3, 0.3, 0.1, 0.3, 0.1], strict=True)
    )

    def signals_of(day: date, trained_until: date, served_from: date) -> Signals:
        assert served_from in {trained_until, days[0]}
        return _signals(day, drifts[day], trained_until=trained_until)

    walked = replay(
        policy(SPEC), days, signals_of, lambda _trained, _day: 0.5, first=FIRST, costs=COSTS
    )
    trained_until, version = FIRST, 1
    for day in days:
        read = ledger.book(ledgers, "visits")
        signals = signals_of(day, trained_until, trained_until).model_copy(
            update={"champion_version": version}
        )
        now = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        decision = policy(SPEC)(signals, read.history, COSTS, now)
        assert ledger.record(ledgers, read, decision) == "recorded"
        if decision.retrain:
            (training,) = outstanding(ledger.book(ledgers, "visits").history)
            ledger.record_training(ledgers, succeeded(training, COSTS))
            trained_until, version = day + timedelta(days=1), version + 1
    read = ledger.book(ledgers, "visits")
    assert read.decisions == walked.decisions
    assert read.history.trainings == walked.trainings
    assert len(walked.trainings) == 4


def test_the_history_is_a_table_with_the_latest_first(filled: Ledgers) -> None:
    """One line a decision, at most so many, and a bar in a reason does not break it."""
    made = list(ledger.book(filled, "visits").decisions)
    made[2] = made[2].model_copy(update={"reasons": ("a | b",)})
    lines = ledger.history_markdown("visits", made[-2:], 1).splitlines()
    assert lines[2] == "| 2013-03-04 00:00 | 2013-03-03 | no |  | a \\| b |"
    assert "| **retrain** | 2013-03-02.v1 #1 | drift 0.3 is above 0.2 |" in lines[3]
    assert lines[-1] == f"1 earlier decisions are in table `{TABLE}`."
    assert ledger.history_markdown("visits", [], 0) == "No decision has been recorded."
