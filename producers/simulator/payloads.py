"""The payload modules by engine. Each is a module of pure functions with the names below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from producers.simulator import payloads_gows, payloads_noweb, payloads_webjs, payloads_wpp
from producers.simulator.facts import Ack, Edit, Engine, Json, Message, Reaction, Revoke, Vote


class Payloads(Protocol):
    """What a payload module can build."""

    def message(self, m: Message, /) -> Json:
        """Payload of message and message.any."""

    def reaction(self, r: Reaction, /) -> Json:
        """Payload of message.reaction."""

    def edited(self, e: Edit, /) -> Json:
        """Payload of message.edited."""

    def revoked(self, r: Revoke, /) -> Json:
        """Payload of message.revoked."""

    def ack(self, a: Ack, /) -> Json:
        """Payload of message.ack, or of message.ack.group for a message in a group."""

    def vote(self, v: Vote, /) -> Json:
        """Payload of poll.vote."""


PAYLOADS: Mapping[Engine, Payloads] = {
    "NOWEB": payloads_noweb,
    "GOWS": payloads_gows,
    "WEBJS": payloads_webjs,
    "WPP": payloads_wpp,
}


def first_ack(engine: Engine, *, from_me: bool = False, by_api: bool = False) -> int:
    """The ack that a message event carries."""
    if not from_me:
        return 2 if engine in ("NOWEB", "GOWS") else 1
    return 0 if by_api and engine != "GOWS" else 1
