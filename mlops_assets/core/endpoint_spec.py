"""Where a use case's champion answers, and with how many servers."""

from pydantic import Field, model_validator

from mlops_assets.core.spec_part import Spec


class ReplicasSpec(Spec):
    """How many servers answer, on Kubernetes."""

    min: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="Fewest servers: with 2 one answers while the other's node goes. 0 needs KEDA "
        "in the cluster, and the first request after a pause waits for a server. Default: 2.",
    )
    max: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Most servers; between the two, their number follows their load. Default: 2.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ReplicasSpec":
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, above max {self.max}: swap them, or raise max")
        return self


class EndpointSpec(Spec):
    """Where the champion answers."""

    host: str = Field(default="127.0.0.1", description="Address to bind. Default: loopback.")
    port: int = Field(default=8900, ge=1, le=65535, description="TCP port. Default: 8900.")
    max_body_mb: float = Field(
        default=16, gt=0, le=1024, description="Largest request body, in MiB. Default: 16."
    )
    max_rows: int = Field(
        default=10_000, ge=1, description="Most rows in one request. Default: 10000."
    )
    replicas: ReplicasSpec = Field(
        default=ReplicasSpec(), description="Servers on Kubernetes. Default: 2."
    )
