"""The retraining sensor as a code location, for Dagster's own daemon."""

import os
from pathlib import Path

import dagster as dg
from lifecycle_support import places_under
from retraining_support import definitions_of, retrained


@dg.definitions
def defs() -> dg.Definitions:
    """The sensor and its stages, with things in the folder RETRAINING_STATE."""
    return definitions_of(retrained(), places_under(Path(os.environ["RETRAINING_STATE"])))
