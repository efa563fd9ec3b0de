"""Bearer tokens: who is let in, and what becomes of it when the file changes."""

import logging
import os
from pathlib import Path

import pytest

from mlops_assets.core.errors import PermanentError
from mlops_assets.serving import auth
from mlops_assets.serving.auth import Tokens

FIRST, SECOND = b"first-token-0123456789", b"second-token-0123456789"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one token, which is looked at each time."""
    monkeypatch.setattr(auth, "LOOK_S", 0.0)
    path = tmp_path / "tokens"
    path.write_bytes(b"# clients\n\n" + FIRST + b"\r\n")
    return path


def replace(path: Path, content: bytes) -> None:
    """Put ``content`` in the file's place, as a Secret's volume does."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def test_the_token_lets_in_and_nothing_else_does(path: Path) -> None:
    """Whatever it has in common with a token."""
    tokens = Tokens(path)
    assert tokens.allows(b"Bearer " + FIRST)
    assert tokens.allows(b"bearer  " + FIRST + b" ")
    for header in (
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        FIRST,
        b"Basic " + FIRST,
        b"Bearer " + FIRST[:-1],
        b"Bearer " + FIRST + b"x",
        b"Bearer # clients",
        b"Bearer \xff\xfe",
    ):
        assert not tokens.allows(header)


def test_a_changed_file_is_read_again(path: Path) -> None:
    """A token is exchanged without a restart: both are valid, then the new one alone."""
    tokens = Tokens(path)
    replace(path, FIRST + b"\n" + SECOND)
    assert tokens.allows(b"Bearer " + FIRST)
    assert tokens.allows(b"Bearer " + SECOND)
    replace(path, SECOND)
    assert not tokens.allows(b"Bearer " + FIRST)
    assert tokens.allows(b"Bearer " + SECOND)
    replace(path, b"\n")
    assert not tokens.allows(b"Bearer " + SECOND)


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of the volume is none of the endpoint; no token is in the log."""
    tokens = Tokens(path)
    for content in (b"short", FIRST + b" " + SECOND):
        replace(path, content)
        with caplog.at_level(logging.ERROR):
            assert tokens.allows(b"Bearer " + FIRST)
            assert tokens.allows(b"Bearer " + FIRST)
    path.unlink()
    assert tokens.allows(b"Bearer " + FIRST)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert FIRST.decode() not in "".join(said)
    replace(path, SECOND)
    assert not tokens.allows(b"Bearer " + FIRST)


def test_a_server_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """Nobody should find out from the first client."""
    with pytest.raises(PermanentError, match=r"tokens cannot be read: No such file"):
        Tokens(tmp_path / "tokens")
    (tmp_path / "tokens").write_bytes(b"# x\nshort\n")
    with pytest.raises(PermanentError, match="line 2 of the token file"):
        Tokens(tmp_path / "tokens")
    os.truncate(tmp_path / "tokens", auth.MAX_FILE_BYTES + 1)
    with pytest.raises(PermanentError, match="larger than"):
        Tokens(tmp_path / "tokens")
