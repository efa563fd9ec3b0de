"""The tests' use case as a code location of its own, with a week of data."""

import os
from datetime import date
from pathlib import Path

import dagster as dg
from lifecycle_support import FOLDER, places_under, spec_of_visits

from mlops_assets.adapters.functions import Functions
from mlops_assets.core.spec import TrainingSetSpec
from mlops_assets.lifecycle.platform import resources_at
from mlops_assets.lifecycle.use_case import use_case_definitions

SHORT = {
    "end": date(2024, 3, 7),
    "training_set": TrainingSetSpec(
        end=date(2024, 3, 6), days=5, validation_days=1, holdout_days=1
    ),
}
"""Six days of data, of which the first five are trained on."""


@dg.definitions
def defs() -> dg.Definitions:
    """The use case whose things are in the folder VISITS_STATE."""
    places = places_under(Path(os.environ["VISITS_STATE"]))
    spec = spec_of_visits().model_copy(update=SHORT)
    return dg.Definitions.merge(
        use_case_definitions(spec, Functions("visits", FOLDER)),
        dg.Definitions(resources=resources_at(places), executor=dg.in_process_executor),
    )
