"""Brings back what was deleted from a bucket that keeps versions.

    python deployments/recovery/undelete.py s3://mlops-production-lake/flight_delays/ \
        --since 2026-11-23T10:00:00+00:00            # says what it would bring back
    python deployments/recovery/undelete.py … --apply

An object whose newest version is a delete marker gets its last content again, as a new version. It
adds and deletes nothing: it works in the ledger's bucket, where no version may be deleted, and the
markers stay and say who deleted what when (CloudTrail has the name). Running it again does nothing.

What was overwritten is not touched: a Delta table's older versions are read and restored by Delta.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 300
"""A copy of some GiB is one request, as long as it takes."""
AT_ONCE = 16


class UndeleteError(Exception):
    """What stands in the way, and what to do."""


@dataclass(frozen=True)
class Deleted:
    """An object that is hidden behind a delete marker, and the version to bring back."""

    key: str
    version: str
    deleted_at: datetime


def deleted(client: Any, bucket: str, prefix: str, since: datetime | None) -> list[Deleted]:
    """The objects below ``prefix`` that were deleted at ``since`` or later (None: whenever).

    ``client`` is boto3's for S3. An object whose versions are all gone cannot be brought back and
    is not listed.
    """
    versions: dict[str, Mapping[str, Any]] = {}
    markers: dict[str, datetime] = {}
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for marker in page.get("DeleteMarkers", []):
            if marker["IsLatest"] and (since is None or marker["LastModified"] >= since):
                markers[marker["Key"]] = marker["LastModified"]
        for version in page.get("Versions", []):
            # S3 lists the newest first; a tie of seconds is decided by that order.
            versions.setdefault(version["Key"], version)
    return [
        Deleted(key, str(versions[key]["VersionId"]), at)
        for key, at in sorted(markers.items())
        if key in versions
    ]


def bring_back(client: Any, bucket: str, objects: Sequence[Deleted]) -> None:
    """Makes the last content of each object its newest version."""

    def copy(each: Deleted) -> None:
        source = {"Bucket": bucket, "Key": each.key, "VersionId": each.version}
        # boto3's own transfer: a copy in parts above 5 GiB, which one request cannot do. A bucket
        # with Object Lock wants checksums.
        client.copy(source, bucket, each.key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(copy, objects):
            pass


def _place(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UndeleteError(f"{url} is no place in S3: write s3://bucket/prefix/")
    if not prefix.endswith("/"):
        raise UndeleteError(
            f"{url}: end it with a slash; without one a table's name also means every table whose "
            "name begins with it"
        )
    return bucket, prefix


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO time") from error
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r}: say the offset, as in {text}+00:00")
    return moment


def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=AT_ONCE,
            retries={"mode": "standard", "total_max_attempts": 5},
        ),
    )


def _run(arguments: argparse.Namespace) -> Iterator[str]:
    bucket, prefix = _place(arguments.url)
    client = _client()
    state = client.get_bucket_versioning(Bucket=bucket).get("Status")
    if state is None:
        raise UndeleteError(f"the bucket {bucket} keeps no versions: nothing can be brought back")
    found = deleted(client, bucket, prefix, arguments.since)
    for each in found:
        yield f"{each.deleted_at.isoformat()}  {each.key}"
    if not arguments.apply:
        yield f"{len(found)} objects would be brought back; --apply does it"
        return
    bring_back(client, bucket, found)
    yield f"{len(found)} objects brought back"


def main(words: Sequence[str]) -> int:
    """The command; 0, or 1 where something stands in the way."""
    from botocore.exceptions import BotoCoreError, ClientError

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="s3://bucket/prefix/, with a slash at its end")
    parser.add_argument(
        "--since", type=_moment, help="only what was deleted then or later (ISO time with offset)"
    )
    parser.add_argument("--apply", action="store_true", help="do it; else it is only listed")
    try:
        for line in _run(parser.parse_args(words)):
            print(line)
    except (UndeleteError, ClientError, BotoCoreError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
