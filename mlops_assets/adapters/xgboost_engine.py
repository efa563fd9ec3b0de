"""Training with XGBoost: the same rows, parameters and package versions give the same bytes."""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_assets.adapters.boosting import (
    Course,
    OnRound,
    boost_until_told,
    course_of,
    plan_of,
)
from mlops_assets.core.errors import PermanentError, SchemaError
from mlops_assets.core.records import FeatureField, Signature
from mlops_assets.core.segments import PARTS, kept_rounds
from mlops_assets.core.spec import FeatureType, ModelSpec

if TYPE_CHECKING:
    import polars as pl
    import xgboost

    from mlops_assets.adapters.boosting import Boosted
    from mlops_assets.adapters.checkpoints import Place
    from mlops_assets.adapters.devices import Device
    from mlops_assets.core.inference import Matrix

MAX_CATEGORIES = 1000
"""Each category costs memory in every split and a place in the signature that requests carry."""

_RESERVED = {
    "objective": "the platform judges and serves probabilities of a binary label",
    "eval_metric": "early stopping, history and gate are about log-loss",
    "booster": "only gbtree takes categories and keeps its first rounds when the others are cut",
    "device": "where a step runs is not a property of the model",
    "nthread": "where a step runs is not a property of the model",
    "n_jobs": "where a step runs is not a property of the model",
    "seed": "write it as `seed` of the model",
    "random_state": "write it as `seed` of the model",
    "num_class": "the label is binary",
    "validate_parameters": "parameters are always checked",
    "seed_per_iteration": "each round is seeded, so that a training can be continued",
    "updater": "tree_method chooses it",
    "process_type": "trees are grown, not changed",
    "verbosity": "it would change the log of the whole process",
}
_UNUSED = re.compile(r"Parameters: \{(.*?)\} are not used", re.DOTALL)


@dataclass(frozen=True)
class TrainedModel:
    """A model file and how it came about.

    ``history`` has one log-loss per round that was tried, in order, also of the rounds that early
    stopping cut. ``importances`` is each feature's share of the total gain of all splits: it sums
    to 1, or is 0 for every feature where no tree has a split. ``course`` says how the training
    went, which is no property of the model.
    """

    data: bytes
    sha256: str
    signature: Signature
    rounds: int
    history: dict[str, list[float]]
    importances: dict[str, float]
    course: Course = field(default_factory=Course)


def _nobody(_: str) -> None:
    """Hears, and tells nobody."""


def train(
    frame: "pl.DataFrame",
    features: Mapping[str, FeatureType],
    *,
    label: str,
    part: str,
    spec: ModelSpec,
    output: str,
    on_round: OnRound | None = None,
    threads: int | None = None,
    place: "Place | None" = None,
    device: "Device" = "cpu",
    note: Callable[[str], None] = _nobody,
) -> TrainedModel:
    """A binary classifier of ``label``, fitted on the rows of ``frame`` whose ``part`` is "train".

    The rows whose part is "validation" decide when training stops; no other row is looked at, nor
    is a row without a label. The order of the rows is part of the result. ``features`` gives the
    inputs in order; categories are those of the train rows. ``output`` names the probability.
    ``threads`` (default: all that the process may use) changes the time, not the bytes.

    With a ``place``, checkpoints are kept there, and a training that was cut goes on from the last
    one to the bytes that it would have had; ``note`` hears of checkpoints that cannot be used or
    saved. On SIGTERM and SIGINT it trains on to where it can be cut, a few seconds at most, saves
    and raises InterruptedTrainingError, or for SIGINT what its handler raises. Without a place
    neither happens.

    Raises SchemaError for a column that is missing or of the wrong type and for infinite values,
    PermanentError for a part without rows or with one class, and for a wrong parameter.
    """
    # OpenMP reads it when XGBoost is loaded. Threads that spin while they wait take the cores from
    # those with work: where others compute too, two threads trained 3 to 8 times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import polars as pl
    import xgboost as xgb

    from mlops_assets.adapters.checkpoints import keeper_of
    from mlops_assets.core.inference import encode_frame, feature_types

    _check_columns(frame, features, label, part)
    rows = {
        name: frame.filter((pl.col(part) == name) & pl.col(label).is_not_null()) for name in PARTS
    }
    for name, table in rows.items():
        check_labels(table[label], name)
    signature = Signature(
        inputs=tuple(field_of(rows["train"][name], kind) for name, kind in features.items()),
        output=output,
    )
    parameters = checked_parameters(spec, signature)

    def matrix(name: str) -> "Matrix":
        try:
            return encode_frame(rows[name], signature)
        except SchemaError as error:
            raise SchemaError(f"{name} part of the training set: {error}") from error

    def quantised(name: str, reference: "xgboost.DMatrix | None") -> "xgboost.QuantileDMatrix":
        return xgb.QuantileDMatrix(
            matrix(name),
            rows[name][label].cast(pl.Float32).to_numpy(),
            feature_names=list(features),
            feature_types=feature_types(signature),
            enable_categorical=True,
            max_bin=parameters.get("max_bin"),
            nthread=threads,
            ref=reference,
        )

    train_data = quantised("train", None)
    matrices = {"train": train_data, "validation": quantised("validation", train_data)}
    plan = plan_of(spec, rows["train"].height, len(features))
    keeper = place and keeper_of(
        place, signature=signature, parameters=parameters, plan=plan, device=device, note=note
    )
    settings = parameters | {"device": device}
    if threads is not None:
        settings["nthread"] = threads
    boosted = boost_until_told(settings, matrices, plan, keeper, on_round)
    return trained_model(boosted, signature, course_of(boosted, plan, device, keeper))


def trained_model(boosted: "Boosted", signature: Signature, course: Course) -> TrainedModel:
    """The model of the rounds up to the best."""
    from mlops_assets.core.inference import dump_model

    rounds = kept_rounds(boosted.losses["validation"])
    kept = boosted.booster[:rounds]
    data = dump_model(kept, signature)
    return TrainedModel(
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        signature=signature,
        rounds=rounds,
        history={f"{name}_log_loss": list(boosted.losses[name]) for name in PARTS},
        importances=gain_shares(kept, signature),
        course=course,
    )


def _check_columns(
    frame: "pl.DataFrame", features: Mapping[str, FeatureType], label: str, part: str
) -> None:
    if not features:
        raise SchemaError("there are no features to train on: give the feature views some")
    missing = [name for name in (*features, label, part) if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"the training set lacks {', '.join(missing)}: it was built with other feature views; "
            "materialize it again"
        )


def check_labels(labels: "pl.Series", part: str) -> None:
    """SchemaError for labels other than 0 and 1, PermanentError for none or one class only."""
    field = {"train": "days", "validation": "validation_days"}[part]
    if labels.is_empty():
        raise PermanentError(
            f"the {part} part of the training set has no row with a label: "
            f"lengthen training_set.{field} or move training_set.end"
        )
    found = sorted(float(value) for value in labels.unique().to_list())
    if not set(found) <= {0.0, 1.0}:
        raise SchemaError(
            f"label {labels.name!r} has values other than 0 and 1 in the {part} part, such as "
            f"{next(value for value in found if value not in (0.0, 1.0))}: make it 0, 1 or null"
        )
    if len(found) == 1:
        raise PermanentError(
            f"every label in the {part} part of the training set is {found[0]:.0f}: nothing can be "
            f"learnt from one class; lengthen training_set.{field} or correct the label"
        )


def field_of(column: "pl.Series", kind: FeatureType) -> FeatureField:
    """The signature's input for a column of the train part; SchemaError for a wrong type."""
    import polars as pl

    if kind == "float":
        return FeatureField(name=column.name, type=kind)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise SchemaError(
            f"feature {column.name!r} has type {column.dtype}, a string is needed for a category: "
            "correct its feature view, or declare it as float"
        )
    categories = sorted(column.cast(pl.String).drop_nulls().unique().to_list())
    if len(categories) > MAX_CATEGORIES:
        raise PermanentError(
            f"feature {column.name!r} has {len(categories)} categories in the train part, "
            f"{MAX_CATEGORIES} are allowed: group the rare ones, or give a number in its place"
        )
    return FeatureField(name=column.name, type=kind, categories=tuple(categories))


def checked_parameters(spec: ModelSpec, signature: Signature) -> dict[str, object]:
    """XGBoost's parameters for ``spec``, after a round on two rows accepted them.

    XGBoost only warns of a name that it does not know, and trains without it.
    """
    for name, reason in _RESERVED.items():
        if name in spec.parameters:
            raise PermanentError(f"model.parameters: {name!r} cannot be set: {reason}")
    parameters: dict[str, object] = dict(spec.parameters)
    problem = _problem(parameters, signature)
    if problem is not None:
        # Few messages of XGBoost name the parameter; each one alone shows which it is.
        guilty = [name for name in parameters if _problem({name: parameters[name]}, signature)]
        names = ", ".join(f"{name} = {parameters[name]!r}" for name in guilty or parameters)
        raise PermanentError(f"model.parameters: XGBoost does not take {names}: {problem}")
    return parameters | {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "seed": spec.seed,
    }


def _problem(parameters: Mapping[str, object], signature: Signature) -> str | None:
    """What XGBoost has against ``parameters``, if anything."""
    import numpy as np
    import xgboost as xgb

    from mlops_assets.core.inference import feature_types

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            rows = xgb.QuantileDMatrix(
                np.zeros((2, len(signature.inputs)), dtype=np.float32),
                np.array([0, 1]),
                feature_names=[field.name for field in signature.inputs],
                feature_types=feature_types(signature),
                enable_categorical=True,
                max_bin=parameters.get("max_bin"),
                nthread=1,
            )
            settings = {"objective": "binary:logistic", "nthread": 1, **parameters}
            xgb.train(settings, rows, num_boost_round=1)
        except (xgb.core.XGBoostError, TypeError, ValueError) as error:
            return _first_line(str(error))
    unused = [match for warning in caught if (match := _UNUSED.search(str(warning.message)))]
    return f"its trees have no parameter {unused[0].group(1).strip()}" if unused else None


def _first_line(message: str) -> str:
    """XGBoost's message without time, source file and stack trace."""
    line = message.strip().partition("\n")[0]
    return re.sub(r"^\[[\d:]+\] \S+: (Check failed: [^:]*: )?", "", line)


def gain_shares(booster: "xgboost.Booster", signature: Signature) -> dict[str, float]:
    """Each feature's share of the gain that all splits had together, in the inputs' order."""
    gains = booster.get_score(importance_type="total_gain")
    shares = {field.name: float(gains.get(field.name, 0.0)) for field in signature.inputs}  # pyright: ignore[reportArgumentType] - a list only for linear boosters
    total = sum(shares.values())
    return {name: gain / total if total else 0.0 for name, gain in shares.items()}
