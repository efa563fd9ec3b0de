import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.adapters.storage import filesystem, join, local_path, read_bytes, write_bytes
from mlops_assets.core.errors import PermanentError, TransientError


def test_what_is_written_is_read(location: str) -> None:
    """In a folder that did not exist, again over what was there, and empty."""
    url = join(location, "models", "1.ubj")
    assert read_bytes(url) is None
    for data in (b"first", b"second, and longer", b""):
        write_bytes(url, data)
        assert read_bytes(url) == data


def test_nothing_else_is_left_beside_a_written_file(tmp_path: Path) -> None:
    """The temporary file becomes the file."""
    write_bytes(str(tmp_path / "a.json"), b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    """Escapes are resolved."""
    write_bytes((tmp_path / "a b.json").as_uri(), b"x")
    assert (tmp_path / "a b.json").read_bytes() == b"x"
    assert local_path("s3://bucket/key") is None


def test_a_killed_writer_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Whenever it dies, the file is one of the versions that were written, whole."""
    target = tmp_path / "big"
    write_bytes(str(target), b"0" * 4_000_000)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from mlops_assets.adapters.storage import write_bytes\n"
            "print('ready', flush=True)\n"
            "while True:\n"
            "    for digit in b'12': write_bytes(sys.argv[1], bytes([digit]) * 4_000_000)\n",
            str(target),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        for _ in range(100):
            content = read_bytes(str(target))
            assert content is not None
            assert len(content) == 4_000_000
            assert content.count(content[:1]) == 4_000_000
    finally:
        writer.kill()
        writer.wait()
    content = read_bytes(str(target))
    assert content is not None
    assert len(content) == 4_000_000
    assert content.count(content[:1]) == 4_000_000


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    """Writing below a file says what is in the way and what to do."""
    (tmp_path / "lake").write_text("")
    with pytest.raises(PermanentError, match=r"cannot create the folder .*lake.*: Not a directory"):
        write_bytes(str(tmp_path / "lake" / "a" / "b"), b"")
    with pytest.raises(PermanentError, match=r"cannot read .*lake/a: Not a directory"):
        read_bytes(str(tmp_path / "lake" / "a"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(PermanentError, match=r"cannot write .*folder"):
        write_bytes(str(tmp_path / "folder"), b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "lake"]


@pytest.mark.skipif(
    os.geteuid() == 0,
    reason="NOT TESTED as root, who may write to every folder: run it as another user",
)
def test_a_folder_that_is_not_writable_is_named(tmp_path: Path) -> None:
    """The message names the folder."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermanentError, match="is not writable"):
        write_bytes(str(tmp_path / "a"), b"")


def test_a_missing_bucket_is_permanent(s3_bucket: str) -> None:
    """Trying again does not make a bucket."""
    with pytest.raises(PermanentError, match="cannot write s3://nowhere-at-all/a"):
        write_bytes("s3://nowhere-at-all/a", b"x")
    assert s3_bucket


def test_a_server_that_is_away_is_transient(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection may be accepted later."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot read"):
        read_bytes(join(s3_bucket, "a"))


def test_another_scheme_is_refused() -> None:
    """Rather than taken for a path."""
    with pytest.raises(PermanentError, match="gs:// is not supported"):
        filesystem("gs://bucket/key")


def test_urls_are_joined_with_one_slash() -> None:
    """Whatever slashes the parts have."""
    assert join("s3://b/p/", "/a/", "b") == "s3://b/p/a/b"
    assert join("/tmp", "a") == "/tmp/a"
