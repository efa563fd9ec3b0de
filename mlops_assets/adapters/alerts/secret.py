"""Secrets by reference: ``env:NAME`` or ``file:/path``, read when they are used."""

import os
from pathlib import Path

from mlops_assets.core.errors import PermanentError


def read_secret(reference: str) -> str:
    """What ``reference`` names, without the white space around it.

    Raises PermanentError, which names the reference and never a value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name, "").strip()
        if not value:
            raise PermanentError(f"the environment variable {name} is not set: set it to a secret")
        return value
    if kind == "file" and name:
        try:
            value = Path(name).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            # A decoding error shows bytes of the file, so only its kind is told.
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        else:
            reason = "" if value else "it is empty"
            if value:
                return value
        raise PermanentError(
            f"cannot read the secret file {name}: {reason}; mount it, readable for this process"
        )
    # Whoever wrote the secret itself here would find it in a log.
    raise PermanentError("a secret is referred to as env:NAME or file:/path, never written out")
