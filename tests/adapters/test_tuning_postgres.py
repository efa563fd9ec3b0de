"""Studies in PostgreSQL, in the database that MLflow keeps its own tables in."""

from services import PASSWORD, postgres
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mlops_assets.adapters.tuning import SCHEMA, open_study, storage_url
from mlops_assets.core.tuning_spec import TuningSpec

TUNING = TuningSpec.model_validate({"space": {"max_depth": {"low": 1, "high": 6}}})


def test_studies_share_a_database_with_mlflow_and_not_its_tables() -> None:
    """Both keep their revision in ``alembic_version``; a study is found again by its name."""
    with postgres(["mlflow"]) as port:
        url = storage_url(f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/mlflow")
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32))"))
            connection.execute(text("INSERT INTO alembic_version VALUES ('of_mlflow')"))
        first = open_study(url, "s", TUNING)
        asked = first.ask({"max_depth": 3})
        assert asked.parameters == {"max_depth": 3}
        asked.note(rounds=4, seconds=2.5, log_loss=0.25)
        asked.end("complete", 0.25)
        first.ask({})
        again = open_study(url, "s", TUNING)
        assert [one.number for one in again.fail_unfinished()] == [1]
        assert [one.state for one in again.trials()] == ["complete", "failed"]
        assert again.trials()[0].seconds == 2.5
        with engine.connect() as connection:
            kept = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
            assert list(kept) == ["of_mlflow"]
            tables = connection.execute(
                text("SELECT table_name FROM information_schema.tables WHERE table_schema = :name"),
                {"name": SCHEMA},
            ).scalars()
            assert {"studies", "trials", "alembic_version"} <= set(tables)
        for study in (first, again):
            study.study._storage.remove_session()
        engine.dispose()
