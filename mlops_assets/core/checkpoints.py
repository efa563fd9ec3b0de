"""Checkpoints of a training: their bytes, and what is wrong with bytes that are none.

A checkpoint is one object: a line that names the format, a line with the sha256 of all that
follows, a line of JSON, then the model as XGBoost wrote it (UBJSON).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.segments import PARTS, Losses

_FORMAT = "mlops-checkpoint-1"


class CheckpointError(PermanentError):
    """The bytes are not a checkpoint of this training."""


@dataclass(frozen=True)
class Checkpoint:
    """A training as it was after ``rounds`` rounds.

    ``key`` is the training's (see core.segments.training_key); ``model`` is the booster with all
    its rounds; ``interruptions`` is how often the training had been continued until then.
    """

    key: str
    rounds: int
    losses: Losses
    model: bytes
    interruptions: int
    saved_at: datetime


class _Header(BaseModel):
    # A log-loss may be NaN: a training that went astray is continued all the same.
    model_config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")

    key: str
    rounds: int
    losses: dict[str, list[float]]
    interruptions: int
    saved_at: str
    model_bytes: int


def dump_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The bytes of ``checkpoint``."""
    header = _Header(
        key=checkpoint.key,
        rounds=checkpoint.rounds,
        losses={part: list(checkpoint.losses[part]) for part in PARTS},
        interruptions=checkpoint.interruptions,
        saved_at=checkpoint.saved_at.isoformat(),
        model_bytes=len(checkpoint.model),
    )
    body = header.model_dump_json().encode() + b"\n" + checkpoint.model
    return f"{_FORMAT}\n{hashlib.sha256(body).hexdigest()}\n".encode() + body


def load_checkpoint(data: bytes, key: str) -> Checkpoint:
    """The checkpoint of the training ``key`` in ``data``; raises CheckpointError with the reason
    where it is cut, altered, of another training, or of another version of the platform.
    """
    name, _, rest = data.partition(b"\n")
    if name != _FORMAT.encode():
        shown = name[:40].decode(errors="replace")
        raise CheckpointError(f"it is written as {shown!r}, not as {_FORMAT}")
    digest, _, body = rest.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError("its digest is not that of its content: it is cut or was altered")
    head, _, model = body.partition(b"\n")
    try:
        header = _Header.model_validate_json(head)
        saved_at = datetime.fromisoformat(header.saved_at)
    except ValueError as error:
        raise CheckpointError(f"its header cannot be read: {error}") from error
    if header.key != key:
        raise CheckpointError(
            f"it belongs to another training: its key is {header.key[:16]}, not {key[:16]}"
        )
    counts = {len(header.losses.get(part, ())) for part in PARTS}
    if counts != {header.rounds} or header.rounds < 1 or len(model) != header.model_bytes:
        raise CheckpointError(
            f"its header contradicts its content: {header.rounds} rounds, {sorted(counts)} "
            f"log-losses, {header.model_bytes} bytes of a model of {len(model)}"
        )
    return Checkpoint(
        key=header.key,
        rounds=header.rounds,
        losses=header.losses,
        model=model,
        interruptions=header.interruptions,
        saved_at=saved_at,
    )
