"""What the images of the cluster's tests have besides those of deployments/images."""

import shutil
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VISITS = Path(__file__).parent / "visits"

LONG_ROUNDS = 1500
"""Rounds that take a minute or two: long enough to be interrupted several times."""

SMALL = "small_visits"
"""A use case with little data, that also trains long enough."""

CROWD = tuple(f"crowd_{n}" for n in range(10))
"""Use cases that train at the same time."""


GUARDED = "guarded_visits"
"""A use case whose challengers become champion in stages, decided on a few hundred requests."""

GUARDED_CHANGES: dict[str, Any] = {
    "gate": {"rules": [{"metric": "log_loss", "against": "base_rate", "at_least": 0.0}]},
    "rollout": {
        "strategy": "guarded",
        "shadow_minutes": 0.1,
        "steps": [0.5],
        "step_minutes": 0.5,
        "step_requests": 50,
        # What needs the tables of a day, and what a busy machine decides.
        "quality": None,
        "scores": None,
        "latency": None,
        "errors": {"promote_below": 0.1, "min_requests": 100},
        "watch_hours": 1,
    },
}


def write_context(folder: Path) -> None:
    """This checkout's package with the tests' use cases, as the build context ``folder``.

    ``flight_delays`` trains longer, and no sensor runs by itself: the tests launch what they look
    at. The use cases of the crowd differ by name alone.
    """
    package = folder / "mlops_assets"
    shutil.copytree(
        ROOT / "mlops_assets", package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    sensors = package / "sensors.yaml"
    sensors.write_text(yaml.safe_dump(dict.fromkeys(("local", "replay", "staging"), "none")))
    _edit(package / "defs" / "flight_delays" / "defs.yaml", _train_longer)
    different = {name: {"compute": {"model": "gpu_spot"}} for name in (SMALL, *CROWD)}
    for name, changes in (different | {GUARDED: GUARDED_CHANGES}).items():
        target = package / "defs" / name
        shutil.copytree(VISITS, target, ignore=shutil.ignore_patterns("__pycache__"))
        named = {"name": name, **changes}
        _edit(target / "defs.yaml", lambda attributes, to=named: attributes.update(to))
    _edit(package / "defs" / SMALL / "defs.yaml", _train_longer)


def _train_longer(attributes: dict[str, Any]) -> None:
    model = attributes["model"]
    model["rounds"] = LONG_ROUNDS
    # So slowly that it never stops early.
    model["parameters"]["learning_rate"] = 0.003
    model["early_stopping_rounds"] = 200


def _edit(path: Path, change: Any) -> None:
    document = yaml.safe_load(path.read_text())
    change(document["attributes"])
    path.write_text(yaml.safe_dump(document, sort_keys=False))
