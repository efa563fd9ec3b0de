"""One table says what an environment gives."""

import pytest

from mlops_assets.definitions import defs, environment


def test_local_runs_all_steps_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLOPS_ENV nothing but this machine is needed."""
    monkeypatch.delenv("MLOPS_ENV", raising=False)
    assert defs().get_repository_def().get_implicit_global_asset_job_def().executor_def.name == (
        "in_process"
    )


@pytest.mark.parametrize("name", ["staging", "production"])
def test_remote_environments_load_without_addresses_or_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They are read when a run starts; steps run in pods of their own."""
    monkeypatch.setenv("MLOPS_ENV", name)
    for variable in ("MLOPS_LAKE_URL", "MLFLOW_TRACKING_URI", "MLOPS_DOCUMENTS_URL"):
        monkeypatch.delenv(variable, raising=False)
    job = defs().get_repository_def().get_implicit_global_asset_job_def()
    assert job.executor_def.name == "mlops"


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    """A typo does not silently run against something else."""
    with pytest.raises(ValueError, match="local, replay, staging, production"):
        environment("prodution")
