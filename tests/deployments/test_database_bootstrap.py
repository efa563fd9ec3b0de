"""The databases' bootstrap, on a PostgreSQL whose master is no superuser, as on RDS, and moto."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg2
import pytest
from manifests import (
    KUBERNETES,
    ROOT,
    VERSIONS,
    named,
    part,
    read,
    rendered,
    restricted,
    schema_problems,
)
from manifests import values as helm_values
from moto.server import ThreadedMotoServer
from services import CREDENTIALS, postgres

SCRIPT = ROOT / "deployments" / "database" / "bootstrap.py"
MANIFESTS = KUBERNETES / "database"
MASTER_SECRET = "rds!db-master"
MASTER_PASSWORD = "of-the-master"
SECRETS = ["mlops/dagster-database", "mlops/mlflow-database", "mlops/tuning-database"]
NAMES = ["dagster", "mlflow", "tuning"]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["bootstrap"] = module
    spec.loader.exec_module(module)
    return module


bootstrap = _load()


@contextlib.contextmanager
def connected(
    port: int, user: str, password: str = "", database: str = "postgres"
) -> Iterator[Any]:
    """A cursor of an autocommitting connection."""
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=port,
        user=user,
        password=password,
        dbname=database,
        connect_timeout=5,
    )
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    """The port of a PostgreSQL that asks for passwords, and logs every statement."""
    with postgres([]) as port:
        with connected(port, "postgres") as cursor:
            cursor.execute(
                f"CREATE ROLE master LOGIN CREATEROLE CREATEDB PASSWORD '{MASTER_PASSWORD}'"
            )
            cursor.execute("ALTER SYSTEM SET log_statement = 'all'")
            cursor.execute("SHOW hba_file")
            (hba,) = cursor.fetchone()
            rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256"
            cursor.execute(f"COPY (SELECT unnest(string_to_array('{rules}', E'\\n'))) TO '{hba}'")
            cursor.execute("SELECT pg_reload_conf()")
        yield port


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The URL of moto."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


class Place:
    """A server without databases, and secrets as Terraform leaves them: without a value."""

    def __init__(self, port: int, url: str) -> None:
        self.port, self.url = port, url
        self.server = bootstrap.Server("127.0.0.1", port, "disable")
        self.vault: Any = boto3.client(
            "secretsmanager",
            region_name=CREDENTIALS["AWS_REGION"],
            endpoint_url=url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self.empty()

    def empty(self) -> None:
        """Begin anew."""
        # One by one: what a process's servers of moto hold is one, other tests' buckets included.
        for secret in self.vault.list_secrets()["SecretList"]:
            self.vault.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
        with connected(self.port, "postgres") as cursor:
            for name in NAMES:
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                cursor.execute(f"DROP ROLE IF EXISTS {name}")
        master = {"username": "master", "password": MASTER_PASSWORD}
        self.vault.create_secret(Name=MASTER_SECRET, SecretString=json.dumps(master))
        for name in SECRETS:
            self.vault.create_secret(Name=name)

    def steps(self, *rotate: str, server: Any = None) -> Any:
        """The bootstrap, deed by deed."""
        return bootstrap.bootstrap(self.vault, server or self.server, MASTER_SECRET, rotate)

    def run(self, *rotate: str, cut: int | None = None) -> list[str]:
        """What it did, all of it or until it was killed after so many deeds."""
        done: list[str] = []
        steps = self.steps(*rotate)
        while cut is None or len(done) < cut:
            try:
                done.append(next(steps))
            except StopIteration:
                break
        steps.close()
        return done

    def content(self, name: str, stage: str = "AWSCURRENT") -> dict[str, str]:
        """What the secret of the account ``name`` holds."""
        found = self.vault.get_secret_value(SecretId=f"mlops/{name}-database", VersionStage=stage)
        return json.loads(found["SecretString"])

    def versions(self, secret: str) -> set[str]:
        """The identifiers of what the secret holds and held."""
        found = self.vault.list_secret_version_ids(SecretId=secret)
        return {each["VersionId"] for each in found["Versions"]}

    def password(self, name: str, stage: str = "AWSCURRENT") -> str:
        """The password that the secret of the account ``name`` holds."""
        content = self.content(name, stage)
        return content.get("password") or urlsplit(content["uri"]).password or ""

    def passwords(self) -> dict[str, str]:
        """All of them, by account."""
        return {name: self.password(name) for name in NAMES}

    def enters(self, name: str, password: str, database: str = "") -> bool:
        """Whether the role gets into a database, by default its own."""
        try:
            with connected(self.port, name, password, database or name):
                return True
        except psycopg2.OperationalError:
            return False

    def all_is_there(self) -> bool:
        """Whether each account gets in with what its secret says."""
        return all(self.enters(name, self.password(name)) for name in NAMES)


@pytest.fixture
def place(database: int, aws: str) -> Place:
    """See :class:`Place`."""
    return Place(database, aws)


def test_each_database_has_a_role_that_owns_it_and_enters_no_other(place: Place) -> None:
    """Roles have no rights on the server, and make tables and schemas where they are at home."""
    done = place.run()
    assert "dagster: database made" in done and place.all_is_there()
    for name, password in place.passwords().items():
        for other in NAMES:
            assert place.enters(name, password, other) == (name == other)
        with connected(place.port, name, password, name) as cursor:
            cursor.execute("CREATE TABLE runs (n int)")
            cursor.execute("CREATE SCHEMA tuning")
            cursor.execute(
                "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls "
                "FROM pg_roles WHERE rolname = CURRENT_USER"
            )
            assert cursor.fetchone() == (False,)
    assert len(set(place.passwords().values())) == len(NAMES)
    assert min(map(len, place.passwords().values())) >= 40


def test_the_secrets_hold_what_deployments_read(place: Place) -> None:
    """Property names, users, databases: those of External Secrets and of Dagster's values."""
    place.run()
    wanted = {
        (data["remoteRef"]["key"], data["remoteRef"]["property"])
        for document in part("aws")
        if document["kind"] == "ExternalSecret"
        for data in document["spec"]["data"]
    }
    assert {(f"mlops/{name}-database", *place.content(name)) for name in NAMES} == wanted
    for name in ("mlflow", "tuning"):
        uri = urlsplit(place.content(name)["uri"])
        assert (uri.scheme, uri.username, uri.port) == ("postgresql+psycopg2", name, place.port)
        assert (uri.path, uri.query) == (f"/{name}", "sslmode=disable")
    postgresql = helm_values("production")["postgresql"]
    assert postgresql["postgresqlUsername"] == postgresql["postgresqlDatabase"] == "dagster"


def test_a_second_run_does_nothing(place: Place) -> None:
    """No deed, and the same versions of the secrets."""
    place.run()
    before = [place.versions(name) for name in SECRETS]
    assert place.run() == []
    assert [place.versions(name) for name in SECRETS] == before


def test_a_bootstrap_that_is_killed_anywhere_is_finished_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its deeds for one account; the others are made in the same way."""
    monkeypatch.setattr(bootstrap, "ACCOUNTS", bootstrap.ACCOUNTS[1:2])
    deeds = len(place.run())
    assert deeds == 5
    for cut in range(1, deeds):
        place.empty()
        assert len(place.run(cut=cut)) == cut
        place.run()
        assert place.enters("mlflow", place.password("mlflow")), cut
        assert place.run() == []
    with connected(place.port, "postgres") as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_auth_members "
            "WHERE member = 'master'::regrole AND grantor = 'master'::regrole"
        )
        assert cursor.fetchone() == (0,), "the master is still a member of a role"


def test_a_rotation_that_is_killed_anywhere_is_finished_by_the_next(place: Place) -> None:
    """At no time is the role's password one that no secret holds; no password is skipped."""
    place.run()
    old = place.passwords()
    deeds = len(place.run("mlflow"))
    assert deeds >= 3
    for cut in range(1, deeds + 1):
        before = place.password("mlflow")
        place.run("mlflow", cut=cut)
        known = {before, place.password("mlflow")}
        with contextlib.suppress(place.vault.exceptions.ResourceNotFoundException):
            known.add(place.password("mlflow", "AWSPENDING"))
        assert len(known) == 2
        # Until the role has the new one, what everybody reads is what works.
        assert cut > 1 or place.all_is_there()
        assert sum(place.enters("mlflow", each) for each in known) == 1
        place.run()
        assert place.all_is_there()
        assert {before, place.password("mlflow")} == known, "the new password was thrown away"
        assert not place.enters("mlflow", before)
        assert place.run() == []
    assert {name: place.password(name) for name in ("dagster", "tuning")} == {
        name: old[name] for name in ("dagster", "tuning")
    }


def test_a_role_gets_the_password_that_its_secret_says(place: Place) -> None:
    """As after a restore of an earlier day."""
    place.run()
    with connected(place.port, "master", MASTER_PASSWORD) as cursor:
        cursor.execute("ALTER ROLE dagster PASSWORD 'of-yesterday'")
    assert not place.all_is_there()
    assert place.run() == ["dagster: the role has the password of its secret"]
    assert place.all_is_there()


def test_uris_follow_the_server_and_keep_their_passwords(place: Place) -> None:
    """A restored instance has another address; a rotation before it does not come back."""
    place.run()
    place.run(*NAMES)
    before = place.passwords()
    moved = bootstrap.Server("localhost", place.port, "disable")
    assert {line.partition(":")[0] for line in place.steps(server=moved)} == {"mlflow", "tuning"}
    assert place.passwords() == before
    assert urlsplit(place.content("mlflow")["uri"]).hostname == "localhost"
    assert list(place.steps(server=moved)) == []


def test_what_else_a_secret_holds_stays(place: Place) -> None:
    """People put an owner or a note beside a password."""
    place.run()
    note = {**place.content("dagster"), "owner": "platform"}
    place.vault.put_secret_value(
        SecretId="mlops/dagster-database",
        SecretString=json.dumps(note),
        VersionStages=["AWSCURRENT"],
    )
    place.run("dagster")
    assert place.content("dagster")["owner"] == "platform"
    assert place.content("dagster") != note


def test_a_missing_secret_is_named(place: Place) -> None:
    """It is Terraform's to make."""
    place.vault.delete_secret(SecretId=SECRETS[1], ForceDeleteWithoutRecovery=True)
    with pytest.raises(bootstrap.BootstrapError, match=r"no secret mlops/mlflow-database.*module"):
        place.run()
    place.vault.create_secret(Name=SECRETS[1])
    place.run()
    assert place.all_is_there()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hunter2", "no JSON object"),
        ('["hunter2"]', "no JSON object"),
        ('{"note": "hunter2"}', "no uri with a password"),
        ('{"uri": "postgresql://hunter2@host/mlflow"}', "no uri with a password"),
    ],
)
def test_a_secret_that_is_something_else_is_named_and_not_shown(
    place: Place, text: str, says: str
) -> None:
    """Whoever put it there has to say what it was for."""
    place.vault.put_secret_value(SecretId=SECRETS[1], SecretString=text)
    with pytest.raises(bootstrap.BootstrapError) as raised:
        place.run()
    assert says in str(raised.value) and SECRETS[1] in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_somebody_elses_database_is_left_alone(place: Place) -> None:
    """It is named, and so is what to do."""
    with connected(place.port, "postgres") as cursor:
        cursor.execute("CREATE DATABASE tuning")
    with pytest.raises(bootstrap.BootstrapError, match=r"tuning belongs to postgres: give it to"):
        place.run()


def test_two_bootstraps_do_not_meet(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would put its own passwords."""
    monkeypatch.setattr(bootstrap, "_LOCK_MS", 200)
    first = place.steps()
    next(first)
    with pytest.raises(bootstrap.BootstrapError, match="another bootstrap runs"):
        place.run()
    first.close()
    monkeypatch.undo()
    place.run()
    assert place.all_is_there()


def program(place: Place, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The program as the Job runs it."""
    environment = {
        "PATH": os.environ["PATH"],
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": place.url,
        "DATABASE_ADDRESS": "127.0.0.1",
        "DATABASE_PORT": str(place.port),
        "DATABASE_MASTER_SECRET": MASTER_SECRET,
        "DATABASE_SSLMODE": "disable",
        **variables,
    }
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_secret_is_printed_and_none_reaches_the_servers_log(place: Place) -> None:
    """The server logs every statement here; it sees verifiers."""
    first = program(place)
    assert (first.returncode, first.stderr) == (0, "")
    secrets = [*place.passwords().values(), MASTER_PASSWORD]
    second = program(place, "--rotate")
    assert (second.returncode, second.stderr) == (0, "")
    secrets += place.passwords().values()
    assert len(set(secrets)) == 2 * len(NAMES) + 1
    with connected(place.port, "postgres") as cursor:
        cursor.execute("SHOW data_directory")
        (folder,) = cursor.fetchone()
    log = (Path(folder).parent / "log").read_text()
    assert log.count("ALTER ROLE") >= 2 * len(NAMES)
    written = log[log.rindex('CREATE ROLE "dagster"') :]
    for secret in secrets:
        assert secret not in written
        assert secret not in first.stdout + second.stdout


def test_a_wrong_password_of_the_master_is_one_line(place: Place) -> None:
    """No traceback, and no secret."""
    wrong = {"username": "master", "password": "hunter2"}
    place.vault.put_secret_value(SecretId=MASTER_SECRET, SecretString=json.dumps(wrong))
    done = program(place)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "PostgreSQL at 127.0.0.1" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_the_program_says_what_is_missing(place: Place) -> None:
    """Before it asks anybody."""
    done = program(place, DATABASE_MASTER_SECRET="")
    assert done.returncode == 2 and "required: --master-secret" in done.stderr


# -- the Job --------------------------------------------------------------------------------------


def job() -> dict[str, Any]:
    """The Job before its environment."""
    (found,) = read(MANIFESTS / "base" / "job.yaml")
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_jobs_files_hold_what_kubernetes_knows(version: str) -> None:
    """By strict schemas."""
    for name in ("job.yaml", "service-account.yaml"):
        for document in read(MANIFESTS / "base" / name):
            assert schema_problems(document, version) == []


def test_the_jobs_pod_is_unprivileged_and_has_an_account_of_its_own() -> None:
    """The account that may read the master's password is no other pod's."""
    pod = job()["spec"]["template"]["spec"]
    assert restricted(pod) == []
    assert pod["automountServiceAccountToken"] is False
    (account,) = read(MANIFESTS / "base" / "service-account.yaml")
    assert (account["metadata"]["namespace"], account["metadata"]["name"]) == (
        job()["metadata"]["namespace"],
        pod["serviceAccountName"],
    )
    assert pod["serviceAccountName"] not in {
        each["metadata"]["name"] for each in part("base") if each["kind"] == "ServiceAccount"
    }
    # Policies of its namespace let every pod reach DNS, AWS and PostgreSQL.
    for policy in ("to-dns", "to-aws-and-the-kubernetes-api", "to-postgresql"):
        (found,) = (
            each
            for each in part("guards")
            if (each["metadata"]["namespace"], each["metadata"]["name"]) == ("dagster", policy)
        )
        assert found["spec"]["podSelector"] == {}
    assert pod["priorityClassName"] in {
        each["metadata"]["name"] for each in part("base") if each["kind"] == "PriorityClass"
    }


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_job_is_told_where_the_database_is(environment: str) -> None:
    """The same place as Dagster, in variables that the program reads."""
    lines = (MANIFESTS / environment / "database.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    text = SCRIPT.read_text()
    assert all(f'"{name}"' in text for name in given)
    assert given["DATABASE_ADDRESS"] == helm_values(environment)["postgresql"]["postgresqlHost"]
    assert given["DATABASE_MASTER_SECRET"].startswith("arn:aws:secretsmanager:")


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_kustomize_makes_of_the_job_runs_the_script(environment: str) -> None:
    """With the environment's image; the rotation is the same with one argument more."""
    documents = rendered(f"../database/{environment}")
    made = named(documents, "Job", "database-bootstrap")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(".amazonaws.com/mlops-code-location:unset")
    script = named(documents, "ConfigMap", "database-bootstrap")
    assert script["data"] == {"bootstrap.py": SCRIPT.read_text()}
    assert {each["metadata"]["namespace"] for each in documents} == {"dagster"}
    assert {each["metadata"]["name"] for each in documents if each["kind"] == "ConfigMap"} == {
        *(source["configMapRef"]["name"] for source in container["envFrom"]),
        script["metadata"]["name"],
    }
    rotation = named(rendered(f"../database/{environment}-rotate"), "Job", "database-rotation")
    (rotating,) = rotation["spec"]["template"]["spec"]["containers"]
    assert rotating.pop("args") == ["--rotate"]
    container.pop("args", None)
    assert rotating == container
