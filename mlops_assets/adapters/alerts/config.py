"""Channels from configuration: which ones, and where their addresses are found."""

from collections.abc import Iterable
from pathlib import Path

from mlops_assets.adapters.alerts.channels import Channel, Console, JsonLines
from mlops_assets.adapters.alerts.sns import Sns
from mlops_assets.adapters.alerts.webhook import Webhook
from mlops_assets.core.errors import PermanentError

_FORMS = (
    "console, jsonl:PATH, webhook:env:NAME, slack:env:NAME or sns:env:NAME (or file:/path in place "
    "of env:NAME), each after NAME= to call it something else"
)


def channels_of(config: Iterable[str]) -> tuple[Channel, ...]:
    """The channels that ``config`` names, each as ``[NAME=]KIND[:ADDRESS]``.

    Kinds are ``console``, ``jsonl:PATH``, ``webhook:SECRET``, ``slack:SECRET`` and ``sns:SECRET``
    or ``sns:ARN``; SECRET is ``env:NAME`` or ``file:/path`` and is read when something is sent. The
    name (default: the kind) is what deliveries are recorded under: under a new one, everything of
    the last week is sent again.

    Raises PermanentError for another form, and for two channels of one name.
    """
    channels = tuple(_channel(text.strip()) for text in config if text.strip())
    names = [channel.name for channel in channels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PermanentError(f"two alert channels are called {twice[0]}: write NAME= before one")
    return channels


def _channel(text: str) -> Channel:
    head, _, rest = text.partition(":")
    given, _, kind = head.rpartition("=")
    name = given or kind
    match kind:
        case "console" if not rest:
            return Console(name)
        case "jsonl" if rest:
            return JsonLines(Path(rest), name)
        case "webhook" if _is_reference(rest):
            return Webhook(rest, name)
        case "slack" if _is_reference(rest):
            return Webhook(rest, name, style="slack")
        case "sns" if _is_reference(rest) or rest.startswith("arn:"):
            return Sns(rest, name)
        case _:
            # What stands after the kind may be a secret that was written out by mistake.
            raise PermanentError(f"alert channel {head!r} is not understood: write {_FORMS}")


def _is_reference(text: str) -> bool:
    kind, _, name = text.partition(":")
    return kind in ("env", "file") and bool(name)
