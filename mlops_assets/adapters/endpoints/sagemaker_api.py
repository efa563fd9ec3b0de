"""How SageMaker is asked, and its failures as ours."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

_ABSENT = "Could not find"
_AGAIN = ("Throttling", "ThrottlingException", "RequestTimeout", "ServiceUnavailable")


def connect() -> Any:  # boto3 makes its clients' classes as they are asked for
    """A client of SageMaker. Raises PermanentError without a region or credentials."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 4},
    )
    with asking("reach SageMaker"):
        return boto3.client("sagemaker", region_name=os.environ.get("AWS_REGION"), config=config)


def described(describe: Any, **named: str) -> "Mapping[str, Any] | None":
    """What there is of this name; None where there is nothing."""
    from botocore.exceptions import ClientError

    try:
        return describe(**named)
    except ClientError as error:
        if _ABSENT in error.response.get("Error", {}).get("Message", ""):
            return None
        raise


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """SageMaker's failures as ours."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
    )

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if error.response.get("Error", {}).get("Code") in _AGAIN or status >= 500:
            raise TransientError(f"cannot {what}: {error}") from error
        raise PermanentError(
            f"cannot {what}: {error}; the run's role needs that right, and the account that quota"
        ) from error
    except (NoCredentialsError, NoRegionError) as error:
        raise PermanentError(f"cannot {what}: {error}") from error
    except (BotoCoreError, OSError) as error:
        raise TransientError(f"cannot {what}: {error}") from error
