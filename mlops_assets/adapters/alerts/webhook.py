"""Alerts over HTTP: a webhook that takes JSON, or one of Slack."""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from mlops_assets.adapters.alerts.channels import RefusedMessageError
from mlops_assets.adapters.alerts.secret import read_secret
from mlops_assets.core.alert_text import Links, as_json, as_slack
from mlops_assets.core.alerts import Entry
from mlops_assets.core.errors import PermanentError, PlatformError, TransientError

_BUSY = frozenset({408, 425, 429})
_MESSAGE = frozenset({400, 413, 415, 422})
"""Statuses about the message; other refusals are about the address or its credentials."""


@dataclass(frozen=True)
class Webhook:
    """Posts each alert to a URL that is a secret, since whoever knows it may post.

    ``url`` refers to it (``env:NAME`` or ``file:/path``). ``timeout_s`` is for connecting and for
    each wait for an answer. Redirects are not followed and no proxy is used.
    """

    url: str
    name: str = "webhook"
    style: Literal["json", "slack"] = "json"
    timeout_s: float = 10.0

    def send(self, entry: Entry, links: Links) -> None:
        """Post one entry. Raises as :class:`Channel` says; no error holds the URL."""
        if self.style == "slack":
            body = json.dumps({"text": as_slack(entry, links)}).encode()
        else:
            body = as_json(entry, links).encode()
        problem = self._post(body, entry.id)
        if problem is not None:
            raise problem

    def _post(self, body: bytes, identity: str) -> PlatformError | None:
        """What went wrong. Returned and not raised where it happened: an error that is raised
        there would carry the library's own, whose words can hold the URL.
        """
        mend = f"channel {self.name}: what {self.url} refers to is no http(s) URL; correct it"
        try:
            connection, path = _connection(read_secret(self.url), self.timeout_s)
        except ValueError:
            return PermanentError(mend)
        headers = {"Content-Type": "application/json", "Idempotency-Key": identity}
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        except (http.client.InvalidURL, UnicodeError):
            return PermanentError(mend)
        except ssl.SSLCertVerificationError:
            return PermanentError(
                f"channel {self.name}: the server's certificate is not valid; correct the URL or "
                "trust its authority"
            )
        except (OSError, http.client.HTTPException) as error:
            words = error.strerror if isinstance(error, OSError) else None
            return TransientError(
                f"channel {self.name}: no answer: {words or type(error).__name__}"
            )
        finally:
            connection.close()
        return _refusal(self.name, status)


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection that opens when used, and the path to post to. Raises ValueError for no URL."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise ValueError("no http(s) URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return kind(parts.hostname, parts.port, timeout=timeout_s), path


def _refusal(name: str, status: int) -> PlatformError | None:
    if 200 <= status < 300:
        return None
    answer = f"channel {name}: the server answered {status}"
    if status >= 500 or status in _BUSY:
        return TransientError(answer)
    if status in _MESSAGE:
        return RefusedMessageError(f"{answer}: it does not take this message")
    return PermanentError(f"{answer}; correct the URL or its permission")
