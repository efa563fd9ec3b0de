"""What a stage reads its inputs from: the lake, or what answers like it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class Tables(Protocol):
    """Tables by name, most of them with one partition per day."""

    def read(self, table: str, partitions: Sequence[str] | None = None) -> "pa.Table":
        """The rows of ``partitions`` (default: all). Raises MissingPartitionsError."""
        ...
