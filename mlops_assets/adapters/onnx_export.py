"""A model's trees as ONNX, for the server: ONNX Runtime answers small requests many times faster.

Written here and not by onnxmltools, whose converter needs scikit-learn and copies the whole branch
below a split once for each of its categories. Here a split on categories is a chain of comparisons
with codes that share the branches below, so that every node has the same mode, for which ONNX
Runtime has a loop of its own.

Equal models give equal bytes. An export is admitted only if it predicts what XGBoost does.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    import polars as pl

    from mlops_assets.adapters.xgboost_engine import TrainedModel
    from mlops_assets.core.inference import Matrix, Model
    from mlops_assets.core.records import Signature

MAX_NODES = 5_000_000
"""More are not exported: a file of ONNX ends at 2 GB."""

PARITY_ROWS = 1000
"""Rows of the training set that both are asked about."""

PARITY_VALUES = 20
"""Thresholds of each feature around which both are asked."""

# Read by every ONNX Runtime since 1.14.
_IR_VERSION = 8
_OPSETS = (("", 17), ("ai.onnx.ml", 3))

_ABOVE_CODES = 1e9
"""A threshold that every code is below."""


@dataclass(frozen=True)
class Export:
    """An ONNX file, or why there is none.

    ``difference`` is the largest between ONNX Runtime's and XGBoost's probabilities, over ``rows``
    rows.
    """

    data: bytes | None
    sha256: str | None
    refused: str | None
    difference: float | None = None
    rows: int = 0


def export_onnx(trained: "TrainedModel", frame: "pl.DataFrame") -> Export:
    """``trained`` as ONNX, if it predicts the same: for rows of ``frame``, for each input that is
    missing, each category, and values on both sides of the trees' thresholds.

    Whatever goes wrong is said in ``refused``: the model is good without.
    """
    import numpy as np

    from mlops_assets.core.inference import load_model, predict
    from mlops_assets.core.onnx_trees import TOLERANCE, load_onnx

    try:
        model = load_model(trained.data, trained.sha256)
        nodes = _nodes(model)
        data = _onnx_bytes(nodes, model)
        sha256 = hashlib.sha256(data).hexdigest()
        matrix = _parity_rows(nodes, model, frame)
        theirs = load_onnx(data, sha256, model).predict(matrix)
        difference = float(np.abs(theirs - predict(model, matrix)).max())
    except Exception as error:  # noqa: BLE001
        # A training of hours is not lost for a file that makes serving faster.
        return Export(None, None, f"{type(error).__name__}: {error}")
    if not difference <= TOLERANCE:
        refused = (
            f"ONNX Runtime's probabilities differ from XGBoost's by up to {difference:.2g}, "
            f"{TOLERANCE:g} is allowed"
        )
        return Export(None, None, refused, difference, len(matrix))
    return Export(data, sha256, None, difference, len(matrix))


class _Node(NamedTuple):
    """A node of a tree. A leaf has no branches, and its value is its weight; other nodes send
    smaller values to ``on_true``, and missing ones too where ``missing_is_true`` is 1.
    """

    tree: int
    node: int
    feature: int
    value: float
    on_true: int
    on_false: int
    missing_is_true: int
    leaf: bool


def _nodes(model: "Model") -> list[_Node]:
    import msgspec

    from mlops_assets.core.tree_tables import margin

    # XGBoost leaves the document's schema open.
    document: Any = msgspec.json.decode(bytes(model.booster.save_raw("json")))
    learner = document["learner"]
    name = learner["gradient_booster"]["name"]
    objective = learner["objective"]["name"]
    if (name, objective) != ("gbtree", "binary:logistic"):
        raise PermanentError(f"a {name} of {objective} is not exported")
    nodes: list[_Node] = []
    intercept = margin(learner["learner_model_param"]["base_score"])
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        nodes += _tree_nodes(number, tree, model.signature, intercept)
        intercept = 0.0
        if len(nodes) > MAX_NODES:
            raise PermanentError(f"the model has more than {MAX_NODES} nodes")
    return nodes


def _tree_nodes(
    number: int, tree: Any, signature: "Signature", intercept: float
) -> Iterator[_Node]:
    """``intercept`` is added to the leaves: sums are then XGBoost's, which begins with it."""
    import numpy as np

    features, values = tree["split_indices"], tree["split_conditions"]
    right, to_left = tree["right_children"], tree["default_left"]
    sets = _category_sets(tree)
    more = count(len(right))  # numbers of nodes that the tree itself does not have
    for node, low in enumerate(tree["left_children"]):
        high = right[node]
        if low < 0:
            weight = float(np.float32(intercept) + np.float32(values[node]))
            yield _Node(number, node, 0, weight, 0, 0, 0, True)
        elif node not in sets:
            yield _Node(number, node, features[node], values[node], low, high, to_left[node], False)
        else:
            split = (number, node, features[node])
            codes = len(signature.inputs[features[node]].categories)
            yield from _chain(split, sets[node], codes, (low, high, to_left[node]), more)


def _category_sets(tree: Any) -> dict[int, frozenset[int]]:
    """The codes that go right, for each node that splits on categories."""
    codes = tree["categories"]
    return {
        node: frozenset(codes[start : start + size])
        for node, start, size in zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
    }


def _chain(
    split: tuple[int, int, int],
    to_right: frozenset[int],
    codes: int,
    branches: tuple[int, int, int],
    more: Iterator[int],
) -> Iterator[_Node]:
    """Comparisons of a code with the ends of runs of codes that go the same way, one after the
    other, in place of ``split``: tree, node and feature. ``branches`` are left and right, and 1
    where missing values go left.

    ONNX Runtime lays each node out right before its false branch, which is that node's alone; true
    branches may be shared. A binary search needs more nodes for that, and measured no faster.
    """
    tree, node, feature = split
    left, right, missing_left = branches
    ends = {code for code in to_right if code - 1 not in to_right}
    ends |= {code + 1 for code in to_right if code + 1 not in to_right}
    # Where all codes go one way, the other is for missing values alone.
    inner: list[float] = sorted(end for end in ends if 0 < end < codes)
    goes_right = 0 in to_right
    for end in inner or [_ABOVE_CODES]:
        child, other = (right, left) if goes_right else (left, right)
        last = not inner or end == inner[-1]
        following = other if last else next(more)
        yield _Node(
            tree, node, feature, end, child, following, int(goes_right != missing_left), False
        )
        node, goes_right = following, not goes_right


def _onnx_bytes(nodes: Sequence[_Node], model: "Model") -> bytes:
    import onnx
    from onnx import TensorProto, helper

    from mlops_assets.core.onnx_trees import INPUT, MODEL_KEY, OUTPUT

    operator = helper.make_node("TreeEnsembleRegressor", [INPUT], [OUTPUT], domain="ai.onnx.ml")
    trees, numbers, features, values, on_true, on_false, missing, leaf = zip(*nodes, strict=True)
    leaves = [node for node in nodes if node.leaf]
    integers = {
        "n_targets": 1,
        "nodes_treeids": trees,
        "nodes_nodeids": numbers,
        "nodes_featureids": features,
        "nodes_truenodeids": on_true,
        "nodes_falsenodeids": on_false,
        "nodes_missing_value_tracks_true": missing,
        "target_ids": [0] * len(leaves),
        "target_treeids": [node.tree for node in leaves],
        "target_nodeids": [node.node for node in leaves],
    }
    floats = {
        # A leaf's is its weight, of which ONNX Runtime takes no notice here.
        "nodes_values": values,
        "target_weights": [node.value for node in leaves],
    }
    # helper.make_attribute looks at each item of a list, of which there are millions.
    for name, content in integers.items():
        attribute = operator.attribute.add(name=name)
        if isinstance(content, int):
            attribute.type, attribute.i = onnx.AttributeProto.INT, content
        else:
            attribute.type = onnx.AttributeProto.INTS
            attribute.ints.extend(content)
    for name, weights in floats.items():
        attribute = operator.attribute.add(name=name, type=onnx.AttributeProto.FLOATS)
        attribute.floats.extend(weights)
    modes = operator.attribute.add(name="nodes_modes", type=onnx.AttributeProto.STRINGS)
    modes.strings.extend(b"LEAF" if ends else b"BRANCH_LT" for ends in leaf)
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [operator],
        "trees",
        [rows(INPUT, TensorProto.FLOAT, [None, len(model.signature.inputs)])],
        [rows(OUTPUT, TensorProto.FLOAT, [None, 1])],
    )
    document = helper.make_model(
        graph,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in _OPSETS],
        producer_name="mlops-assets",
    )
    helper.set_model_props(document, {MODEL_KEY: model.sha256})
    return document.SerializeToString(deterministic=True)


def _parity_rows(nodes: Sequence[_Node], model: "Model", frame: "pl.DataFrame") -> "Matrix":
    """The first rows of ``frame`` and the last, and copies of one of them with each value changed:
    missing, each category, and thresholds of the trees with their neighbours on both sides.
    """
    import numpy as np

    from mlops_assets.core.inference import encode_frame

    signature = model.signature
    half = PARITY_ROWS // 2
    given = frame if frame.height <= PARITY_ROWS else frame.head(half).vstack(frame.tail(half))
    rows = encode_frame(given, signature)
    base = rows[:1] if len(rows) else np.zeros((1, len(signature.inputs)), dtype=np.float32)
    thresholds: dict[int, set[float]] = {}
    for node in nodes:
        if not node.leaf:
            thresholds.setdefault(node.feature, set()).add(node.value)
    changed = [rows, np.full_like(base, np.nan)]
    for number, input_ in enumerate(signature.inputs):
        if input_.type == "category":
            values = np.arange(len(input_.categories), dtype=np.float32)
        else:
            found = np.array(sorted(thresholds.get(number, ())), dtype=np.float32)
            found = found[:: max(1, len(found) // PARITY_VALUES)]
            ends = np.array([-3e38, 3e38], dtype=np.float32)
            beside = [np.nextafter(found, end) for end in ends]
            values = np.array([*chain(found, *beside, ends)], dtype=np.float32)
        copies = np.repeat(base, len(values) + 1, axis=0)
        copies[:, number] = [*values, np.nan]
        changed.append(copies)
    return np.concatenate(changed)
