"""What the tests of the model server share."""

from collections.abc import Iterator

import pytest
from services import free_port
from serving_support import (
    ServerProcess,
    make_release,
    running_server,
    write_release,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process of the tiny model."""
    folder = tmp_path_factory.mktemp("server")
    write_release(folder / "release.json", make_release(folder))
    with running_server(folder, free_port()) as server:
        yield server
