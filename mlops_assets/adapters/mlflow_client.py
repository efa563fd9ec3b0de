"""A client for MLflow's tracking server and registry: opened once per URI, failures told apart."""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_T = TypeVar("_T")

_SETTINGS = {
    "GIT_PYTHON_REFRESH": "quiet",  # else it complains where there is no git
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's 7 take minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; MLflow's 120 are longer than a sensor's tick
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PGCONNECT_TIMEOUT": "10",  # seconds; libpq waits for ever without it
}
_PAUSES = (0.1, 0.3, 0.9, 2.0)  # seconds between attempts
# MLflow lets SQLite wait for a lock for 20 s already; a wait like that is not repeated.
_PATIENCE_SECONDS = 10
_BUSY_CODES = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def prepare_process() -> None:
    """Settings that MLflow reads when it is imported: no telemetry, timeouts, less chatter.

    What the environment says already stands, except about telemetry.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def connect(uri: str) -> "MlflowClient":
    """The client for the server or database at ``uri``, the same one each time in this process.

    A new SQLite database is created. Raises TransientError when it is away.
    """
    prepare_process()
    return attempt(uri, "open", lambda: _open(uri))


def attempt(uri: str, action: str, function: Callable[[], _T]) -> _T:
    """What ``function`` returns, tried again for a few seconds while MLflow at ``uri`` is busy.

    ``function`` has to be safe to repeat. Raises TransientError when it stays busy or is away,
    PermanentError for anything else that MLflow refuses; both name ``action`` and ``uri``.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    began = time.monotonic()
    pauses = iter(_PAUSES)
    while True:
        try:
            return function()
        except (MlflowException, SQLAlchemyError, RequestException) as error:
            again = _may_pass(uri, error)
            pause = next(pauses, None)
            if not again or pause is None or time.monotonic() - began > _PATIENCE_SECONDS:
                raise _failure(uri, action, error, again) from None
        time.sleep(pause)


def shown(uri: str) -> str:
    """``uri`` as it may be logged: without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri).render_as_string(hide_password=True)
    except ArgumentError:
        return uri.rpartition("@")[2]


def is_server(uri: str) -> bool:
    """Whether ``uri`` is a tracking server's, else it is a database's."""
    return uri.startswith(("http://", "https://"))


def _failure(
    uri: str, action: str, error: Exception, again: bool
) -> PermanentError | TransientError:
    # The cause is not chained: its text may hold the password.
    text = _without_password(uri, str(error).strip()) or type(error).__name__
    reason = text.splitlines()[0]
    if again:
        return TransientError(
            f"MLflow at {shown(uri)} is busy or away ({action}: {reason}); "
            "start it or wait, and try again"
        )
    return PermanentError(f"MLflow at {shown(uri)} refuses to {action}: {reason}")


def _without_password(uri: str, text: str) -> str:
    password = urlsplit(uri).password
    if password:
        text = text.replace(password, "***").replace(unquote(password), "***")
    return text


def _may_pass(uri: str, error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import IntegrityError, OperationalError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError

    code = error.error_code if isinstance(error, MlflowException) else None
    cause = error.__cause__ if isinstance(error, MlflowException) else error
    if code == "RESOURCE_ALREADY_EXISTS" or isinstance(cause, IntegrityError):
        return True  # two writers made the same thing: the next attempt sees the other's
    if uri.startswith("sqlite"):
        # Other errors of SQLite (read-only, no space, no table) stay.
        return "is locked" in str(error)
    if is_server(uri):
        # MLflow's client reports a server that it cannot reach as INTERNAL_ERROR.
        return isinstance(error, RequestException) or code in (*_BUSY_CODES, "INTERNAL_ERROR")
    return isinstance(cause, OperationalError | PoolTimeoutError) or code in _BUSY_CODES


@lru_cache(maxsize=8)
def _open(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if uri.startswith("sqlite"):
        _create_sqlite(uri)
    if not is_server(uri):
        _probe(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _create_sqlite(uri: str) -> None:
    """A new database at ``uri`` where there is none.

    MLflow's migrations take seconds. A kill among them leaves a database that it can't open again,
    and two processes that both migrate break each other: so it is built aside, by one of them,
    and renamed.
    """
    from mlflow import MlflowClient
    from sqlalchemy.engine import make_url

    from mlops_assets.adapters.storage import make_folder

    database = make_url(uri).database
    if not database or database == ":memory:":
        raise PermanentError(f"{uri}: an MLflow database in memory is lost; give it a file")
    path = Path(database)
    if path.exists():
        return
    make_folder(path.parent)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            new = Path(folder).absolute() / path.name
            MlflowClient(
                tracking_uri=f"sqlite:///{new}", registry_uri=f"sqlite:///{new}"
            ).search_experiments(max_results=1)
            new.replace(path)


def _probe(uri: str) -> None:
    """Raises when the database at ``uri`` cannot be read; MLflow itself would try for 100 s."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    try:
        engine = create_engine(uri, poolclass=NullPool)
    except ImportError as error:
        raise PermanentError(f"{shown(uri)}: {error}; install the database's driver") from error
    inspect(engine).has_table("experiments")
