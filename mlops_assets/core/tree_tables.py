"""A model's trees as tables of bits: XGBoost's probabilities for a fraction of the time.

QuickScorer (Lucchese et al., SIGIR 2015) without branches. Where a value lies among the thresholds
of its feature says which way every node of that feature goes, and so which leaves of all trees can
still be reached: one row of bits for each such place, made beforehand. A prediction looks up one
row for each feature; of the bits that all of them have, one is left in each tree, its leaf.

Features with few places share a table, with a row for each combination of their places.

A tree's leaves take one word of 64 bits, larger trees several. Time and memory grow with the words,
so models of many deep trees are refused (:data:`MAX_TABLE_BYTES`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.onnx_trees import probabilities
from mlops_assets.core.tree_walks import (
    ALL,
    BITS,
    Document,
    Floats,
    Places,
    Walked,
    Words,
    thresholds_of,
)

if TYPE_CHECKING:
    from mlops_assets.core.inference import Matrix, Model

MAX_TABLE_BYTES = 16 * 1024 * 1024
"""Larger tables do not stay in a processor's cache, and gain nothing: 200 trees of depth 6 on 20
features take 2 MB."""

MERGED_BYTES = 4 * 1024 * 1024
"""Up to here, and to twice their size, tables of features with few places are made one: a place for
each pair of theirs, and one row less to look up."""

CHUNK_ROWS = 128
"""Rows that are looked up at a time: their words stay in the cache."""

FEW_ROWS = 16
"""Up to here all features are looked up by one call, whose words are more than a chunk's."""

_MISSING = 0x7F800001
"""The order of a missing value: above infinity's."""

_ONE = np.uint64(1)


class TreeTables:
    """Tables that are ready. Any number of threads may predict at once."""

    def __init__(self, thresholds: Sequence[Floats], table: Words, leaves: "Matrix") -> None:
        """``table`` has a row for each place: those below, between and above a feature's
        ``thresholds`` (sorted), then missing; and a column for each word. ``leaves`` has the values
        of each word's bits, and of none of them, 0.
        """
        sizes = [len(values) + 2 for values in thresholds]
        groups = _groups(sizes, min(MERGED_BYTES, 2 * table.nbytes) // table[:1].nbytes)
        self._thresholds = tuple(thresholds)
        self._leaves = leaves.ravel()
        self._first_leaf: Places = (np.arange(len(leaves)) * leaves.shape[1])[:, None]
        self._table: Words = _merged(table, sizes, groups)
        looked_up = [feature for group in groups for feature in group]
        self._columns: Places = np.array(looked_up)
        # One sorted array for all features: in the upper half which one it is, of those that are
        # looked up, and the order of its value in the lower one.
        self._features: Places = (np.arange(len(sizes), dtype=np.int64) << 32)[:, None]
        orders: list[Places] = [
            np.append(_order(thresholds[n]), np.int32(_MISSING)) + feature
            for n, feature in zip(looked_up, self._features, strict=True)
        ]
        self._orders = np.concatenate(orders)
        # A group's row is the sum of what its features' places there are, each by its weight.
        self._groups: Places = np.cumsum([0, *map(len, groups[:-1])])
        self._weights: Places = np.array(
            [
                [math.prod(sizes[m] for m in group[n + 1 :])]
                for group in groups
                for n in range(len(group))
            ]
        )
        firsts = np.cumsum([0, *map(len, orders[:-1])])[:, None]
        starts = np.cumsum([0, *(math.prod(sizes[n] for n in group) for group in groups[:-1])])
        self._starts: Places = starts[:, None] - np.add.reduceat(
            firsts * self._weights, self._groups, axis=0
        )

    @property
    def nbytes(self) -> int:
        """Memory that the tables take."""
        return self._table.nbytes

    def predict(self, matrix: "Matrix") -> Floats:
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

    def _margins(self, matrix: "Matrix") -> Floats:
        # A bit's place is the number of bits below it; 64 where the word has none.
        words = self._words(self._places(matrix))
        words -= _ONE
        leaves = np.bitwise_count(words).T.astype(np.int64, order="C")
        leaves += self._first_leaf
        # All are leaves: "wrap" saves the check.
        values = self._leaves.take(leaves, mode="wrap")
        # One after the other in 32 bits, as XGBoost adds them.
        if values.shape[1] == 1:
            return np.add.accumulate(values[:, 0])[-1:]
        return np.add.reduce(values, axis=0)

    def _places(self, matrix: "Matrix") -> Places:
        """The table's rows, of shape (groups of features, rows)."""
        # By columns: what is searched next lies close to what was searched last.
        orders = _order(matrix.T.take(self._columns, axis=0)).astype(np.int64)
        orders += self._features
        places: Places = self._orders.searchsorted(orders.ravel(), side="right")
        places = places.reshape(orders.shape)
        places *= self._weights
        places = np.add.reduceat(places, self._groups, axis=0)
        places += self._starts
        return places

    def _words(self, places: Places) -> Words:
        """The bits that are left, of shape (rows, words)."""
        table = self._table
        if places.shape[1] <= FEW_ROWS:
            return np.bitwise_and.reduce(table.take(places, axis=0), axis=0)
        rows: list[Places] = list(places)
        words: Words = table.take(rows[0], axis=0)
        more: Words = np.empty_like(words)
        for places_of_one in rows[1:]:
            # All places are within the table: "clip" only saves a copy.
            table.take(places_of_one, axis=0, out=more, mode="clip")
            np.bitwise_and(words, more, out=words)
        return words


def tree_tables(model: "Model") -> TreeTables:
    """The tables of ``model``.

    Raises PermanentError for another kind of model than trees for a binary label, and for one
    whose tables would be too large.
    """
    document = msgspec.json.decode(bytes(model.booster.save_raw("json")), type=Document)
    learner = document.learner
    kind = learner.gradient_booster.name, learner.objective.name
    if kind != ("gbtree", "binary:logistic") or learner.gradient_booster.model is None:
        raise PermanentError(f"a {kind[0]} of {kind[1]} has no tables")
    trees = [Walked(tree) for tree in learner.gradient_booster.model.trees]
    thresholds = thresholds_of(trees, model.signature)
    starts = np.cumsum([0, *(len(values) + 2 for values in thresholds)])
    words = sum(tree.words for tree in trees)
    size = 8 * words * int(starts[-1])
    if not trees or size > MAX_TABLE_BYTES:
        raise PermanentError(
            f"the tables of {len(trees)} trees would take {size} bytes, at most {MAX_TABLE_BYTES} "
            "are made"
        )
    table = np.full((words, int(starts[-1])), ALL, dtype=np.uint64)
    leaves = np.zeros((words, BITS + 1), dtype=np.float32)
    column = 0
    for tree in trees:
        end = column + tree.words
        tree.fill(table[column:end], thresholds, starts)
        values = leaves[column:end, :BITS]
        for number, leaf in enumerate(tree.leaves):
            values[number // BITS, number % BITS] = tree.nodes.split_conditions[leaf]
        column = end
    # XGBoost begins its sum with the intercept.
    first = leaves[: trees[0].words, :BITS]
    first += np.float32(margin(learner.learner_model_param.base_score))
    return TreeTables(thresholds, np.ascontiguousarray(table.T), leaves)


def margin(base_score: str) -> float:
    """The intercept in log-odds, of what XGBoost writes: a probability, alone or in brackets."""
    # As XGBoost computes it, in 32 bits.
    return float(-np.log(np.float32(1) / np.float32(base_score.strip("[]")) - np.float32(1)))


def _groups(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Features by number, in groups that are looked up as one: those with the fewest places, as
    long as all together have at most ``most``.
    """
    groups: list[tuple[int, list[int]]] = sorted((size, [n]) for n, size in enumerate(sizes))
    total = sum(sizes)
    while len(groups) > 1:
        (few, one), (more, other) = groups[:2]
        total += few * more - few - more
        if total > most:
            break
        groups = sorted([(few * more, one + other), *groups[2:]])
    return [group for _, group in groups]


def _merged(table: Words, sizes: Sequence[int], groups: Sequence[Sequence[int]]) -> Words:
    """The rows of each group, one for each combination of its features' places."""
    parts = np.split(table, np.cumsum(sizes)[:-1])
    found: list[Words] = []
    for first, *others in groups:
        rows = parts[first]
        for n in others:
            rows = (rows[:, None] & parts[n]).reshape(-1, table.shape[1])
        found.append(rows)
    return np.concatenate(found)


def _order(values: Floats) -> npt.NDArray[np.int32]:
    """Integers in the order of ``values``, with missing ones behind all others."""
    bits = (values + np.float32(0)).view(np.int32)  # of the two zeros, one
    orders = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    np.copyto(orders, np.int32(_MISSING), where=np.isnan(values))
    return orders
