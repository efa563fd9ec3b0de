"""The bins in which a server counts features: the same for every model, replica and version, so
that they add up.

They show on a dashboard that something moved; drift is decided from the prediction log, in bins
that fit each feature.
"""

import numpy as np
import numpy.typing as npt

from mlops_assets.core.inference import Matrix
from mlops_assets.core.records import FeatureField, Signature

_MAGNITUDES = (*(step * 10.0**n for n in range(-2, 6) for step in (1, 2, 5)), 1e6)

FEATURE_EDGES = (*(-edge for edge in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)
"""Upper edges of a number's bins: 1, 2 and 5 times the powers of ten, both ways, and zero."""

MAX_CATEGORIES = 32
"""Categories of a feature that are counted each; the rest are counted together."""


class FeatureBins:
    """Where each feature's counters are: its bins, then missing, then unknown.

    A number has a bin for each edge and one above; a category one for each of the first
    ``MAX_CATEGORIES`` and one for the rest. Missing are null, NaN and what the model does not know;
    unknown are the last of these alone.
    """

    def __init__(self, signature: Signature) -> None:
        self.listed = tuple((field.name, _listed(field)) for field in signature.inputs)
        self._places: dict[str, int] = {}
        self.size = 0
        for name, categories in self.listed:
            self._places[name] = self.size
            self.size += bins_of(categories) + 2
        kinds = [categories is None for _, categories in self.listed]
        self._floats = np.flatnonzero(kinds)
        self._categories = np.flatnonzero(~np.array(kinds, dtype=bool))
        starts = np.array([self._places[name] for name, _ in self.listed], dtype=np.int64)
        rest = np.array([bins_of(categories) - 1 for _, categories in self.listed], dtype=np.int64)
        self._starts = starts
        self._rest = rest[self._categories]

    def unknown(self, name: str) -> int:
        """The place of the counter of unknown categories of ``name``."""
        categories = dict(self.listed)[name]
        return self._places[name] + bins_of(categories) + 1

    def counts(self, matrix: Matrix) -> npt.NDArray[np.int64]:
        """How many values of ``matrix``, of shape (rows, inputs), each counter gets."""
        numbers = matrix[:, self._floats]
        places = np.searchsorted(np.asarray(FEATURE_EDGES, dtype=np.float32), numbers)
        # NaN is sorted behind everything: the bin above the last edge, and one further.
        places = places + np.isnan(numbers) + self._starts[self._floats]
        codes = matrix[:, self._categories]
        missing = np.isnan(codes)
        kept = np.minimum(np.where(missing, 0, codes).astype(np.int64), self._rest)
        slots = np.where(missing, self._rest + 1, kept) + self._starts[self._categories]
        return np.bincount(np.concatenate([places.ravel(), slots.ravel()]), minlength=self.size)


def bins_of(categories: tuple[str, ...] | None) -> int:
    """The number of bins of a number (None), or of a category of which these are listed."""
    return len(FEATURE_EDGES) + 1 if categories is None else len(categories) + 1


def _listed(field: FeatureField) -> tuple[str, ...] | None:
    return None if field.type == "float" else field.categories[:MAX_CATEGORIES]
