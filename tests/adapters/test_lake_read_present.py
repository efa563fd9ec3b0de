"""Reading those partitions that are there, with one look at the table."""

from pathlib import Path

import polars as pl
import pytest

from mlops_assets.adapters.lake import Lake
from mlops_assets.core.errors import SchemaError


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    """No table, no wanted partition, and some of them."""
    lake = Lake(str(tmp_path))
    assert lake.read_present("t", ["a"], ["n"]) is None
    parts = {name: pl.DataFrame({"n": [n], "m": [0]}).to_arrow() for n, name in enumerate("abc")}
    lake.write("t", parts, ["n"])
    assert lake.read_present("t", ["x"], ["n"]) is None
    assert lake.read_present("t", [], ["n"]) is None
    found = lake.read_present("t", ["x", "c", "a"], ["n"])
    assert found is not None
    assert found.to_pydict() == {"n": [0, 2]}
    with pytest.raises(SchemaError, match="no column 'o'"):
        lake.read_present("t", ["a"], ["o"])


def test_a_table_of_many_commits_keeps_all_its_versions(tmp_path: Path) -> None:
    """Checkpoints shorten the way to the newest one and take none away."""
    lake = Lake(str(tmp_path))
    for n in range(25):
        lake.write("t", {f"{n:02d}": pl.DataFrame({"n": [n]}).to_arrow()}, ["n"])
    assert list((tmp_path / "t" / "_delta_log").glob("*.checkpoint.parquet"))
    for version in (0, 9, 10, 24):
        assert lake.read("t", version=version)["n"].to_pylist() == list(range(version + 1))
