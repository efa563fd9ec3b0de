"""The rows that one worker trains on: its share of a frozen training set, read block by block.

Each worker opens the table for itself and reads the row groups that hold its share, so that no
process ever holds more than a block of rows beside XGBoost's own, quantised copy of its share.
Which rows are a worker's follows from the rows and the number of workers alone, not from the files
or row groups that they lie in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

from mlops_assets.core.errors import MissingPartitionsError, SchemaError
from mlops_assets.core.records import Signature
from mlops_assets.core.segments import PARTS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.dataset
    import xgboost

_BLOCK_ROWS = 1 << 16
# Each column of a row group is read through a buffer of its own: a row group is never held whole.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Rows:
    """One partition of a table at one version, and the columns that say what a row is for."""

    url: str
    storage_options: Mapping[str, str]
    version: int
    partition: str
    label: str
    part: str


@dataclass(frozen=True)
class Share:
    """A worker's rows: the labelled ones of ``part``, from ``first`` until before ``end``, counted
    from 0 in the order of the table.
    """

    part: str
    first: int
    end: int


class GroupSummary(TypedDict):
    """What is known of a row group's labelled rows before they are read to train on.

    ``rows`` and ``labels`` (distinct values) are by part, ``categories`` (distinct values) by
    feature, of the train part. JSON, since workers tell it to each other.
    """

    rows: dict[str, int]
    labels: dict[str, list[float]]
    categories: dict[str, list[str]]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file of the table."""

    fragment: "pyarrow.dataset.ParquetFileFragment"
    number: int

    def blocks(self, columns: Sequence[str], rows: int = _BLOCK_ROWS) -> "Iterator[pl.DataFrame]":
        """The group's rows in order, at most ``rows`` at a time."""
        import polars as pl
        import pyarrow.parquet as pq

        with self.fragment.open() as file:
            reader = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            for batch in reader.iter_batches(rows, row_groups=[self.number], columns=list(columns)):
                yield cast("pl.DataFrame", pl.from_arrow(batch))


def row_groups(rows: Rows) -> list[RowGroup]:
    """The row groups of ``rows``, in the order of the rows.

    Raises MissingPartitionsError when the table or the partition is not there.
    """
    from mlops_assets.adapters import delta

    opened = delta.open_table(rows.url, rows.storage_options, rows.version)
    found: list[RowGroup] = []
    if opened is not None:
        with delta.storage_errors("read", rows.url):
            for fragment in delta.dataset(opened, [rows.partition]).get_fragments():
                found += [RowGroup(fragment, group.id) for group in fragment.row_groups]
    if not found:
        raise MissingPartitionsError(
            f"{rows.url} has no partition {rows.partition} in version {rows.version}: materialize "
            "the training set again"
        )
    return found


def summarise(
    rows: Rows, group: RowGroup, categories: Sequence[str], most_categories: int
) -> GroupSummary:
    """What there is in a row group, from its parts, labels and ``categories`` columns.

    Of a feature with more than ``most_categories`` values, not all are listed.
    """
    import polars as pl

    from mlops_assets.adapters import delta

    counts: dict[str, int] = dict.fromkeys(PARTS, 0)
    labels: dict[str, set[float]] = {part: set() for part in PARTS}
    values: dict[str, set[str]] = {name: set() for name in categories}
    with delta.storage_errors("read", rows.url):
        for block in group.blocks([rows.part, rows.label, *categories]):
            for part in PARTS:
                found = _labelled(block, rows, part)
                counts[part] += found.height
                labels[part].update(found[rows.label].cast(pl.Float64).unique().to_list())
                if part == "train":
                    for name, known in values.items():
                        if len(known) <= most_categories:
                            known.update(_distinct(found[name]))
    return GroupSummary(
        rows=counts,
        labels={part: sorted(found) for part, found in labels.items()},
        categories={name: sorted(found) for name, found in values.items()},
    )


def _labelled(block: "pl.DataFrame", rows: Rows, part: str) -> "pl.DataFrame":
    import polars as pl

    return block.filter((pl.col(rows.part) == part) & pl.col(rows.label).is_not_null())


def _distinct(column: "pl.Series") -> list[str]:
    import polars as pl

    if column.dtype not in (pl.String, pl.Null):
        raise SchemaError(
            f"feature {column.name!r} has type {column.dtype}, a string is needed for a category: "
            "correct its feature view, or declare it as float"
        )
    return column.cast(pl.String).drop_nulls().unique().to_list()


def share_of(part: str, total: int, worker: int, workers: int) -> Share:
    """A worker's share of ``total`` rows: shares follow each other in the order of the workers,
    have every row once, and differ by one row at most.
    """
    return Share(part, total * worker // workers, total * (worker + 1) // workers)


def read_share(
    rows: Rows, summaries: Sequence[GroupSummary], share: Share, columns: Sequence[str]
) -> "Iterator[pl.DataFrame]":
    """The rows of ``share`` in order, with ``columns`` and the label, a block at a time.

    ``summaries`` has one entry for each row group of ``rows``, in order.
    """
    from mlops_assets.adapters import delta

    end = 0
    wanted = [*columns, rows.label, rows.part]
    with delta.storage_errors("read", rows.url):
        for group, summary in zip(row_groups(rows), summaries, strict=True):
            at, end = end, end + summary["rows"][share.part]
            if end <= share.first or at >= share.end:
                continue
            for block in group.blocks(wanted):
                found = _labelled(block, rows, share.part)
                first, last = max(share.first - at, 0), min(share.end - at, found.height)
                if first < last:
                    yield found.slice(first, last - first)
                at += found.height
                if at >= share.end:
                    break


def quantised(
    blocks: "Callable[[], Iterator[pl.DataFrame]]",
    signature: Signature,
    label: str,
    *,
    where: str,
    max_bin: int | None,
    reference: "xgboost.DMatrix | None",
) -> "xgboost.QuantileDMatrix":
    """The rows of ``blocks``, which is asked several times, as XGBoost's quantised matrix.

    Among several workers all have to call it together: XGBoost finds the quantiles of all rows.
    Raises SchemaError for a value that is not encodable, naming ``where``.
    """
    import polars as pl
    import xgboost as xgb

    from mlops_assets.core.inference import encode_frame, feature_types

    class Encoded(xgb.DataIter):
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def reset(self) -> None:
            self.left, self.row = blocks(), 0

        def next(self, input_data: Callable[..., None]) -> bool:
            block = next(self.left, None)
            if block is None:
                return False
            try:
                matrix = encode_frame(block, signature)
            except SchemaError as error:
                raise SchemaError(
                    f"{where} of the training set, rows from {self.row} on: {error}"
                ) from error
            self.row += block.height
            input_data(
                data=matrix,
                label=block[label].cast(pl.Float32).to_numpy(),
                feature_names=[field.name for field in signature.inputs],
                feature_types=feature_types(signature),
            )
            return True

    return xgb.QuantileDMatrix(Encoded(), max_bin=max_bin, ref=reference, enable_categorical=True)
