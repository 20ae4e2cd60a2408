"""One webhook delivery: what traffic and recordings yield and the player sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bytes and headers of one webhook. If the headers hold X-Webhook-Hmac they are sent so, else signed.

    `message_id` is WAHA's serialized id for message and message.any, else None; `at_s` is the virtual time
    since the start of the traffic.
    """

    body: bytes
    headers: Mapping[str, str]
    session: str
    event: str
    message_id: str | None
    at_s: float


def message_id_of(event: str, payload: object) -> str | None:
    """The message id that a delivery of `event` would store; None unless it is message or message.any."""
    if event not in ("message", "message.any") or not isinstance(payload, dict):
        return None
    value = payload.get("id")
    return value if isinstance(value, str) else None
