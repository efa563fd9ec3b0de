"""What every part of defs.yaml has in common."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A part of defs.yaml: unknown fields and numbers that are none are refused, values do not
    change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
