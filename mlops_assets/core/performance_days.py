"""A day's performance as sums: realized with labels, or estimated before they come.

Both are one computation. A row counts as ``chance`` of a positive and ``1 - chance`` of a
negative: with the label for a chance it is the realized performance; with a calibrated score, what
is to be expected of it (confidence-based performance estimation). An estimate holds as long as
rows of equal score are positives as often as they were where the calibration was fitted: drift of
the features is seen, drift of their meaning is not. Hence the audit, once labels are there.

A window costs as much as it has days, whatever its rows. Log-loss and Brier score are sums of
rows. For roc_auc, ece and confusion there are sums in bins of the score, which are the same for
each model and day, so that any days add up: 1/32 wide in log-odds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from mlops_assets.core.calibration import (
    Calibration,
    Fit,
    IsotonicCalibration,
    PlattCalibration,
    calibrated,
    cross_fitted,
    fit_isotonic,
)
from mlops_assets.core.day_bootstrap import Codes, Matrix
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.metrics import Numbers, Vector, checked, log_losses, squared_errors
from mlops_assets.core.records import Record

Days = npt.NDArray[np.generic] | Sequence[date] | Sequence[str]
"""The day of each row: dates, or ISO dates as text."""
Kind = Literal["realized", "estimated"]

REFERENCE = "reference"
"""The role of rows that no endpoint has answered: a model's own validation and holdout."""

_PER_LOGIT = 32
# Scores closer to 0 or 1 than 1.1e-7, the precision of 32-bit floats, share the outermost bins.
_LIMIT = 16 * _PER_LOGIT
_BINS = 2 * _LIMIT
# Columns of a table of days, before the three blocks of its bins.
ROWS, LOG_LOSS, BRIER, OWN_PAIRS, _HEAD = range(5)
Block = Literal["rows", "positives", "scores"]
_BLOCKS: tuple[Block, ...] = ("rows", "positives", "scores")


class DayStatistics(Record):
    """What a day's answers of one model version in one role add up to.

    ``bins`` are the score bins with rows, rising; ``bin_*`` has one item for each.
    """

    kind: Kind
    day: date
    version: int
    role: str
    rows: int
    log_loss: float
    """Sum over rows, in nats."""
    brier: float
    """Sum over rows."""
    own_pairs: float
    """Sum of ``chance * (1 - chance)``: a row makes no pair with itself, which roc_auc corrects."""
    bins: tuple[int, ...]
    bin_rows: tuple[int, ...]
    bin_positives: tuple[float, ...]
    bin_scores: tuple[float, ...]
    """Sum of the scores."""


class Reference(Record):
    """A model version on labelled days that it was not fitted to: what it is compared with.

    ``estimated`` is of the same days as ``realized``, each day's by a calibration that was fitted
    without it: their difference is how far an estimate can be off.
    """

    version: int
    calibration: Calibration
    realized: tuple[DayStatistics, ...]
    estimated: tuple[DayStatistics, ...]


@dataclass(frozen=True)
class Sums:
    """Sums over days, one row for each sample: ``matrix`` has the columns of a table of days."""

    matrix: Matrix
    bins: Codes
    """The score bin of each column of a block, rising."""

    def block(self, name: Block) -> Matrix:
        """A sum of each bin, of shape (samples, bins)."""
        start = _HEAD + _BLOCKS.index(name) * len(self.bins)
        return self.matrix[:, start : start + len(self.bins)]


def realized_days(
    days: Days,
    labels: Numbers,
    scores: Numbers,
    *,
    versions: Sequence[int] | int,
    roles: Sequence[str] | str,
) -> tuple[DayStatistics, ...]:
    """Outcomes as sums for each day, model version and role, in this order.

    All have shape (rows,); a single version or role stands for all rows. Rows whose label has not
    come are to be left out.

    Raises PermanentError for no rows, unequal lengths, a label that is neither 0 nor 1, a score
    that is no probability, and a day that is no date.
    """
    y, p = checked(labels, scores)
    return _statistics("realized", days, y, p, versions, roles)


def estimated_days(
    calibration: IsotonicCalibration | PlattCalibration,
    days: Days,
    scores: Numbers,
    *,
    version: int,
    roles: Sequence[str] | str,
) -> tuple[DayStatistics, ...]:
    """What outcomes are to be expected of one model version's answers, as :func:`realized_days`.

    The calibration is that of the version. Raises PermanentError as :func:`realized_days` does.
    """
    p = checked(np.zeros(len(scores)), scores)[1]
    return _statistics("estimated", days, calibrated(calibration, p), p, version, roles)


def reference_of(
    days: Days, labels: Numbers, scores: Numbers, *, version: int, fit: Fit = fit_isotonic
) -> Reference:
    """The reference of a model version, from labelled rows that it was not fitted to.

    The calibration kept is fitted to all rows; the errors come from calibrations without the day.
    Raises PermanentError as :func:`realized_days` does, for one day, and for one class.
    """
    y, p = checked(labels, scores)
    _, code = np.unique(as_days(days, len(y)), return_inverse=True)
    calibration = fit(y, p)
    expected = cross_fitted(y, p, code.astype(np.intp), fit)
    return Reference(
        version=version,
        calibration=calibration,
        realized=_statistics("realized", days, y, p, version, REFERENCE),
        estimated=_statistics("estimated", days, expected, p, version, REFERENCE),
    )


def tables(*groups: Sequence[DayStatistics], binned: bool = True) -> tuple[list[Matrix], Codes]:
    """Each group as a table of its days, rising, and the score bins of the columns of all.

    Versions and roles of one day are added up. Shape (days, columns) each, the same columns for
    all groups. Without bins, which losses do without, there are a hundred times fewer columns.
    """
    used = [b for group in groups for item in group for b in item.bins] if binned else []
    bins = np.unique(np.array(used, dtype=np.intp))
    return [_table(group, bins) for group in groups], bins


def _table(statistics: Sequence[DayStatistics], bins: Codes) -> Matrix:
    row_of = {day: row for row, day in enumerate(sorted({item.day for item in statistics}))}
    table = np.zeros((len(row_of), _HEAD + len(_BLOCKS) * len(bins)))
    # The order of days and roles must not show in the last digit.
    for item in sorted(statistics, key=lambda item: (item.day, item.version, item.role)):
        row = table[row_of[item.day]]
        row[:_HEAD] += (item.rows, item.log_loss, item.brier, item.own_pairs)
        if not len(bins):
            continue
        at = _HEAD + np.searchsorted(bins, np.array(item.bins, dtype=np.intp))
        for number, values in enumerate((item.bin_rows, item.bin_positives, item.bin_scores)):
            row[at + number * len(bins)] += values
    return table


def kind_of(statistics: Sequence[DayStatistics]) -> Kind:
    """Whether ``statistics`` are realized or estimated.

    Raises PermanentError for none, for both, and for a day of a version and role that comes twice.
    """
    if not statistics:
        raise PermanentError("there are no days to judge: choose a window that has predictions")
    kinds: set[Kind] = {item.kind for item in statistics}
    if len(kinds) > 1:
        raise PermanentError(
            "the window mixes realized and estimated days: choose one kind for all days"
        )
    seen: set[tuple[date, int, str]] = set()
    for item in statistics:
        key = (item.day, item.version, item.role)
        if key in seen:
            raise PermanentError(
                f"{item.day} comes twice for version {item.version} as {item.role}: its rows "
                "would count double; give each day once"
            )
        seen.add(key)
    return kinds.pop()


def check_version(statistics: Sequence[DayStatistics], reference: Reference) -> None:
    """Raises PermanentError where ``statistics`` are of another version than ``reference``."""
    for item in statistics:
        if item.version != reference.version:
            raise PermanentError(
                f"{item.day} is of version {item.version}, the reference of version "
                f"{reference.version}: give each version its own reference"
            )


def _statistics(
    kind: Kind,
    days: Days,
    chances: Vector,
    scores: Vector,
    versions: Sequence[int] | int,
    roles: Sequence[str] | str,
) -> tuple[DayStatistics, ...]:
    n = len(scores)
    columns = [as_days(days, n), _spread(versions, n, "versions"), _spread(roles, n, "roles")]
    group = np.zeros(n, dtype=np.intp)
    for column in columns:
        found, code = np.unique(column, return_inverse=True)
        group = group * len(found) + code
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    count = len(first)

    def sums(values: Vector) -> list[float]:
        return np.bincount(group, weights=values, minlength=count).tolist()

    def expected(of_rows: Callable[[Vector, Vector], Vector]) -> Vector:
        of_positives, of_negatives = of_rows(np.ones(n), scores), of_rows(np.zeros(n), scores)
        return chances * of_positives + (1 - chances) * of_negatives

    log_loss, brier = sums(expected(log_losses)), sums(expected(squared_errors))
    own_pairs = sums(chances * (1 - chances))
    cell, at = np.unique(group * _BINS + _bins_of(scores), return_inverse=True)
    rows = np.bincount(at)
    positives = np.bincount(at, weights=chances)
    total = np.bincount(at, weights=scores)
    ends = np.searchsorted(cell, np.arange(count + 1) * _BINS)
    result: list[DayStatistics] = []
    for number in range(count):
        inside = slice(int(ends[number]), int(ends[number + 1]))
        day, version, role = (column[first[number]] for column in columns)
        result.append(
            DayStatistics(
                kind=kind,
                day=cast("date", day.item()),
                version=int(version),
                role=str(role),
                rows=int(rows[inside].sum()),
                log_loss=log_loss[number],
                brier=brier[number],
                own_pairs=own_pairs[number],
                bins=tuple((cell[inside] - number * _BINS).tolist()),
                bin_rows=tuple(rows[inside].tolist()),
                bin_positives=tuple(positives[inside].tolist()),
                bin_scores=tuple(total[inside].tolist()),
            )
        )
    return tuple(result)


def as_days(days: Days, n: int) -> npt.NDArray[np.datetime64]:
    """``days`` as dates, of shape (n,); PermanentError for what is no date or not one a row."""
    try:
        found = np.asarray(days, dtype="datetime64[D]")
    except (TypeError, ValueError) as error:
        raise PermanentError(f"a day is no date: {error}; give ISO dates") from error
    if found.shape != (n,):
        raise PermanentError(f"there are {found.size} days and {n} rows: give the day of each row")
    if np.isnat(found).any():
        row = int(np.isnat(found).argmax())
        raise PermanentError(f"row {row} has no day: leave it out or find its day")
    return found


def _spread(values: Sequence[object] | object, n: int, what: str) -> npt.NDArray[np.generic]:
    found = np.asarray(values)
    if found.shape not in {(), (n,)}:
        raise PermanentError(
            f"there are {found.size} {what} and {n} rows: give one for each row or one for all"
        )
    return np.broadcast_to(found, (n,))


def _bins_of(scores: Vector) -> Codes:
    """Each score's bin, from 0; rising with the score."""
    with np.errstate(divide="ignore"):  # 0 and 1 go to the outermost bins
        logit = np.log(scores) - np.log1p(-scores)
    return np.clip(np.floor(logit * _PER_LOGIT), -_LIMIT, _LIMIT - 1).astype(np.intp) + _LIMIT


def bin_edge(threshold: float) -> int:
    """The bin whose lower edge is closest to ``threshold``, in log-odds."""
    if not 0 < threshold < 1:
        raise PermanentError(f"the threshold is {threshold}: give a number between 0 and 1")
    logit = np.log(threshold) - np.log1p(-threshold)
    return int(np.clip(np.rint(logit * _PER_LOGIT), -_LIMIT, _LIMIT)) + _LIMIT


def score_at(edge: int) -> float:
    """The score at the lower edge of the bin ``edge``."""
    return float(1 / (1 + np.exp((_LIMIT - edge) / _PER_LOGIT)))
