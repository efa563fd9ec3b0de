"""Alerts: recorded in an append-only log of the lake, then sent to channels, at least once."""

from mlops_assets.adapters.alerts.channels import (
    Channel,
    Console,
    JsonLines,
    RefusedMessageError,
)
from mlops_assets.adapters.alerts.config import channels_of
from mlops_assets.adapters.alerts.delivery import Delivered, flush
from mlops_assets.adapters.alerts.log import entries, record, resolve, settle
from mlops_assets.adapters.alerts.sns import Sns
from mlops_assets.adapters.alerts.webhook import Webhook

__all__ = [
    "Channel",
    "Console",
    "Delivered",
    "JsonLines",
    "RefusedMessageError",
    "Sns",
    "Webhook",
    "channels_of",
    "entries",
    "flush",
    "record",
    "resolve",
    "settle",
]
