"""Training on workers that share the rows: the same model, whatever is cut, lost or laid out."""

import math
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_support import (
    DIGEST,
    TABLE,
    frame_with_ids,
    frozen,
    place_in,
    ray_spec,
    task_of,
    train_in_threads,
)
from training_support import FEATURES, train_on, use_case_spec

from mlops_assets.adapters import devices, xgboost_engine
from mlops_assets.adapters.lake import Lake
from mlops_assets.adapters.ray_engine import first_rows, train, training_rows
from mlops_assets.adapters.ray_engine_cluster import ADDRESS
from mlops_assets.adapters.ray_engine_rows import (
    Share,
    read_share,
    row_groups,
    share_of,
    summarise,
)
from mlops_assets.adapters.ray_engine_worker import Event, Round, Task
from mlops_assets.core.errors import (
    InterruptedTrainingError,
    MissingPartitionsError,
    PermanentError,
    PlatformError,
    SchemaError,
)
from mlops_assets.core.spec import ModelSpec, RaySpec, problems


@given(total=st.integers(1, 10_000), workers=st.integers(1, 50))
def test_shares_follow_each_other_and_have_every_row_once(total: int, workers: int) -> None:
    """Nothing is trained on twice, nothing is left out, and no worker has much more."""
    shares = [share_of("train", total, worker, workers) for worker in range(workers)]
    assert [share.first for share in shares] == [0, *(share.end for share in shares[:-1])]
    assert shares[-1].end == total
    sizes = {share.end - share.first for share in shares}
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=15, deadline=None)
@given(group_rows=st.integers(20, 700), workers=st.integers(1, 4))
def test_the_shares_of_all_workers_are_the_rows_in_order(
    tmp_path_factory: pytest.TempPathFactory, group_rows: int, workers: int
) -> None:
    """Row groups may begin and end anywhere in a share or in a part."""
    frame = frame_with_ids(600)
    rows = frozen(tmp_path_factory.mktemp("rows"), frame, group_rows)
    groups = row_groups(rows)
    assert len(groups) == math.ceil(600 / group_rows)
    summaries = [summarise(rows, group, ["carrier"], 9) for group in groups]
    for part in ("train", "validation"):
        expected = frame.filter((pl.col("part") == part) & pl.col("label").is_not_null())
        shares = [share_of(part, expected.height, worker, workers) for worker in range(workers)]
        found = pl.concat(
            block
            for share in shares
            for block in read_share(rows, summaries, share, ["event_id", "delay"])
        )
        assert found.select("event_id", "delay").equals(expected.select("event_id", "delay"))


def test_a_share_reads_the_row_groups_that_hold_it_and_no_others(tmp_path: Path) -> None:
    """A worker's reading grows with its share, not with the table."""
    rows = frozen(tmp_path, frame_with_ids(600), 100)
    groups = row_groups(rows)
    summaries = [summarise(rows, group, [], 9) for group in groups]
    beyond = summaries[0]["rows"]["train"]
    (file,) = tmp_path.rglob("*.parquet")
    # Where the first row group's pages are, there is nothing that can be read.
    column = groups[0].fragment.metadata.row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    file.write_bytes(data)
    second = Share("train", beyond, beyond + 50)
    columns = ["carrier", "delay"]
    found = list(read_share(rows, summaries, second, columns))
    assert sum(block.height for block in found) == 50
    with pytest.raises(PlatformError, match=str(tmp_path)):
        list(read_share(rows, summaries, Share("train", 0, 50), columns))


@pytest.mark.parametrize("group_rows", [None, 700, 64])
def test_one_worker_gives_the_bytes_of_engine_xgboost(
    tmp_path: Path, group_rows: int | None
) -> None:
    """Blocks, shares and the communicator are no part of a model."""
    frame = frame_with_ids()
    rows = frozen(tmp_path, frame, group_rows)
    assert train_in_threads(task_of(rows, ray_spec(1))).data == train_on(frame, ray_spec(1)).data


def test_as_many_workers_give_the_same_bytes_however_the_table_lies(tmp_path: Path) -> None:
    """The number of workers is part of a model; files and row groups are not."""
    frame = frame_with_ids()
    models = {
        workers: [
            train_in_threads(
                task_of(frozen(tmp_path / f"{workers}-{n}", frame, n), ray_spec(workers))
            )
            for n in (None, 500, 77)
        ]
        for workers in (2, 3)
    }
    for same in models.values():
        assert len({model.data for model in same}) == 1
    assert models[2][0].data != models[3][0].data


def test_more_workers_are_as_good_as_one(tmp_path: Path) -> None:
    """Sums in another order and other draws change a model, not what it knows."""
    frame = frame_with_ids(10_000)
    spec = ray_spec(3, rounds=60)
    alone = train_on(frame, spec)
    together = train_in_threads(task_of(frozen(tmp_path, frame), spec))
    losses = [min(model.history["validation_log_loss"]) for model in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert together.signature == alone.signature
    assert sum(together.importances.values()) == pytest.approx(1)


def test_a_category_that_only_one_worker_has_is_known_to_all(tmp_path: Path) -> None:
    """Each share's categories are those of the model; a holdout's are not."""
    rare = pl.when(pl.int_range(pl.len()) == 1500).then(pl.lit("ZZ")).otherwise(pl.col("carrier"))
    unseen = pl.when(pl.col("part") == "holdout").then(pl.lit("YY")).otherwise(rare)
    frame = frame_with_ids().with_columns(unseen.alias("carrier"))
    model = train_in_threads(task_of(frozen(tmp_path, frame, 500), ray_spec(2)))
    assert model.signature == train_on(frame, ray_spec(2)).signature
    assert model.signature.inputs[0].categories == ("AA", "DL", "UA", "ZZ")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_is_told_to_end_goes_on_to_the_same_bytes(
    tmp_path: Path, workers: int
) -> None:
    """The first worker saves where it ends; the next attempt needs no round that is done."""
    rows, spec = frozen(tmp_path, frame_with_ids()), ray_spec(workers)
    whole = train_in_threads(task_of(rows, spec))
    task = task_of(rows, spec, place_in(tmp_path))
    for last in (1, 8):
        with pytest.raises(InterruptedTrainingError):
            train_in_threads(task, lambda event, last=last: _number(event) >= last)
    done: list[int] = []
    model = train_in_threads(task, lambda event: done.append(_number(event)) is not None)
    assert model.data == whole.data
    assert model.history == whole.history
    # Two segments of five rounds: a small training is cut between segments.
    assert done[0] == 11
    assert model.course.interruptions == 2


def _number(event: Event) -> int:
    return event.number if isinstance(event, Round) else 0


def test_a_single_worker_goes_on_from_a_checkpoint_of_engine_xgboost(tmp_path: Path) -> None:
    """Both engines make the same rounds, so that a use case may change between them."""
    frame, place = frame_with_ids(), place_in(tmp_path)
    cut = train_in_threads(task_of(frozen(tmp_path, frame), ray_spec(1), place))
    model = xgboost_engine.train(
        frame,
        FEATURES,
        label="label",
        part="part",
        spec=ray_spec(1).model_copy(update={"engine": "xgboost"}),
        output="late",
        place=place,
    )
    assert model.data == cut.data
    assert model.course.resumed_from == len(cut.history["train_log_loss"])


def test_workers_of_another_number_begin_anew(tmp_path: Path) -> None:
    """A checkpoint of two workers is none of three."""
    rows, place = frozen(tmp_path, frame_with_ids()), place_in(tmp_path)
    train_in_threads(task_of(rows, ray_spec(2), place))
    other = train_in_threads(task_of(rows, ray_spec(3), place))
    assert other.course.resumed_from == 0
    assert other.data == train_in_threads(task_of(rows, ray_spec(3))).data


def _in_train(then: pl.Expr, column: str) -> pl.Expr:
    return pl.when(pl.col("part") == "train").then(then).otherwise(pl.col(column)).alias(column)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (_in_train(pl.lit(1, pl.Int32), "label"), PermanentError, "every label in the train part"),
        (pl.lit(2, pl.Int32).alias("label"), SchemaError, "values other than 0 and 1"),
        (_in_train(pl.lit(math.inf, pl.Float32), "delay"), SchemaError, "train part, share 1 of 2"),
        (pl.lit("train").alias("part"), PermanentError, "validation part of the training set has"),
        (_in_train(pl.col("event_id"), "carrier"), PermanentError, "'carrier' has 1[0-9]+ categor"),
        (pl.lit(3.0).alias("carrier"), SchemaError, "a string is needed for a category"),
    ],
    ids=["one class", "label", "infinite", "no validation", "categories", "type"],
)
def test_rows_that_cannot_be_trained_on_are_refused_by_name(
    tmp_path: Path, change: pl.Expr, error: type[PermanentError], says: str
) -> None:
    """A cluster says what one process says."""
    rows = frozen(tmp_path, frame_with_ids().with_columns(change))
    with pytest.raises(error, match=says):
        train_in_threads(task_of(rows, ray_spec(2)))


def test_a_part_with_fewer_rows_than_workers_is_refused(tmp_path: Path) -> None:
    """A worker without rows could not take part."""
    frame = frame_with_ids()
    kept = (pl.col("part") == "train") | (pl.int_range(pl.len()).over("part", "label") == 0)
    frame = frame.drop_nulls("label").filter(kept)
    with pytest.raises(PermanentError, match=r"2 rows for 3 workers.*lower model.ray.workers"):
        train_in_threads(task_of(frozen(tmp_path, frame), ray_spec(3)))


def test_workers_with_other_packages_refuse_to_train(tmp_path: Path) -> None:
    """Another XGBoost would make another model of the same rows."""
    task = task_of(frozen(tmp_path, frame_with_ids()), ray_spec(1))
    other = Task(**{**vars(task), "versions": {"xgboost": "2.0.0"}})
    with pytest.raises(PermanentError, match=r"xgboost 3\S+ instead of 2\.0\.0.*image"):
        train_in_threads(other)


def test_a_training_set_that_is_gone_is_named(tmp_path: Path) -> None:
    """Neither a table nor a partition of it is trained on when it is not there."""
    rows = frozen(tmp_path, frame_with_ids())
    lost = type(rows)(**{**vars(rows), "partition": "e" * 64})
    with pytest.raises(MissingPartitionsError, match=r"has no partition e+ in version 0"):
        row_groups(lost)
    with pytest.raises(MissingPartitionsError, match="is not in the lake"):
        training_rows(Lake(str(tmp_path)), TABLE, DIGEST, label="label", part="part")


def test_the_first_rows_are_those_that_engine_xgboost_shows(tmp_path: Path) -> None:
    """An example of the inputs costs three rows, not the table."""
    frame = frame_with_ids()
    assert first_rows(frozen(tmp_path, frame), FEATURES, 3).equals(
        frame.head(3).select(list(FEATURES))
    )


def test_without_a_cluster_it_says_what_to_do(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that nobody listens at fails at once, and not after Ray's minutes."""
    rows = frozen(tmp_path, frame_with_ids())
    for address in (f"ray://127.0.0.1:{free_port}", f"127.0.0.1:{free_port}"):
        monkeypatch.setenv(ADDRESS, address)
        with pytest.raises(PermanentError, match=rf"no Ray cluster answers at {ADDRESS}={address}"):
            train(rows, FEATURES, spec=ray_spec(1), output="late")
    monkeypatch.setenv(ADDRESS, "127.0.0.1:port")
    with pytest.raises(PermanentError, match="is no address"):
        train(rows, FEATURES, spec=ray_spec(1), output="late")


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is an extra."""
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PermanentError, match=r"install mlops-assets\[ray\]"):
        train(frozen(tmp_path, frame_with_ids()), FEATURES, spec=ray_spec(1), output="late")


def test_a_gpu_that_is_demanded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that waits for a GPU would not use it."""
    monkeypatch.setenv(devices.ENV, "cuda")
    with pytest.raises(PermanentError, match="engine ray trains on CPUs"):
        train(frozen(tmp_path, frame_with_ids()), FEATURES, spec=ray_spec(1), output="late")


def test_a_wrong_parameter_is_found_before_a_cluster_is_asked(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a second, not workers."""
    monkeypatch.setenv(ADDRESS, f"127.0.0.1:{free_port}")
    with pytest.raises(PermanentError, match="max_dpth"):
        train(
            frozen(tmp_path, frame_with_ids()),
            FEATURES,
            spec=ray_spec(1, parameters={"max_dpth": 3}),
            output="late",
        )


def test_workers_without_engine_ray_are_a_contradiction() -> None:
    """Nobody believes to train on a cluster and does not."""
    alone = use_case_spec(ModelSpec(ray=RaySpec(workers=4)))
    assert ("model", "ray") in [error.path for error in problems(alone)]
    both = use_case_spec(ModelSpec(engine="ray", ray=RaySpec(workers=4)))
    assert ("model", "ray") not in [error.path for error in problems(both)]
