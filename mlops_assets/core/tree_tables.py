"""A model's trees as tables of bits: XGBoost's probabilities for a fraction of the time.

QuickScorer (Lucchese et al., SIGIR 2015) without branches. Where a value lies among the thresholds
of its feature says which way every node of that feature goes, and so which leaves of all trees can
still be reached: one row of bits for each such place, made beforehand. A prediction looks up one
row for each feature; of the bits that all of them have, one is left in each tree, its leaf.

A tree's leaves take one word of 64 bits, larger trees several. Time and memory grow with the words,
so models of many deep trees are refused (:data:`MAX_TABLE_BYTES`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.onnx_trees import probabilities

if TYPE_CHECKING:
    from mlops_assets.core.inference import Matrix, Model
    from mlops_assets.core.records import Signature

MAX_TABLE_BYTES = 16 * 1024 * 1024
"""Larger tables do not stay in a processor's cache, and gain nothing: 200 trees of depth 6 on 20
features take 2 MB."""

CHUNK_ROWS = 128
"""Rows that are looked up at a time: their words stay in the cache."""

FEW_ROWS = 16
"""Up to here all features are looked up by one call, whose words are more than a chunk's."""

_BITS = 64
_ALL = (1 << _BITS) - 1
_MISSING = 0x7F800001
"""The order of a missing value: above infinity's."""

_Words = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


class _Tree(msgspec.Struct):
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


class _Trees(msgspec.Struct):
    trees: list[_Tree]


class _Booster(msgspec.Struct):
    name: str
    model: _Trees | None = None


class _Objective(msgspec.Struct):
    name: str


class _Parameters(msgspec.Struct):
    base_score: str


class _Learner(msgspec.Struct):
    gradient_booster: _Booster
    objective: _Objective
    learner_model_param: _Parameters


class _Document(msgspec.Struct):
    learner: _Learner


class TreeTables:
    """Tables that are ready. Any number of threads may predict at once."""

    def __init__(
        self, thresholds: Sequence["npt.NDArray[np.float32]"], table: _Words, leaves: "Matrix"
    ) -> None:
        """``table`` has a row for each place: those below, between and above a feature's
        ``thresholds`` (sorted), then missing; and a column for each word. ``leaves`` has the values
        of each word's bits, and of none of them, 0.
        """
        self._table = table
        self._leaves = leaves.ravel()
        self._first_leaf: _Places = np.arange(len(leaves)) * leaves.shape[1]
        # One sorted array for all features: the feature in the upper half, the order of its value
        # in the lower one.
        self._features: _Places = np.arange(len(thresholds), dtype=np.int64) << 32
        orders = [
            np.append(_order(values), np.int32(_MISSING)) + feature
            for values, feature in zip(thresholds, self._features, strict=True)
        ]
        self._orders = np.concatenate(orders)
        self._shifts: _Places = np.arange(len(thresholds))
        self._thresholds = tuple(thresholds)

    @property
    def nbytes(self) -> int:
        """Memory that the tables take."""
        return self._table.nbytes

    def predict(self, matrix: "Matrix") -> npt.NDArray[np.float32]:
        """Probability of a positive label for each row, of shape (rows,)."""
        if len(matrix) <= CHUNK_ROWS:
            return probabilities(self._margins(matrix))
        chunks = range(0, len(matrix), CHUNK_ROWS)
        margins = [self._margins(matrix[first : first + CHUNK_ROWS]) for first in chunks]
        return probabilities(np.concatenate(margins))

    def probes(self) -> "Matrix":
        """Rows that have each threshold of each feature, the value right below, and missing."""
        columns = [
            np.concatenate([values, np.nextafter(values, np.float32(-np.inf)), [np.nan]])
            for values in self._thresholds
        ]
        rows = max(map(len, columns), default=0)
        shifted = [np.resize(np.roll(column, n), rows) for n, column in enumerate(columns)]
        return np.column_stack(shifted).astype(np.float32)

    def _margins(self, matrix: "Matrix") -> npt.NDArray[np.float32]:
        # A bit's place is the number of bits below it; 64 where the word has none.
        words = self._words(self._places(matrix))
        bits: npt.NDArray[np.uint8] = np.bitwise_count(words - np.uint64(1))
        # One after the other in 32 bits, as XGBoost adds them.
        if len(bits) == 1:
            own = np.take(self._leaves, bits.ravel() + self._first_leaf)
            return np.add.accumulate(own)[-1:]
        values = np.take(self._leaves, np.ascontiguousarray(bits.T) + self._first_leaf[:, None])
        return np.add.reduce(values, axis=0)

    def _places(self, matrix: "Matrix") -> _Places:
        """The table's row for each value, of the shape of ``matrix``."""
        orders = _order(matrix) + self._features
        found = self._orders.searchsorted(orders.ravel(), side="right")
        return found.reshape(orders.shape) + self._shifts

    def _words(self, places: _Places) -> _Words:
        """The bits that are left, of shape (rows, words)."""
        if len(places) <= FEW_ROWS:
            return np.bitwise_and.reduce(np.take(self._table, places, axis=0), axis=1)
        by_feature = np.ascontiguousarray(places.T)
        words = np.take(self._table, by_feature[0], axis=0)
        more = np.empty_like(words)
        for places_of_one in by_feature[1:]:
            # All places are within the table: "clip" only saves a copy.
            np.take(self._table, places_of_one, axis=0, out=more, mode="clip")
            np.bitwise_and(words, more, out=words)
        return words


def tree_tables(model: "Model") -> TreeTables:
    """The tables of ``model``.

    Raises PermanentError for another kind of model than trees for a binary label, and for one
    whose tables would be too large.
    """
    document = msgspec.json.decode(bytes(model.booster.save_raw("json")), type=_Document)
    learner = document.learner
    kind = learner.gradient_booster.name, learner.objective.name
    if kind != ("gbtree", "binary:logistic") or learner.gradient_booster.model is None:
        raise PermanentError(f"a {kind[0]} of {kind[1]} has no tables")
    trees = [_Walked(tree) for tree in learner.gradient_booster.model.trees]
    thresholds = _thresholds(trees, model.signature)
    starts = np.cumsum([0, *(len(values) + 2 for values in thresholds)])
    words = sum(tree.words for tree in trees)
    size = 8 * words * int(starts[-1])
    if not trees or size > MAX_TABLE_BYTES:
        raise PermanentError(
            f"the tables of {len(trees)} trees would take {size} bytes, at most {MAX_TABLE_BYTES} "
            "are made"
        )
    table = np.full((words, int(starts[-1])), _ALL, dtype=np.uint64)
    leaves = np.zeros((words, _BITS + 1), dtype=np.float32)
    column = 0
    for tree in trees:
        end = column + tree.words
        tree.fill(table[column:end], thresholds, starts)
        values = leaves[column:end, :_BITS]
        for number, leaf in enumerate(tree.leaves):
            values[number // _BITS, number % _BITS] = tree.nodes.split_conditions[leaf]
        column = end
    # XGBoost begins its sum with the intercept.
    first = leaves[: trees[0].words, :_BITS]
    first += np.float32(margin(learner.learner_model_param.base_score))
    return TreeTables(thresholds, np.ascontiguousarray(table.T), leaves)


def margin(base_score: str) -> float:
    """The intercept in log-odds, of what XGBoost writes: a probability, alone or in brackets."""
    # As XGBoost computes it, in 32 bits.
    return float(-np.log(np.float32(1) / np.float32(base_score.strip("[]")) - np.float32(1)))


class _Walked:
    """A tree, its leaves from left to right, and its splits, each before those below it."""

    def __init__(self, nodes: _Tree) -> None:
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
        self.words = -(-len(self.leaves) // _BITS)

    def fill(
        self, table: _Words, thresholds: Sequence["npt.NDArray[np.float32]"], starts: _Places
    ) -> None:
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
                lost = [(leaves >> (_BITS * word)) & _ALL for leaves in (left, right)]
                if any(lost):
                    keep_left, keep_right = np.uint64(_ALL ^ lost[1]), np.uint64(_ALL ^ lost[0])
                    row[start : start + len(goes_right)] &= np.where(
                        goes_right, keep_right, keep_left
                    )
        table &= np.array(
            [[(below[0] >> (_BITS * word)) & _ALL] for word in range(self.words)], dtype=np.uint64
        )


def _thresholds(
    trees: Sequence[_Walked], signature: "Signature"
) -> list["npt.NDArray[np.float32]"]:
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


def _order(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Integers in the order of ``values``, with missing ones behind all others."""
    bits = (values + np.float32(0)).view(np.int32)  # of the two zeros, one
    orders = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    np.copyto(orders, np.int32(_MISSING), where=np.isnan(values))
    return orders
