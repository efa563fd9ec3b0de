"""The compute profiles of this installation: the platform's, and a team's own."""

import os
from functools import lru_cache
from pathlib import Path

from mlops_assets.core.compute import ComputeProfile, check_fallbacks, parse_profiles
from mlops_assets.core.errors import PermanentError

FILE = Path(__file__).parents[1] / "compute.yaml"
OWN_FILE_VARIABLE = "MLOPS_COMPUTE_PROFILES"
"""Environment variable that names a YAML file whose profiles are added, or replace others."""


def profiles() -> dict[str, ComputeProfile]:
    """All profiles by name. Raises PermanentError, with the file and field, for a wrong one."""
    return _read(os.environ.get(OWN_FILE_VARIABLE))


def profile_named(name: str) -> ComputeProfile:
    """The profile ``name``. Raises PermanentError where there is none."""
    known = profiles()
    if name not in known:
        raise PermanentError(
            f"there is no compute profile {name!r}; known: {', '.join(known)}. Choose one of them, "
            f"or add it to the file that {OWN_FILE_VARIABLE} names"
        )
    return known[name]


@lru_cache(maxsize=8)
def _read(own: str | None) -> dict[str, ComputeProfile]:
    import yaml

    found: dict[str, ComputeProfile] = {}
    for path in [FILE, *([Path(own)] if own else [])]:
        try:
            document = yaml.safe_load(path.read_text())
        except OSError as error:
            raise PermanentError(
                f"{OWN_FILE_VARIABLE} names {path}, which cannot be read: {error.strerror}"
            ) from error
        except yaml.YAMLError as error:
            raise PermanentError(f"{path} is no YAML: {error}") from error
        found |= parse_profiles(document, str(path))
    check_fallbacks(found, own or str(FILE))
    return found
