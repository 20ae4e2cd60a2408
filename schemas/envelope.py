"""What the ingress files an event by: name, session, engine and chat, read from the body and nothing more."""

from __future__ import annotations

from msgspec import Struct

from schemas.ids import normalize_jid, parse_message_id
from schemas.reading import Reader, UnreadableError
from schemas.topics import OTHER, ROUTES, Topic

_MAX_HEADER_CHARS = 200


class Envelope(Struct, gc=False):
    """Texts are "" where the body lacks them (id: before 2024-11)."""

    event: str
    event_id: str
    session: str
    engine: str
    chat: str  # "" when the event concerns no chat
    topic: Topic


class _Reference(Struct, gc=False, rename={"from_": "from"}):
    """Another message or chat that an event is about: `after` of revokes, `poll` and `vote`, `group`, …"""

    id: str | None = None
    from_: str | None = None
    remoteJid: str | None = None
    chatId: str | None = None


class _Payload(Struct, rename={"from_": "from"}):
    """What any payload may name its chat by."""

    id: str | None = None
    from_: str | None = None
    chatId: str | None = None
    after: _Reference | None = None
    poll: _Reference | None = None
    vote: _Reference | None = None
    group: _Reference | None = None
    eventCreationKey: _Reference | None = None


class _Body(Struct):
    event: str | None = None
    id: str | None = None
    session: str | None = None
    engine: str | None = None
    payload: _Payload | None = None


_read = Reader(_Body)


def read_envelope(body: bytes) -> Envelope:
    """The envelope of a body. Raises UnreadableError when it is no JSON object, or lacks event or session."""
    if not body.isascii() and not _is_utf8(body):
        raise UnreadableError("not_json")  # parked once, instead of refused by every consumer
    found = _read(body)
    if not found.event:
        raise UnreadableError("no_event")
    if not found.session:
        raise UnreadableError("no_session")
    return Envelope(
        found.event,
        found.id or "",
        found.session,
        found.engine or "",
        _chat_of(found.payload) if found.payload is not None else "",
        ROUTES.get(found.event, OTHER),
    )


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _chat_of(payload: _Payload) -> str:
    """The chat an event concerns, as it stands in the payload; "" when there is none."""
    if payload.id:
        parsed = parse_message_id(payload.id)
        if parsed is not None:
            return parsed.chat
    # revokes, votes, groups, event responses
    for part in (payload.after, payload.poll, payload.vote, payload.group, payload.eventCreationKey):
        if part is not None:
            found = _chat_of_reference(part)
            if found:
                return found
    return _first_jid(payload.chatId, payload.id, payload.from_)  # labels; presence, groups, archive; calls


def _chat_of_reference(part: _Reference) -> str:
    parsed = parse_message_id(part.id) if part.id else None
    return parsed.chat if parsed else _first_jid(part.chatId, part.id, part.from_, part.remoteJid)


def _first_jid(*values: str | None) -> str:
    for value in values:
        if value is not None and "@" in value:
            return normalize_jid(value)[:_MAX_HEADER_CHARS]
    return ""


def to_header(text: str) -> bytes:
    """Header values are ASCII and short whatever the sender wrote."""
    return text[:_MAX_HEADER_CHARS].encode("ascii", "backslashreplace")
