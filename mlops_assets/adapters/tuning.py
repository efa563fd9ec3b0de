"""Studies of trials, in a database that outlives the process: Optuna, asked one trial at a time.

A trial is asked, trained and told by one process. One whose process ended in between is failed by
the next process that opens the study, and asked again: how a trial is drawn depends on the trials
that have ended and on the seed alone, so that a study that was cut goes on as if it had not been.
"""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mlops_assets.adapters.mlflow_client import is_server, shown
from mlops_assets.core.errors import PermanentError, TransientError
from mlops_assets.core.tuning import State, TrialRecord, finished, rounded
from mlops_assets.core.tuning_spec import Choice, Range, TuningSpec, Value

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

SCHEMA = "tuning"
"""In PostgreSQL. Optuna and MLflow both keep their schema's revision in ``alembic_version``: in one
namespace, each would take the other's for its own."""

REPORT_EVERY = 5
"""Rounds between reports, each of which is a commit."""

_BUSY_SECONDS = 30

_CUT = "its process ended before it did"


class Pruned(Exception):  # noqa: N818 - no error: the trial is worse than others were
    """The trial need not go on."""


def storage_url(tracking_uri: str, tuning_url: str = "") -> str:
    """The SQLAlchemy URL of the studies: ``tuning_url``, or beside MLflow's own tables.

    Of SQLite a file in the same folder, of PostgreSQL a schema in the same database. Raises
    PermanentError where MLflow is a server, which keeps no studies, and there is no ``tuning_url``.
    """
    from sqlalchemy.engine import make_url

    if tuning_url:
        return tuning_url
    if is_server(tracking_uri):
        raise PermanentError(
            f"MLflow at {shown(tracking_uri)} is a server, which keeps no studies: set "
            "MLOPS_TUNING_URL to a database, like postgresql://user@host/database"
        )
    url = make_url(tracking_uri)
    if url.get_backend_name() == "sqlite":
        folder = (url.database or "").rpartition("/")[0]
        return f"sqlite:///{folder}/tuning.db" if folder else "sqlite:///tuning.db"
    return url.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Asked:
    """A trial that is to be trained. Every method raises PermanentError when another process has
    taken the study over, and TransientError when its database is busy or away.
    """

    trial: "Trial"
    study: "optuna.Study"
    url: str
    number: int
    slot: int
    """How many trials have ended before it, without those that failed."""
    parameters: dict[str, Value]

    def note(self, **values: object) -> None:
        """Remember something about the trial, in the words of a TrialRecord."""
        with _failures(self.url):
            for name, value in values.items():
                self.trial.set_user_attr(name, value)

    def report(self, rounds: int, log_loss: float, seconds: float) -> None:
        """What the trial has come to after ``rounds``; raises Pruned when that is not enough."""
        self.note(rounds=rounds, seconds=seconds, log_loss=log_loss)
        with _failures(self.url):
            self.trial.report(log_loss, rounds)
            if self.trial.should_prune():
                raise Pruned(f"worse than the median of the trials before it at round {rounds}")

    def end(self, state: State, log_loss: float | None = None) -> None:
        """The trial has ended: complete with its log-loss, pruned or failed."""
        from optuna.trial import TrialState

        states = {
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        with _failures(self.url):
            self.study.tell(self.trial, log_loss, state=states[state])


@dataclass(frozen=True)
class Study:
    """One study. The process that opened it last goes on with it."""

    study: "optuna.Study"
    spec: TuningSpec
    url: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.study.study_name

    def trials(self) -> list[TrialRecord]:
        """All trials that have ended, in the order of their numbers."""
        with _failures(self.url):
            found = self.study.get_trials(deepcopy=False)
        return [_record(one) for one in found if one.state.is_finished()]

    def fail_unfinished(self) -> list[TrialRecord]:
        """Fail each trial whose process has not told its end; returns them."""
        from optuna.trial import TrialState

        with _failures(self.url):
            left = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            for one in left:
                self.study.tell(one.number, state=TrialState.FAIL)
        numbers = {one.number for one in left}
        return [one for one in self.trials() if one.number in numbers]

    def ask(self, first: Mapping[str, Value]) -> Asked:
        """The next trial; ``first`` are parameters of the very first one, others are drawn."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        slot = len(finished(self.trials()))
        with _failures(self.url):
            # As it would be had no process ended: not a step in one long sequence.
            seed = zlib.crc32(f"{self.spec.seed} {slot}".encode())
            self.study.sampler = TPESampler(n_startup_trials=self.spec.startup_trials, seed=seed)
            waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if slot == 0 and first and not waiting:
                self.study.enqueue_trial(dict(first))
            trial = self.study.ask()
            space = self.spec.space
            parameters = {name: _suggested(trial, name, each) for name, each in space.items()}
            trial.set_user_attr("parameters", parameters)
        return Asked(trial, self.study, self.url, trial.number, slot, parameters)

    def mlflow_run_id(self) -> str | None:
        """The study's own MLflow run, if it has one yet."""
        with _failures(self.url):
            return self.study.user_attrs.get("mlflow_run_id")

    def note_mlflow_run(self, run_id: str) -> None:
        """Remember the study's own MLflow run."""
        with _failures(self.url):
            self.study.set_user_attr("mlflow_run_id", run_id)


def open_study(url: str, name: str, spec: TuningSpec) -> Study:
    """The study ``name`` in the database at ``url``, created where there is none.

    Raises TransientError when the database is busy or away.
    """
    import optuna
    from optuna.pruners import MedianPruner
    from sqlalchemy.engine import make_url

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _failures(url):
        engine: dict[str, object] = {"connect_args": {"timeout": _BUSY_SECONDS}}
        if make_url(url).get_backend_name() == "postgresql":
            _create_schema(url)
            options = f"-csearch_path={SCHEMA}"
            engine = {"connect_args": {"connect_timeout": 10, "options": options}}
        else:
            _make_folder(url)
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(url, engine_kwargs=engine),
            study_name=name,
            direction="minimize",
            load_if_exists=True,
            pruner=MedianPruner(
                n_startup_trials=spec.startup_trials,
                n_warmup_steps=spec.patience,
                interval_steps=REPORT_EVERY,
            ),
        )
    return Study(study, spec, url)


def _create_schema(url: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool
    from sqlalchemy.schema import CreateSchema

    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    with engine.begin() as connection:
        connection.execute(CreateSchema(SCHEMA, if_not_exists=True))


def _make_folder(url: str) -> None:
    from pathlib import Path

    from sqlalchemy.engine import make_url

    from mlops_assets.adapters.storage import make_folder

    database = make_url(url).database
    if not database or database == ":memory:":
        raise PermanentError(f"{shown(url)}: a study in memory is lost; give it a file")
    make_folder(Path(database).parent)


def _suggested(trial: "Trial", name: str, each: Range | Choice) -> Value:
    if isinstance(each, Choice):
        return cast("Value", trial.suggest_categorical(name, each.choices))
    if each.whole:
        step = 1 if each.step is None else int(each.step)
        return trial.suggest_int(name, int(each.low), int(each.high), step=step, log=each.log)
    return rounded(trial.suggest_float(name, each.low, each.high, step=each.step, log=each.log))


def _record(trial: "FrozenTrial") -> TrialRecord:
    from optuna.trial import TrialState

    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    noted = trial.user_attrs
    state = states[trial.state]
    return TrialRecord(
        number=trial.number,
        state=state,
        parameters=noted.get("parameters", {}),
        log_loss=None if state == "failed" else noted.get("log_loss"),
        rounds=noted.get("rounds", 0),
        seconds=noted.get("seconds", 0.0),
        reason=noted.get("reason", _CUT if state == "failed" else ""),
        mlflow_run_id=noted.get("mlflow_run_id", ""),
    )


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """The database's failures as the platform's own, without its password."""
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
    from sqlalchemy.exc import DBAPIError, OperationalError

    try:
        yield
    except UpdateFinishedTrialError:
        raise PermanentError(
            "the trial was ended by another process, which goes on with the study: let it, or "
            "stop it and tune again"
        ) from None
    except (StorageInternalError, OperationalError) as error:
        raise TransientError(
            f"the studies' database at {shown(url)} is busy or away ({type(error).__name__}): "
            "start it or wait, and tune again; it goes on where it was"
        ) from None
    except ImportError as error:
        raise PermanentError(f"{shown(url)}: {error}; install the database's driver") from error
    except DBAPIError as error:
        raise PermanentError(
            f"the studies' database at {shown(url)} refuses what is asked of it "
            f"({type(error.orig).__name__})"
        ) from None
