"""Checkpoints of trainings, in the artifacts' folder or bucket.

Each is one object below ``checkpoints/<use case>/<key of the training>/``, named after its rounds
and written as a whole. Two processes that train the same write the same rounds to the same names,
so that neither takes anything from the other. The newest is the one with the most rounds: no clock
is asked.
"""

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import PurePosixPath

from mlops_assets import clock
from mlops_assets.core.checkpoints import (
    Checkpoint,
    CheckpointError,
    dump_checkpoint,
    load_checkpoint,
)
from mlops_assets.core.errors import PlatformError
from mlops_assets.core.records import Signature
from mlops_assets.core.segments import Losses, Plan, training_key

FOLDER = "checkpoints"
"""Below the artifacts' URL."""

KEPT = 2
"""Checkpoints of a training that stay: the newest, and one to fall back to if that is damaged."""

_NAME = re.compile(r"round-(\d+)\.checkpoint")

Note = Callable[[str], None]
"""Hears what somebody should know, and what is done about it."""


@dataclass(frozen=True)
class Place:
    """Where the checkpoints of a training go: which use case's, and on which rows (digest)."""

    artifacts_url: str
    use_case: str
    training_set: str


def use_case_url(artifacts_url: str, use_case: str) -> str:
    """The folder of all checkpoints of a use case."""
    from mlops_assets.adapters.storage import join

    return join(artifacts_url, FOLDER, use_case)


class Keeper:
    """Saves one training's checkpoints and finds them again, and counts what that took.

    A checkpoint that cannot be saved costs no training: ``note`` hears of it, and the next is tried
    as if nothing were.
    """

    def __init__(self, place: Place, key: str, note: Note) -> None:
        from mlops_assets.adapters.storage import join

        self.key = key
        self.url = join(use_case_url(place.artifacts_url, place.use_case), key)
        self.seconds = 0.0
        self.saved = 0
        self.failures = 0
        self.refused: list[str] = []
        self.interruptions = 0
        self._note = note
        self._newest = 0

    def found(self) -> Iterator[Checkpoint]:
        """The checkpoints of this training, newest first; each other object is refused.

        Raises TransientError when the store does not answer: to begin anew would cost more than to
        try again, and the rows are in the same store.
        """
        from mlops_assets.adapters.storage import read_bytes

        for name in sorted(_rounds_by_name(self.url), key=_rounds_of, reverse=True):
            data = read_bytes(f"{self.url}/{name}")
            if data is None:
                continue  # a run that trains the same has removed it
            try:
                checkpoint = load_checkpoint(data, self.key)
            except CheckpointError as error:
                self.refuse(_rounds_of(name), str(error))
                continue
            yield checkpoint

    def refuse(self, rounds: int, reason: str) -> None:
        """Say that the checkpoint of so many rounds is not trained on, and why."""
        self.refused.append(f"checkpoint of {rounds} rounds is not used: {reason}")
        self._note(f"{self.refused[-1]} ({self.url})")

    def resume(self, checkpoint: Checkpoint) -> None:
        """The training goes on from ``checkpoint``."""
        self._newest = checkpoint.rounds
        self.interruptions = checkpoint.interruptions + 1

    def save(self, rounds: int, losses: Losses, model: bytes) -> bool:
        """Keep the training as it is after ``rounds`` rounds; returns whether it is kept."""
        from mlops_assets.adapters.storage import write_bytes

        if rounds == self._newest:
            return True
        started = time.monotonic()
        checkpoint = Checkpoint(
            self.key, rounds, losses, model, self.interruptions, saved_at=clock.now()
        )
        try:
            write_bytes(f"{self.url}/{_name(rounds)}", dump_checkpoint(checkpoint))
        except PlatformError as error:
            self.failures += 1
            self._note(
                f"the checkpoint of {rounds} rounds could not be saved, training goes on and tries "
                f"again with the next: {error}"
            )
            return False
        finally:
            self.seconds += time.monotonic() - started
        self.saved += 1
        self._newest = rounds
        self._remove_older()
        return True

    def _remove_older(self) -> None:
        started = time.monotonic()
        try:
            older = sorted(_rounds_by_name(self.url), key=_rounds_of, reverse=True)
            for name in older[KEPT:]:
                _remove_object(f"{self.url}/{name}")
        except (OSError, PlatformError) as error:
            # What stays is removed with the folder.
            self._note(f"old checkpoints could not be removed: {error}")
        self.seconds += time.monotonic() - started


def keeper_of(
    place: Place,
    *,
    signature: Signature,
    parameters: Mapping[str, object],
    plan: Plan,
    device: str,
    note: Note,
) -> Keeper:
    """The keeper of the training that all this describes, with XGBoost and processor as they are.

    ``parameters`` have neither threads nor device. Where several processes train one booster
    together, their number is one of the ``parameters``: it changes the rounding.
    """
    key = training_key(
        training_set=place.training_set,
        signature=signature,
        parameters=parameters,
        plan=plan,
        device=device,
        xgboost=metadata.version("xgboost"),
        machine=platform.machine(),
    )
    return Keeper(place, key, note)


def discard(url: str, note: Note) -> None:
    """Remove the checkpoints of one training, whose model is registered."""
    try:
        _remove_folder(url)
    except (OSError, PlatformError) as error:
        note(f"the checkpoints below {url} could not be removed, vacuum will: {error}")


def remove_abandoned(artifacts_url: str, use_case: str, retention: timedelta) -> int:
    """Remove the trainings of a use case whose last checkpoint is older than ``retention``.

    The age is what the checkpoint says. One that cannot be read is removed too: it is never trained
    on. A training that is still under way would lose nothing but its way back, and saves again.
    Returns how many were removed. Raises PlatformError when the store does not answer.
    """
    from mlops_assets.adapters.storage import join, read_bytes

    folder = use_case_url(artifacts_url, use_case)
    removed = 0
    for key in sorted(_names(folder, folders=True)):
        url = join(folder, key)
        saved = []
        for name in _rounds_by_name(url):
            try:
                saved.append(load_checkpoint(read_bytes(f"{url}/{name}") or b"", key).saved_at)
            except CheckpointError:
                continue
        if not saved or clock.now() - max(saved) > retention:
            _remove_folder(url)
            removed += 1
    return removed


def _name(rounds: int) -> str:
    return f"round-{rounds:06d}.checkpoint"


def _rounds_of(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else -1


def _rounds_by_name(url: str) -> list[str]:
    return [name for name in _names(url, folders=False) if _NAME.fullmatch(name)]


def _names(url: str, *, folders: bool) -> list[str]:
    """The names of the objects, or of the folders, right below ``url``."""
    from pyarrow import fs

    from mlops_assets.adapters.storage import failure, filesystem

    files, path = filesystem(url)
    kind = fs.FileType.Directory if folders else fs.FileType.File
    try:
        found = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise failure(error, "list", url) from error
    return [PurePosixPath(each.path).name for each in found if each.type == kind]


def _remove_object(url: str) -> None:
    from mlops_assets.adapters.storage import filesystem

    files, path = filesystem(url)
    try:
        files.delete_file(path)
    except FileNotFoundError:
        return  # a run that trains the same was quicker


def _remove_folder(url: str) -> None:
    from mlops_assets.adapters.storage import failure, filesystem

    files, path = filesystem(url)
    try:
        files.delete_dir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failure(error, "remove", url) from error
