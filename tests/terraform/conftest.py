"""Terraform, where it can be had."""

from pathlib import Path

import pytest
from terraform_support import copy_of_terraform, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each start of terraform reads the provider's schemas: seconds, on a busy machine many."""
    for item in items:
        if item.get_closest_marker("terraform") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def terraform_program() -> None:
    """Skips where terraform or the AWS provider cannot be had."""
    why = missing()
    if why is not None:
        pytest.skip(f"TERRAFORM IS NOT TRIED: {why}")


@pytest.fixture(scope="session")
def terraform_copy(terraform_program: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, for all tests of a process: it is where `init` leaves its files."""
    return copy_of_terraform(tmp_path_factory.mktemp("terraform") / "terraform")
