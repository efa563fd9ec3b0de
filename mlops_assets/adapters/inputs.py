"""What the partitions of each asset were made of: one document per asset.

A document is read, changed and written as a whole. Of two writers at the same moment one may lose
what it wrote: those partitions are computed once more, which changes nothing.
"""

from collections.abc import Mapping

from pydantic import TypeAdapter

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.monitoring_records import PartitionInputs

_DOCUMENT = TypeAdapter(dict[str, PartitionInputs])


def place(documents_url: str, use_case: str, asset: str) -> str:
    """Path or URL of the document of ``asset``."""
    from mlops_assets.adapters.storage import join

    return join(documents_url, use_case, "inputs", f"{asset}.json")


def content(documents_url: str, use_case: str, asset: str) -> bytes:
    """The document of ``asset`` as it is stored; empty when there is none."""
    from mlops_assets.adapters.storage import read_bytes

    return read_bytes(place(documents_url, use_case, asset)) or b""


def parse(document: bytes, where: str) -> dict[str, PartitionInputs]:
    """The partitions of the ``document`` at ``where``, by partition key.

    Raises PermanentError when it is none of this release.
    """
    if not document:
        return {}
    try:
        return _DOCUMENT.validate_json(document)
    except ValueError as error:
        raise PermanentError(
            f"{where} does not say what partitions were made of: remove it, and they are computed "
            f"once more ({error})"
        ) from error


def recorded(documents_url: str, use_case: str, asset: str) -> dict[str, PartitionInputs]:
    """What the partitions of ``asset`` were made of, by partition key; empty for a new asset.

    Raises PermanentError for a document that is not readable.
    """
    where = place(documents_url, use_case, asset)
    return parse(content(documents_url, use_case, asset), where)


def record(
    documents_url: str, use_case: str, asset: str, entries: Mapping[str, PartitionInputs]
) -> None:
    """Keep what the partitions ``entries`` of ``asset`` were made of; the others stay."""
    from mlops_assets.adapters.storage import write_bytes

    where = place(documents_url, use_case, asset)
    before = content(documents_url, use_case, asset)
    known = parse(before, where)
    after = _DOCUMENT.dump_json(dict(sorted({**known, **entries}.items())))
    if after != before:
        write_bytes(where, after)
