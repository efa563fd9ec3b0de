"""Parity: each feature that an endpoint used against the lake, and why it differs where it does.

An answer's features should be those that the point-in-time join gives its event as of the time of
the answer, from the lake as it is now. Where they are not, the same join is tried under what may
have gone wrong, one cause at a time: the first that explains every feature of the view is named.
core.skew compares with the time at which an event should have been asked about; here it is the time
at which it was, so that an honest answer differs in nothing.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from mlops_assets.core.answer_features import decoded
from mlops_assets.core.online import decode_row_lookup
from mlops_assets.core.outcomes import REQUEST_ID
from mlops_assets.core.parity_causes import Case, FormerView, all_equal, causes_of, view_joined
from mlops_assets.core.parity_records import Mismatch, Parity
from mlops_assets.core.pit import ASKED_AT, View
from mlops_assets.core.skew import asked_features, shown_value
from mlops_assets.core.spec import EVENT_ID, FeatureType

LOOKED_UP = "looked_up"


def find_mismatches(
    answers: pl.DataFrame,
    events: pl.DataFrame,
    views: Sequence[View],
    types: Mapping[str, FeatureType],
    former: FormerView,
    timezone: str,
) -> Parity:
    """Compare ``answers`` with the lake's ``views``, row by row.

    ``answers`` has ``event_id``, ``request_id``, ``asked_at`` (when it was answered),
    ``model_sha256``, the columns of answer_features.encoded and ``looked_up`` (core.online's
    RowLookup as JSON; null where all was sent). ``events`` has one row per ``event_id`` with
    ``event_time`` and the entity columns. Answers about other events are left out, and so is a
    feature that the answering model did not have. Numbers are equal as 32-bit floats, NaN is null.
    ``timezone`` is the use case's: its offset is among the clock changes that are tried.
    """
    answers = answers.join(events.select(EVENT_ID), on=EVENT_ID, how="semi", maintain_order="left")
    asked = answers.select(EVENT_ID, REQUEST_ID, ASKED_AT).join(
        events, on=EVENT_ID, how="left", maintain_order="left"
    )
    served = decoded(answers, types) if answers.height else answers.select(EVENT_ID)
    had = {name: of.to_numpy() for name, of in asked_features(answers, types).items()}
    lookups = [None if text is None else decode_row_lookup(text) for text in answers[LOOKED_UP]]
    found: list[Mismatch] = []
    for view in views if answers.height else ():
        truth = view_joined(asked, view)
        rows = np.flatnonzero(~all_equal(served, truth, view.features, had))
        if len(rows):
            case = Case(
                view,
                asked[rows],
                served.select(view.features)[rows],
                {name: had[name][rows] for name in view.features},
                [lookups[row] for row in rows],
            )
            found += _mismatches(case, truth[rows], former, timezone)
    return Parity(
        answers.height,
        answers.height * len(views),
        sum(one is not None for one in lookups),
        tuple(found),
    )


def _mismatches(
    case: Case, truth: pl.DataFrame, former: FormerView, timezone: str
) -> list[Mismatch]:
    """Each of the case's answers with its cause."""
    named = causes_of(case, truth, former, timezone)
    plain = truth.select(case.view.features)
    result: list[Mismatch] = []
    for row, (event, request, asked_at) in enumerate(
        case.asked.select(EVENT_ID, REQUEST_ID, ASKED_AT).rows()
    ):
        ours = case.served.row(row, named=True)
        theirs = plain.row(row, named=True)
        differing = tuple(
            name
            for name in case.view.features
            if case.had[name][row] and _plain(ours[name]) != _plain(theirs[name])
        )
        cause, detail = named.get(row, ("code", "no join of the lake gives what was served"))
        first = differing[0]
        result.append(
            Mismatch(
                event,
                request,
                asked_at,
                case.view.name,
                differing,
                shown_value(ours[first]),
                shown_value(theirs[first]),
                cause,
                detail,
            )
        )
    return result


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
