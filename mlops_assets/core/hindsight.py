"""The best trainings in hindsight, by dynamic programming over the loss matrix."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.replay import LossMatrix, Replay, Vector, mean_loss

Matrix = npt.NDArray[np.float64] | npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Hindsight:
    """The lowest mean log-loss (nats), and the window ends of the models that reach it, in order,
    without the first champion's.
    """

    log_loss: float
    trained_until: tuple[date, ...]


def hindsight(matrix: LossMatrix, first: date, trainings: int, delay_days: int = 0) -> Hindsight:
    """The best that at most ``trainings`` trainings could have reached over the matrix's days.

    The model trained until ``first`` serves at the beginning, one trained until d from
    ``d + delay_days`` on (days between a window's end and its model's first day, e.g. for labels
    to come). Days without a loss count for no model, as in :func:`~mlops_assets.core.replay.replay`
    over the same matrix.

    With best[t] the lowest total loss before model t takes over, one more training gives
    best'[t] = min over u < t of best[u] + loss of u between the takeovers of u and t: an O(T²) step
    per training, for T models.

    Raises PermanentError when ``first`` is not in the matrix or no day has rows.
    """
    if trainings < 0:
        raise PermanentError(f"{trainings} trainings are not possible: give 0 or more")
    start_model = matrix.model(first)
    days = np.array([day.toordinal() for day in matrix.days])
    ends = [until + timedelta(days=delay_days) for until in matrix.trained_until]
    takes_over = np.searchsorted(days, np.array([end.toordinal() for end in ends]))
    takes_over[start_model] = 0

    scored = ~np.isnan(matrix.loss)
    # A model that was not scored on a day after it takes over cannot serve there.
    needed = (matrix.rows > 0) & scored.any(axis=0)
    total = float(matrix.rows[needed].sum())
    if not total:
        raise PermanentError("the loss matrix has no loss on any day with rows")
    weighted = np.where(needed & scored, matrix.loss * matrix.rows, 0.0)
    models = np.arange(start_model, len(matrix.trained_until))
    place = takes_over[models]
    upto = np.array([*place, len(days)])
    # served[u, t]: total loss of model u from its first day until t takes over.
    served = _between(weighted[models], place, upto)
    served[_between((needed & ~scored)[models], place, upto) > 0] = np.inf
    between, to_end = served[:, :-1], served[:, -1]
    between[np.tril_indices(len(models))] = np.inf  # trainings go forward in time

    best = np.full(len(models), np.inf)
    best[0] = 0.0
    chosen, came_from = (0, 0), list[Places]()
    lowest = best[0] + to_end[0]
    for k in range(1, min(trainings, len(models) - 1) + 1):
        through = best[:, None] + between
        came_from.append(through.argmin(axis=0))
        best = through.min(axis=0)
        last = int((best + to_end).argmin())
        if best[last] + to_end[last] < lowest:
            lowest, chosen = best[last] + to_end[last], (k, last)
    if not np.isfinite(lowest):
        raise PermanentError(f"the model of {first} is not scored on every day with rows")

    path: list[date] = []
    model = chosen[1]
    for k in range(chosen[0], 0, -1):
        path.append(matrix.trained_until[int(models[model])])
        model = int(came_from[k - 1][model])
    return Hindsight(float(lowest / total), tuple(reversed(path)))


def regret(found: Replay, matrix: LossMatrix, delay_days: int = 0) -> float:
    """Mean log-loss (nats) of ``found`` above the best with as many trainings; 0 is perfect.

    ``found`` is a replay over the matrix's days and losses, weighted by its rows.
    """
    if found.days != matrix.days:
        raise PermanentError("the replay and the loss matrix are about different days")
    unscored = np.isnan(found.loss) & (matrix.rows > 0) & ~np.isnan(matrix.loss).all(axis=0)
    if unscored.any():
        place = int(unscored.argmax())
        raise PermanentError(
            f"the model trained until {found.trained_until[place]} has no loss on "
            f"{found.days[place]}, where others have: score it first"
        )
    best = hindsight(matrix, found.trained_until[0], len(found.trainings), delay_days)
    return mean_loss(found.loss, matrix.rows) - best.log_loss


def _between(values: Matrix, first: Places, upto: Places) -> Vector:
    """Sums of each row of ``values`` (shape (U, S)) from its place in ``first`` (shape (U,)) to
    each of ``upto`` (shape (V,)); shape (U, V).
    """
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums[:, upto] - np.take_along_axis(sums, first[:, None], axis=1)
