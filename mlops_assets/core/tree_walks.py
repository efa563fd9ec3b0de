"""The trees in XGBoost's own model file, walked: which leaves lie below each split, as bits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError

if TYPE_CHECKING:
    from mlops_assets.core.records import Signature

BITS = 64
"""Of a word."""

ALL = (1 << BITS) - 1

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Tree(msgspec.Struct):
    """Nodes by number; -1 is no child, and a leaf's condition its value."""

    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[int]
    categories: list[int]
    categories_nodes: list[int]
    categories_segments: list[int]
    categories_sizes: list[int]

    def category_sets(self) -> dict[int, list[int]]:
        """The codes that go right, for each node that splits on categories."""
        segments = zip(
            self.categories_nodes, self.categories_segments, self.categories_sizes, strict=True
        )
        return {node: self.categories[start : start + size] for node, start, size in segments}


class Trees(msgspec.Struct):
    """In the order in which they were trained."""

    trees: list[Tree]


class Booster(msgspec.Struct):
    """Without a model where it is no ``gbtree``."""

    name: str
    model: Trees | None = None


class Objective(msgspec.Struct):
    """What the margin means."""

    name: str


class Parameters(msgspec.Struct):
    """What XGBoost found out about the data."""

    base_score: str


class Learner(msgspec.Struct):
    """All but the version."""

    gradient_booster: Booster
    objective: Objective
    learner_model_param: Parameters


class Document(msgspec.Struct):
    """The model file."""

    learner: Learner


class Walked:
    """A tree, its leaves from left to right, and its splits, each before those below it."""

    def __init__(self, nodes: Tree) -> None:
        self.nodes = nodes
        self.sets = nodes.category_sets()
        self.leaves: list[int] = []
        self.splits: list[int] = []
        waiting = [0]
        while waiting:
            node = waiting.pop()
            if nodes.left_children[node] < 0:
                self.leaves.append(node)
            else:
                self.splits.append(node)
                waiting += (nodes.right_children[node], nodes.left_children[node])
        self.words = -(-len(self.leaves) // BITS)

    def fill(self, table: Words, thresholds: Sequence[Floats], starts: Places) -> None:
        """Take the bits of the leaves that are not reached out of ``table``, whose rows are this
        tree's words.
        """
        nodes = self.nodes
        below = {leaf: 1 << number for number, leaf in enumerate(self.leaves)}
        for node in reversed(self.splits):
            left, right = below[nodes.left_children[node]], below[nodes.right_children[node]]
            below[node] = left | right
            feature = nodes.split_indices[node]
            values, start = thresholds[feature], int(starts[feature])
            goes_right = np.ones(len(values) + 2, dtype=bool)
            if node in self.sets:
                goes_right[:-1] = False
                goes_right[[code for code in self.sets[node] if code <= len(values)]] = True
            else:
                threshold = np.float32(nodes.split_conditions[node])
                goes_right[: int(values.searchsorted(threshold)) + 1] = False
            goes_right[-1] = not nodes.default_left[node]
            for word, row in enumerate(table):
                lost = [(leaves >> (BITS * word)) & ALL for leaves in (left, right)]
                if any(lost):
                    keep_left, keep_right = np.uint64(ALL ^ lost[1]), np.uint64(ALL ^ lost[0])
                    row[start : start + len(goes_right)] &= np.where(
                        goes_right, keep_right, keep_left
                    )
        table &= np.array(
            [[(below[0] >> (BITS * word)) & ALL] for word in range(self.words)], dtype=np.uint64
        )


def thresholds_of(trees: Sequence[Walked], signature: "Signature") -> list[Floats]:
    """Each feature's, sorted: between the codes of a category, and those of a number's splits."""
    found: list[set[float]] = [set() for _ in signature.inputs]
    for tree in trees:
        for node in tree.splits:
            feature = tree.nodes.split_indices[node]
            field = signature.inputs[feature]
            if (field.type == "category") != (node in tree.sets):
                raise PermanentError(f"a split of {field.name!r} is not as its type {field.type}")
            if field.type == "float":
                found[feature].add(tree.nodes.split_conditions[node])
    return [
        np.unique(np.array([*found[n]], dtype=np.float32))
        if field.type == "float"
        else np.arange(1, max(1, len(field.categories)), dtype=np.float32)
        for n, field in enumerate(signature.inputs)
    ]
