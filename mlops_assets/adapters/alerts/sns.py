"""Alerts to an SNS topic."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.adapters.alerts.channels import RefusedMessageError
from mlops_assets.adapters.alerts.secret import read_secret
from mlops_assets.core.alert_text import Links, as_text, title
from mlops_assets.core.alerts import Entry
from mlops_assets.core.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_SUBJECT_CHARACTERS = 100  # SNS: at most 100, ASCII
_MESSAGE_CODES = frozenset({"InvalidParameter", "InvalidParameterValue", "ValidationError"})


@dataclass(frozen=True)
class Sns:
    """Publishes each alert as text, with attributes for filter policies.

    ``topic`` is the topic's ARN, or refers to it as ``env:NAME`` or ``file:/path``. The region
    comes from it, credentials and endpoint from the environment (``AWS_ENDPOINT_URL``, …).
    ``timeout_s`` is for connecting and for each wait for an answer.
    """

    topic: str
    name: str = "sns"
    timeout_s: float = 10.0

    def send(self, entry: Entry, links: Links) -> None:
        """Publish one entry. Raises as :class:`Channel` says."""
        import boto3.session
        from botocore.config import Config
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
        )

        alert, arn = entry.alert, self._arn()
        attributes = {
            "id": entry.id,
            "event": entry.event,
            "use_case": alert.use_case,
            "kind": alert.kind,
            "severity": alert.severity,
        }
        config = Config(
            connect_timeout=self.timeout_s,
            read_timeout=self.timeout_s,
            # Retries are the flush's, for all channels alike.
            retries={"total_max_attempts": 1},
        )
        try:
            # Channels run in threads, which may not share boto3's default session.
            client = boto3.session.Session().client(
                "sns", region_name=_region(arn, self.name), config=config
            )
            client.publish(
                TopicArn=arn,
                Subject=title(entry).encode("ascii", "replace").decode()[:_SUBJECT_CHARACTERS],
                Message=as_text(entry, links),
                MessageAttributes={
                    key: {"DataType": "String", "StringValue": value}
                    for key, value in attributes.items()
                },
            )
        except ClientError as error:
            raise self._refusal(error, arn) from error
        except (ConnectionError, HTTPClientError) as error:
            raise TransientError(f"channel {self.name}: no answer: {error}") from error
        except BotoCoreError as error:
            raise PermanentError(
                f"channel {self.name}: {error}; correct the topic, region or credentials"
            ) from error

    def _arn(self) -> str:
        return read_secret(self.topic) if self.topic.startswith(("env:", "file:")) else self.topic

    def _refusal(self, error: "ClientError", arn: str) -> PermanentError | TransientError:
        code = error.response.get("Error", {}).get("Code", "unknown")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        answer = f"channel {self.name}: SNS answered {status} {code} for {arn}"
        if status >= 500 or status == 429 or "Throttl" in code:
            return TransientError(answer)
        if code in _MESSAGE_CODES:
            return RefusedMessageError(f"{answer}: it does not take this message")
        return PermanentError(f"{answer}; correct the topic or this process's permission")


def _region(arn: str, channel: str) -> str:
    # arn:aws:sns:REGION:ACCOUNT:NAME
    parts = arn.split(":")
    if len(parts) != 6 or parts[2] != "sns" or not parts[3]:
        raise PermanentError(
            f"channel {channel}: {arn!r} is no ARN of an SNS topic; give one like "
            "arn:aws:sns:eu-west-1:123456789012:alerts"
        )
    return parts[3]
