"""The bytes of a checkpoint: read back as written, or refused with the reason."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.checkpoints import (
    Checkpoint,
    CheckpointError,
    dump_checkpoint,
    load_checkpoint,
)

KEY = "k" * 64
CHECKPOINT = Checkpoint(
    key=KEY,
    rounds=2,
    losses={"train": [0.5, 0.25], "validation": [0.6, 0.5]},
    model=b"{L\x00\n\n a model",
    interruptions=1,
    saved_at=datetime(2013, 3, 1, tzinfo=UTC),
)
DATA = dump_checkpoint(CHECKPOINT)


def signed(body: bytes) -> bytes:
    """A checkpoint whose digest is right, whatever is in it."""
    digest = hashlib.sha256(body).hexdigest().encode()
    return DATA.partition(b"\n")[0] + b"\n" + digest + b"\n" + body


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=20),
    st.binary(max_size=60),
    st.integers(0, 50),
)
def test_a_checkpoint_is_read_as_it_was_written(
    losses: list[tuple[float, float]], model: bytes, interruptions: int
) -> None:
    """Every log-loss to the last bit, NaN and infinity too, and any bytes of a model."""
    written = Checkpoint(
        key=KEY,
        rounds=len(losses),
        losses={"train": [a for a, _ in losses], "validation": [b for _, b in losses]},
        model=model,
        interruptions=interruptions,
        saved_at=datetime(2024, 1, 1, 12, 30, 1, 5, UTC),
    )
    read = load_checkpoint(dump_checkpoint(written), KEY)
    assert repr(read) == repr(written)


@settings(deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_a_checkpoint_that_is_cut_anywhere_is_refused(length: int) -> None:
    """As a store that lost the end would give it."""
    with pytest.raises(CheckpointError):
        load_checkpoint(DATA[:length], KEY)


@settings(deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_checkpoint_with_another_byte_anywhere_is_refused(place: int, flip: int) -> None:
    """Bits rot, and people edit."""
    altered = bytearray(DATA)
    altered[place] ^= flip
    with pytest.raises(CheckpointError):
        load_checkpoint(bytes(altered), KEY)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:-3], "cut or was altered"),
        (b"", "not as mlops-checkpoint-1"),
        (DATA.replace(b"mlops-checkpoint-1", b"mlops-checkpoint-2"), "'mlops-checkpoint-2'"),
        (b"\x80\x04\x95pickle", "not as mlops-checkpoint-1"),
        (signed(b"{}\nmodel"), "header cannot be read"),
        (signed(b""), "header cannot be read"),
        (signed(DATA.split(b"\n", 2)[2][:-1]), "contradicts its content"),
        (
            signed(DATA.split(b"\n", 2)[2].replace(b'"rounds":2', b'"rounds":3')),
            "contradicts its content: 3 rounds",
        ),
        (signed(DATA.split(b"\n", 2)[2].replace(b"2013-03-01", b"first of May")), "header cannot"),
    ],
)
def test_the_reason_of_a_refusal_is_said(data: bytes, reason: str) -> None:
    """So that whoever reads the log knows what happened to it."""
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(data, KEY)


def test_a_checkpoint_of_another_training_is_refused() -> None:
    """Copied from another folder, for instance."""
    with pytest.raises(CheckpointError, match="another training: its key is kkkkkkkkkkkkkkkk, not"):
        load_checkpoint(DATA, "f" * 64)
