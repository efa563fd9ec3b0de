"""Small JSON documents by use case and name: what one stage or sensor tells the others."""

from typing import TypeVar

from mlops_assets.core.errors import PermanentError
from mlops_assets.core.records import Record

Document = TypeVar("Document", bound=Record)


def read(url: str, use_case: str, name: str, kind: type[Document]) -> Document | None:
    """The document ``name``, below ``url``; None when nobody wrote it yet.

    Raises PermanentError when it is no ``kind``.
    """
    from mlops_assets.adapters.storage import join, read_bytes

    place = join(url, use_case, f"{name}.json")
    data = read_bytes(place)
    if data is None:
        return None
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        raise PermanentError(
            f"{place} is no {kind.__name__} of this release: materialize {use_case}/{name} again "
            f"({error})"
        ) from error


def write(url: str, use_case: str, name: str, document: Record) -> None:
    """Replace the document ``name``, atomically."""
    from mlops_assets.adapters.storage import join, write_bytes

    write_bytes(join(url, use_case, f"{name}.json"), document.model_dump_json(indent=1).encode())
