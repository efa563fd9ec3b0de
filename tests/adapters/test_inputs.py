"""What partitions were made of, kept in documents."""

from pathlib import Path

import pytest

from mlops_assets.adapters.inputs import content, record, recorded
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import PartitionInputs


def _entry(inputs: str, digest: str = "d") -> PartitionInputs:
    return PartitionInputs(inputs=inputs, digest=digest)


def test_what_is_recorded_is_read_again_and_other_partitions_stay(tmp_path: Path) -> None:
    """A later record replaces its own partitions alone."""
    url = str(tmp_path)
    assert recorded(url, "shop", "visits") == {}
    record(url, "shop", "visits", {"b": _entry("1"), "a": _entry("1")})
    record(url, "shop", "visits", {"b": _entry("2", "")})
    assert recorded(url, "shop", "visits") == {"a": _entry("1"), "b": _entry("2", "")}
    assert recorded(url, "shop", "sizes") == {}
    assert (tmp_path / "shop" / "inputs" / "visits.json").exists()


def test_the_document_is_the_same_whatever_the_order_of_records(tmp_path: Path) -> None:
    """So that a tick can tell by its bytes that nothing changed."""
    record(str(tmp_path), "shop", "one", {"b": _entry("1"), "a": _entry("2")})
    record(str(tmp_path), "shop", "two", {"a": _entry("2")})
    record(str(tmp_path), "shop", "two", {"b": _entry("1")})
    assert content(str(tmp_path), "shop", "one") == content(str(tmp_path), "shop", "two") != b""


def test_a_record_that_says_nothing_new_does_not_touch_the_document(tmp_path: Path) -> None:
    """An unchanged file is not written again."""
    record(str(tmp_path), "shop", "visits", {"a": _entry("1")})
    path = tmp_path / "shop" / "inputs" / "visits.json"
    path.chmod(0o400)
    before = path.stat().st_ino
    record(str(tmp_path), "shop", "visits", {"a": _entry("1")})
    assert path.stat().st_ino == before


def test_a_document_that_is_not_readable_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    record(str(tmp_path), "shop", "visits", {"a": _entry("1")})
    path = tmp_path / "shop" / "inputs" / "visits.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(PermanentError, match=r"visits\.json .* remove it"):
        recorded(str(tmp_path), "shop", "visits")
