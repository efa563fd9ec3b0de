"""Makes the platform's databases on an empty PostgreSQL: for each a role that owns it and nothing
else, with a password that only Secrets Manager and the server know.

    python bootstrap.py --address HOST --master-secret ARN [--rotate [NAME ...]]

It is run again at any time, and makes what is missing: Secrets Manager says what a password is, and
the role follows. A password is put there before a role gets it, so that a process that is killed
leaves nothing that the next one does not finish; a new password waits as AWSPENDING until the role
has it. Statements carry what the server keeps of a password (a SCRAM verifier), since a server may
log them. Each line of the output says what was done, and no secret.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg2
import psycopg2.errors
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

Content = dict[str, str]

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"

_LOCK, _LOCK_MS = 0x6D6C6F7073, 5000  # whoever holds this advisory lock is the only one that runs


class BootstrapError(Exception):
    """Something that a person has to put right."""


@dataclass(frozen=True)
class Account:
    """A database and the role of its name that owns it."""

    name: str
    secret: str
    uri: bool
    """Whether the secret is a ``uri`` as SQLAlchemy takes it; else it is a ``password``."""


ACCOUNTS = (
    Account("dagster", "mlops/dagster-database", uri=False),
    Account("mlflow", "mlops/mlflow-database", uri=True),
    Account("tuning", "mlops/tuning-database", uri=True),
)


@dataclass(frozen=True)
class Server:
    """Where it is, and how connections to it are encrypted (libpq's ``sslmode``)."""

    address: str
    port: int
    sslmode: str

    def connect(self, user: str, password: str, database: str) -> Any:
        """A connection that commits each statement. Raises psycopg2.OperationalError."""
        connection = psycopg2.connect(
            host=self.address,
            port=self.port,
            user=user,
            password=password,
            dbname=database,
            sslmode=self.sslmode,
            connect_timeout=10,
            options=f"-c statement_timeout=60000 -c lock_timeout={_LOCK_MS}",
        )
        connection.autocommit = True
        return connection

    def takes(self, account: Account, password: str) -> bool:
        """Whether ``account`` gets into its database with ``password``."""
        try:
            self.connect(account.name, password, account.name).close()
        except psycopg2.OperationalError:
            return False
        return True

    def uri(self, account: Account, password: str) -> str:
        """How SQLAlchemy reaches the database of ``account``."""
        return (
            f"postgresql+psycopg2://{account.name}:{quote(password, safe='')}"
            f"@{self.address}:{self.port}/{account.name}?sslmode={self.sslmode}"
        )


@dataclass(frozen=True)
class Stored:
    """A version of a secret."""

    version: str
    content: Content


def bootstrap(
    vault: Any, server: Server, master_secret: str, rotate: Collection[str] = ()
) -> Iterator[str]:
    """Make what is missing, and new passwords of the accounts in ``rotate``; yields each deed.

    ``vault`` is boto3's Secrets Manager. Raises BootstrapError, and what boto3 and psycopg2 raise.
    """
    master = _read(vault, master_secret, CURRENT)
    if master is None:
        raise BootstrapError(f"secret {master_secret} has no value: is it the database's?")
    username, password = master.content["username"], master.content["password"]
    connection = server.connect(username, password, "postgres")
    try:
        with connection.cursor() as cursor:
            try:
                cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            except psycopg2.errors.LockNotAvailable as error:
                raise BootstrapError("another bootstrap runs: wait until it has ended") from error
            for account in ACCOUNTS:
                yield from _account(vault, server, cursor, account, account.name in rotate)
    finally:
        connection.close()


def _account(
    vault: Any, server: Server, cursor: Any, account: Account, rotate: bool
) -> Iterator[str]:
    current = _read(vault, account.secret, CURRENT)
    if current is None:
        content = _content(server, account, {}, secrets.token_urlsafe(32))
        current = _put(vault, account, content, CURRENT)
        yield f"{account.name}: secret {account.secret} has its first value"
    pending = _read(vault, account.secret, PENDING)
    if pending is not None and pending.version == current.version:
        _settled(vault, account, pending)
        pending = None
    yield from _database(cursor, account)

    # What a process that was killed left goes first: the role may have its password already.
    newest = pending or current
    password = _password(account, newest)
    if rotate and pending is None:
        password = secrets.token_urlsafe(32)
    content = _content(server, account, newest.content, password)
    if content != newest.content:
        pending = _put(vault, account, content, PENDING)
        what = "password" if rotate else "address of the server"
        yield f"{account.name}: a new {what} waits in {account.secret}"
    if not server.takes(account, password):
        _set_password(cursor, account, password)
        yield f"{account.name}: the role has the password of its secret"
        if not server.takes(account, password):
            raise BootstrapError(
                f"role {account.name} does not get into its database with the password that it was "
                f"just given: may it log in, and does {server.address} take connections from here?"
            )
    if pending is not None:
        vault.update_secret_version_stage(
            SecretId=account.secret,
            VersionStage=CURRENT,
            MoveToVersionId=pending.version,
            RemoveFromVersionId=current.version,
        )
        yield f"{account.name}: what waited is the current version of {account.secret}"
        _settled(vault, account, pending)


def _database(cursor: Any, account: Account) -> Iterator[str]:
    name = sql.Identifier(account.name)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (account.name,))
    if cursor.fetchone() is None:
        # Nobody gets in as a role without a password.
        cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield f"{account.name}: role made"
    # Who gives a database away has to be a member of the role that gets it, for that long.
    membership = sql.SQL("GRANT {} TO CURRENT_USER").format(name)
    cursor.execute(
        "SELECT pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT, TEMP') "
        "FROM pg_database WHERE datname = %s",
        (account.name,),
    )
    owner, open_to_all = cursor.fetchone() or (None, True)
    if owner is None:
        cursor.execute(membership)
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        yield f"{account.name}: database made"
        owner = account.name
    if owner != account.name:
        raise BootstrapError(
            f"database {account.name} belongs to {owner}: give it to the role {account.name} "
            f"(ALTER DATABASE {account.name} OWNER TO {account.name}), or drop it"
        )
    if open_to_all:
        cursor.execute(membership)
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        yield f"{account.name}: database closed to all others"
    # Nothing where there is none.
    cursor.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(name))


def _set_password(cursor: Any, account: Account, password: str) -> None:
    verifier = encrypt_password(password, account.name, cursor.connection, "scram-sha-256")
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
    cursor.execute(statement.format(sql.Identifier(account.name), sql.Literal(verifier)))


def _read(vault: Any, secret: str, stage: str) -> Stored | None:
    """The version of ``secret`` at ``stage``, or None where it has none (or is not there)."""
    try:
        found = vault.get_secret_value(SecretId=secret, VersionStage=stage)
    except vault.exceptions.ResourceNotFoundException:
        return None
    try:
        return Stored(found["VersionId"], dict(json.loads(found["SecretString"])))
    except (KeyError, ValueError, TypeError) as error:
        # Without what it found: that is the secret.
        raise BootstrapError(f"secret {secret} is no JSON object at {stage}") from error


def _put(vault: Any, account: Account, content: Content, stage: str) -> Stored:
    try:
        put = vault.put_secret_value(
            SecretId=account.secret, SecretString=json.dumps(content), VersionStages=[stage]
        )
    except vault.exceptions.ResourceNotFoundException as error:
        what = f"there is no secret {account.secret}: apply Terraform's module secrets first"
        raise BootstrapError(what) from error
    return Stored(put["VersionId"], content)


def _settled(vault: Any, account: Account, pending: Stored) -> None:
    vault.update_secret_version_stage(
        SecretId=account.secret, VersionStage=PENDING, RemoveFromVersionId=pending.version
    )


def _content(server: Server, account: Account, kept: dict[str, str], password: str) -> Content:
    own = {"uri": server.uri(account, password)} if account.uri else {"password": password}
    return {**kept, **own}


def _password(account: Account, stored: Stored) -> str:
    found = stored.content.get("password")
    if account.uri:
        found = unquote(urlsplit(stored.content.get("uri", "")).password or "")
    if not found:
        what = "uri with a password" if account.uri else "password"
        raise BootstrapError(
            f"secret {account.secret} holds no {what}: put one there, a new random one where the "
            "old one is lost; the role gets it when this is run again"
        )
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes the platform's databases and roles.")
    for option, variable, default in (
        ("--address", "DATABASE_ADDRESS", None),
        ("--port", "DATABASE_PORT", "5432"),
        ("--master-secret", "DATABASE_MASTER_SECRET", None),
        ("--sslmode", "DATABASE_SSLMODE", "require"),
        ("--region", "AWS_REGION", None),
    ):
        given = os.environ.get(variable) or default
        parser.add_argument(option, default=given, required=not given, help=f"default: {variable}")
    names = [account.name for account in ACCOUNTS]
    parser.add_argument("--rotate", nargs="*", choices=names, help="of all where none is named")
    found = parser.parse_args()
    found.rotate = () if found.rotate is None else found.rotate or names
    return found


def main() -> None:
    """Run with the command line's arguments, or the variables ``DATABASE_*``."""
    import boto3

    given = _arguments()
    timeouts = Config(
        connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 5}
    )
    vault = boto3.client("secretsmanager", region_name=given.region, config=timeouts)
    server = Server(given.address, int(given.port), given.sslmode)
    try:
        for line in bootstrap(vault, server, given.master_secret, given.rotate):
            print(line, flush=True)
    except (BootstrapError, BotoCoreError, ClientError) as error:
        sys.exit(f"bootstrap: {error}")
    except psycopg2.Error as error:
        # Not the whole of it: a server quotes the statement, and with it the verifier.
        said = error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__
        sys.exit(f"bootstrap: PostgreSQL at {server.address}: {said}")
    print("bootstrap: everything is there", flush=True)


if __name__ == "__main__":
    main()
