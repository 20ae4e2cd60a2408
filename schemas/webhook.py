"""WAHA's webhook as it arrives: the parts of a body that wapipe reads, by the structs of `schemas.reading`."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from schemas.reading import Reader


class Info(Struct, gc=False):
    """GOWS `_data.Info`."""

    PushName: str | None = None


class EngineMessage(Struct, rename={"proto_noweb": "message", "proto_gows": "Message", "info": "Info"}, gc=False):
    """`_data`: the engine's own message. NOWEB has `message`, GOWS `Message`, WEBJS and WPP `type`."""

    proto_noweb: dict[str, Raw] | None = None
    proto_gows: dict[str, Raw] | None = None
    type: str | None = None
    pushName: str | None = None
    notifyName: str | None = None
    info: Info | None = None


class Media(Struct, gc=False):
    """`media` of a message."""

    url: str | None = None
    mimetype: str | None = None
    filename: str | None = None


class ReplyTo(Struct, gc=False):
    """The quoted message."""

    id: str | None = None
    participant: str | None = None
    body: str | None = None


class Payload(Struct, rename={"from_": "from", "data": "_data"}, gc=False):
    """`payload` of a message or of a session's status: the union of what is read of them."""

    id: str | None = None
    timestamp: int | float | str | None = None
    from_: str | None = None
    fromMe: bool | None = None
    to: str | None = None
    participant: str | None = None
    source: str | None = None
    body: str | None = None
    hasMedia: bool | None = None
    media: Media | None = None
    location: dict[str, Any] | None = None
    vCards: list[Any] | None = None
    replyTo: ReplyTo | None = None
    data: EngineMessage | None = None
    status: str | None = None  # of session.status


class Me(Struct, gc=False):
    """The session's own account; absent before pairing."""

    id: str | None = None
    lid: str | None = None
    pushName: str | None = None


class Environment(Struct, gc=False):
    """The WAHA server."""

    version: str | None = None


class Webhook(Struct, gc=False):
    """A body."""

    event: str | None = None
    id: str | None = None
    timestamp: int | float | str | None = None
    session: str | None = None
    me: Me | None = None
    payload: Payload | None = None
    engine: str | None = None
    environment: Environment | None = None


parse_body = Reader(Webhook)
