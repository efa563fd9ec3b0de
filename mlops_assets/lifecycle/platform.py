"""What the stages reach the outside world through, as Dagster resources."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import dagster as dg

from mlops_assets.core.errors import MissingPartitionsError, PermanentError
from mlops_assets.core.records import Record

if TYPE_CHECKING:
    from mlops_assets.adapters.chain import Ledgers
    from mlops_assets.adapters.lake import Lake
    from mlops_assets.adapters.tracking import Tracking


@dataclass(frozen=True)
class Places:
    """Where the platform keeps things: paths or ``s3://`` URLs."""

    lake: str
    tracking: str
    """MLflow's tracking and registry URI."""
    artifacts: str
    reports: str
    documents: str
    """What one stage tells the next, one JSON document per asset."""
    endpoints: str
    """Where endpoints run: a local folder, of processes of this machine with their states and
    prediction logs, ``kubernetes://<namespace>`` or ``sagemaker://<role ARN>``."""
    alert_channels: str = "console"
    """Where alerts go, separated by commas; see adapters.alerts.channels_of."""
    dagster: str = "http://127.0.0.1:3000"
    """Dagster's UI, which alerts link to."""
    runbooks: str = "docs/runbooks"
    """The folder of the runbooks, which alerts link to."""
    tuning: str = ""
    """SQLAlchemy URL of the studies of tuning; empty: beside MLflow's own tables."""
    online: str = ""
    """The online store: a folder, ``redis://…`` or ``dynamodb://<table>``; see
    adapters.online_store."""
    ledgers: str = ""
    """The ledgers of promotions and of retraining; empty: in the lake."""
    events: str = ""
    """URL of the SQS queue that hears of new objects in S3; empty: sources are asked in turn."""

    @classmethod
    def under(cls, folder: Path) -> "Places":
        """Everything in one local folder, with MLflow on SQLite."""
        return cls(
            lake=str(folder / "lake"),
            tracking=f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}",
            artifacts=str(folder / "artifacts"),
            reports=str(folder / "reports"),
            documents=str(folder / "documents"),
            endpoints=str(folder / "endpoints"),
            alert_channels=f"console, jsonl:{folder / 'alerts.jsonl'}",
            online=str(folder / "online"),
        )


class Platform(dg.ConfigurableResource):
    """The lake, the tracking server and the folders that all stages share."""

    lake_url: str
    tracking_uri: str
    artifacts_url: str
    reports_url: str
    endpoints_url: str
    documents_url: str
    alert_channels: str = "console"
    dagster_url: str = Places.dagster
    runbooks_url: str = Places.runbooks
    tuning_url: str = Places.tuning
    online_url: str = Places.online
    ledger_url: str = Places.ledgers
    events_url: str = Places.events

    @classmethod
    def at(cls, places: Places) -> "Platform":
        """The platform whose things are in ``places``."""
        return cls(
            lake_url=places.lake,
            tracking_uri=places.tracking,
            artifacts_url=places.artifacts,
            reports_url=places.reports,
            endpoints_url=places.endpoints,
            documents_url=places.documents,
            alert_channels=places.alert_channels,
            dagster_url=places.dagster,
            runbooks_url=places.runbooks,
            tuning_url=places.tuning,
            online_url=places.online,
            ledger_url=places.ledgers,
            events_url=places.events,
        )

    def lake(self) -> "Lake":
        """The lake's tables."""
        from mlops_assets.adapters.lake import Lake

        return Lake(self.lake_url)

    def ledgers(self) -> "Ledgers":
        """Where decisions are recorded."""
        from mlops_assets.adapters.chain import Ledgers

        return Ledgers(self.ledger_url or self.lake_url)

    def tracking(self) -> "Tracking":
        """The tracking server and model registry."""
        from mlops_assets.adapters.tracking import Tracking

        return Tracking(tracking_uri=self.tracking_uri, artifacts_url=self.artifacts_url)


class RecordIOManager(dg.ConfigurableIOManager):
    """Keeps each unpartitioned asset's record as one JSON document, replaced atomically."""

    documents_url: str

    def handle_output(self, context: dg.OutputContext, obj: Record | None) -> None:
        """Write the record; an asset without a value has nothing to keep."""
        from mlops_assets.adapters.storage import write_bytes

        if obj is not None:
            write_bytes(self._url(context.asset_key), obj.model_dump_json(indent=1).encode())

    def load_input(self, context: dg.InputContext) -> Record:
        """The record that the asset upstream wrote last."""
        from mlops_assets.adapters.storage import read_bytes

        kind = cast("type[Record]", context.dagster_type.typing_type)
        data = read_bytes(self._url(context.asset_key))
        if data is None:
            name = context.asset_key.to_user_string()
            raise MissingPartitionsError(f"{name} has not been materialized: do that first")
        try:
            return kind.model_validate_json(data)
        except ValueError as error:
            name = context.asset_key.to_user_string()
            raise PermanentError(
                f"the document of {name} is not a {kind.__name__}: materialize {name} again "
                f"({error})"
            ) from error

    def _url(self, key: dg.AssetKey) -> str:
        from mlops_assets.adapters.storage import join

        return join(self.documents_url, *key.path) + ".json"


_OPTIONAL = ("tuning", "online", "ledgers", "events")
"""Places whose variable may be missing: only some use cases need them, or another one is meant."""


@lru_cache(maxsize=8)
def platform_at(places: Places) -> Platform:
    """The platform with the environment's variables read, once for the process.

    Dagster makes a configurable resource anew for each step and each sensor's tick, which takes
    4 ms: more than all else that an idle tick does. Raises PermanentError for a variable that is
    not set.
    """
    found: dict[str, str] = {}
    for name, value in asdict(places).items():
        known = value.get_value() if isinstance(value, dg.EnvVar) else value
        if known is None and name in _OPTIONAL:
            continue
        if known is None:
            raise PermanentError(
                f"the environment variable {value.env_var_name} is not set: it says where the "
                f"platform's {name} is; set it where runs and sensors are executed"
            )
        found[name] = known
    return Platform.at(Places(**found))


def resources_at(places: Places) -> Mapping[str, object]:
    """The Dagster resources that the assets of every use case need."""
    return {
        "platform": dg.ResourceDefinition(
            lambda _: platform_at(places), description=Platform.__doc__
        ),
        "io_manager": RecordIOManager(documents_url=places.documents),
    }
