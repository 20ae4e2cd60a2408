"""WAHA's webhook as it arrives: the parts of a body that wapipe reads, typed where structure matters and loose elsewhere.

A field of the wrong type is not an error here: it reads as what it is, and the normalisers take it for missing. Parts
that are not named are skipped without being built, which is most of a body; the bytes themselves stay in the topic.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from schemas.ids import normalize_jid, parse_message_id
from schemas.topics import OTHER, ROUTES, Topic

_MAX_HEADER_CHARS = 200

# Whatever else may stand where an object should be.
Loose = str | int | float | bool | list[Any] | None


class Info(Struct, gc=False):
    """GOWS `_data.Info`."""

    PushName: Any = None


class EngineMessage(Struct, rename={"proto_noweb": "message", "proto_gows": "Message", "info": "Info"}):
    """`_data`: the engine's own message. NOWEB has `message`, GOWS `Message`, WEBJS and WPP `type`."""

    proto_noweb: dict[str, Raw] | str | int | float | bool | list[Any] | None = None
    proto_gows: dict[str, Raw] | str | int | float | bool | list[Any] | None = None
    type: Any = None
    pushName: Any = None
    notifyName: Any = None
    info: Info | str | int | float | bool | list[Any] | None = None


class Media(Struct):
    """`media` of a message."""

    url: Any = None
    mimetype: Any = None
    filename: Any = None


class ReplyTo(Struct):
    """The quoted message."""

    id: Any = None
    participant: Any = None
    body: Any = None


class Reference(Struct, rename={"from_": "from"}):
    """Another message or chat that an event is about: `after` of revokes, `poll` and `vote`, `group`, …"""

    id: Any = None
    from_: Any = None
    remoteJid: Any = None
    chatId: Any = None


class Payload(Struct, rename={"from_": "from", "data": "_data"}):
    """`payload` of any event: the union of what wapipe reads of all of them."""

    id: Any = None
    timestamp: Any = None
    from_: Any = None
    fromMe: Any = None
    to: Any = None
    participant: Any = None
    source: Any = None
    body: Any = None
    hasMedia: Any = None
    media: Media | str | int | float | bool | list[Any] | None = None
    location: Any = None
    vCards: Any = None
    replyTo: ReplyTo | str | int | float | bool | list[Any] | None = None
    data: EngineMessage | str | int | float | bool | list[Any] | None = None
    chatId: Any = None
    remoteJid: Any = None
    after: Reference | str | int | float | bool | list[Any] | None = None
    poll: Reference | str | int | float | bool | list[Any] | None = None
    vote: Reference | str | int | float | bool | list[Any] | None = None
    group: Reference | str | int | float | bool | list[Any] | None = None
    eventCreationKey: Reference | str | int | float | bool | list[Any] | None = None
    status: Any = None  # of session.status


class Me(Struct):
    """The session's own account; absent before pairing."""

    id: Any = None
    lid: Any = None
    pushName: Any = None


class Environment(Struct):
    """The WAHA server."""

    version: Any = None


class Webhook(Struct):
    """A body."""

    event: Any = None
    id: Any = None
    timestamp: Any = None
    session: Any = None
    me: Me | str | int | float | bool | list[Any] | None = None
    payload: Payload | str | int | float | bool | list[Any] | None = None
    engine: Any = None
    environment: Environment | str | int | float | bool | list[Any] | None = None


class UnreadableError(ValueError):
    """The body is not an event; `reason` is a slug of a closed set: not_json | not_an_object | no_event | no_session."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Envelope(NamedTuple):
    """What is needed to file an event. Texts are "" where the envelope lacks them (id: before 2024-11)."""

    event: str
    event_id: str
    session: str
    engine: str
    chat: str  # "" when the event concerns no chat
    topic: Topic


_decoder = msgspec.json.Decoder(Webhook)


def parse_body(body: bytes) -> Webhook:
    """The body, without NUL characters and lone surrogates (PostgreSQL stores neither). Raises UnreadableError.

    JavaScript writes lone surrogates (`\\ud83d`) and, asked to, NaN; the fast decoder refuses both, so the standard
    library reads those.
    """
    if b"\\u0000" in body:
        return _parse_leniently(body)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(body)


def _parse_leniently(body: bytes) -> Webhook:
    try:
        value = _scrub(json.loads(body.decode("utf-8")))
        if type(value) is not dict:
            raise UnreadableError("not_an_object")
        return _decoder.decode(msgspec.json.encode(value))
    except UnreadableError:
        raise
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise UnreadableError("not_json") from None


def _scrub(value: Any) -> Any:
    if type(value) is str:
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if type(value) is dict:
        return {_scrub(k): _scrub(v) for k, v in value.items()}
    if type(value) is list:
        return [_scrub(v) for v in value]
    return value


def read_envelope(webhook: Webhook) -> Envelope:
    """What the ingress files an event by. Raises UnreadableError when event or session is missing."""
    event, session = webhook.event, webhook.session
    if type(event) is not str or not event:
        raise UnreadableError("no_event")
    if type(session) is not str or not session:
        raise UnreadableError("no_session")
    payload = webhook.payload
    return Envelope(
        event,
        webhook.id if type(webhook.id) is str else "",
        session,
        webhook.engine if type(webhook.engine) is str else "",
        _chat_of(payload) if type(payload) is Payload else "",
        ROUTES.get(event, OTHER),
    )


def _chat_of(payload: Payload) -> str:
    """The chat an event concerns, as it stands in the payload; "" when there is none."""
    if type(payload.id) is str:
        parsed = parse_message_id(payload.id)
        if parsed is not None:
            return parsed.chat
    # revokes, votes, groups, event responses
    for part in (payload.after, payload.poll, payload.vote, payload.group, payload.eventCreationKey):
        if type(part) is Reference:
            found = _chat_of_reference(part)
            if found:
                return found
    return _first_jid(payload.chatId, payload.id, payload.from_)  # labels; presence, groups, archive; calls


def _chat_of_reference(part: Reference) -> str:
    parsed = parse_message_id(part.id) if type(part.id) is str else None
    return parsed.chat if parsed else _first_jid(part.chatId, part.id, part.from_, part.remoteJid)


def _first_jid(*values: Any) -> str:
    for value in values:
        if type(value) is str and "@" in value:
            return normalize_jid(value)[:_MAX_HEADER_CHARS]
    return ""


def to_header(text: str) -> bytes:
    """Header values are ASCII and short whatever the sender wrote."""
    return text[:_MAX_HEADER_CHARS].encode("ascii", "backslashreplace")
