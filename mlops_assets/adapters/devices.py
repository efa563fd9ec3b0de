"""Where XGBoost computes: on this machine's processors, or on its GPU."""

import json
import os
import warnings
from collections.abc import Callable
from typing import Literal

from mlops_assets.core.errors import PermanentError

ENV = "MLOPS_DEVICE"
"""Environment variable: ``cpu``, ``cuda`` (a GPU is demanded) or ``auto`` (a GPU is welcome)."""

Device = Literal["cpu", "cuda"]


def device(note: Callable[[str], None], has_gpu: Callable[[], bool] | None = None) -> Device:
    """The device that the environment asks for and this machine has.

    Unset means ``auto``. Where ``auto`` was asked for, ``note`` hears that there is no GPU.
    ``has_gpu`` finds out whether there is one (default: asks XGBoost). Raises PermanentError for
    ``cuda`` without a GPU, and for another word.
    """
    asked = os.environ.get(ENV)
    if asked not in (None, "", "cpu", "cuda", "auto"):
        raise PermanentError(f"{ENV} is {asked!r}; it has to be one of auto, cpu, cuda")
    if asked == "cpu":
        return "cpu"
    if (has_gpu or xgboost_sees_gpu)():
        return "cuda"
    if asked == "cuda":
        raise PermanentError(
            f"{ENV} is cuda, but XGBoost sees no GPU here: give the step a node with one and an "
            "image with CUDA's driver libraries, or a compute profile whose GPU is not required"
        )
    if asked == "auto":
        note("there is no GPU here: training on the CPU instead, which takes longer")
    return "cpu"


def xgboost_sees_gpu() -> bool:
    """Whether XGBoost was built for CUDA and finds a GPU that it can use."""
    import numpy as np
    import xgboost as xgb

    if not xgb.build_info().get("USE_CUDA"):
        return False
    with warnings.catch_warnings():
        # It says that it goes on without one, which is the answer.
        warnings.simplefilter("ignore")
        # Without rows it would not look.
        rows = xgb.DMatrix(np.zeros((2, 1), dtype=np.float32), [0, 1], nthread=1)
        config = json.loads(xgb.Booster({"device": "cuda", "nthread": 1}, [rows]).save_config())
    return str(config["learner"]["generic_param"]["device"]).startswith("cuda")
