"""Places that environment variables give, read when they are needed and not before."""

import dagster as dg
import pytest

from mlops_assets.core.errors import PermanentError
from mlops_assets.definitions import environment
from mlops_assets.lifecycle.platform import Places, platform_at


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    """Those of production, whose variables are set."""
    found = environment("production").places()
    for value in vars(found).values():
        if isinstance(value, dg.EnvVar):
            monkeypatch.setenv(value.env_var_name, f"s3://bucket/{value.env_var_name}")
    platform_at.cache_clear()
    return found


def test_variables_are_read_when_a_stage_needs_them(places: Places) -> None:
    """So that loading the code location needs no address."""
    platform = platform_at(places)
    assert platform.lake_url == "s3://bucket/MLOPS_LAKE_URL"
    assert platform.documents_url == "s3://bucket/MLOPS_DOCUMENTS_URL"


def test_ledgers_are_where_their_variable_says_or_else_in_the_lake(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place tells every stage, sensor and command; alone the variable may be missing."""
    assert platform_at(places).ledgers().root == "s3://bucket/MLOPS_LEDGER_URL"
    platform_at.cache_clear()
    monkeypatch.delenv("MLOPS_LEDGER_URL")
    assert platform_at(places).ledgers().root == platform_at(places).lake_url


def test_a_variable_that_is_missing_is_named(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's error, where whoever looks knows what to set."""
    monkeypatch.delenv("MLOPS_LAKE_URL")
    with pytest.raises(PermanentError, match="MLOPS_LAKE_URL is not set"):
        platform_at(places)
