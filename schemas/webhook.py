"""WAHA's webhook as it arrives: permissive reading of a body, and what the ingress needs to know of it.

Nothing is validated here beyond "a JSON object with an event and a session": unknown events are stored like known ones.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import orjson

from schemas.ids import normalize_jid, parse_message_id
from schemas.topics import OTHER, ROUTES, Topic

_MAX_HEADER_CHARS = 200


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


def parse_body(body: bytes) -> dict[str, Any]:
    """The body as a dict, without NUL characters and lone surrogates (PostgreSQL stores neither). Raises UnreadableError.

    orjson refuses lone surrogates, which JavaScript does write (`\\ud83d`), so the standard library reads those.
    """
    try:
        value = orjson.loads(body)
        clean = b"\\u0000" not in body
    except orjson.JSONDecodeError:
        value, clean = _parse_leniently(body), False
    if type(value) is not dict:
        raise UnreadableError("not_an_object")
    return value if clean else _scrub(value)


def _parse_leniently(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise UnreadableError("not_json") from None


def _scrub(value: Any) -> Any:
    if type(value) is str:
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if type(value) is dict:
        return {_scrub(k): _scrub(v) for k, v in value.items()}
    if type(value) is list:
        return [_scrub(v) for v in value]
    return value


def read_envelope(data: dict[str, Any]) -> Envelope:
    """What the ingress files an event by. Raises UnreadableError when event or session is missing."""
    event, session = data.get("event"), data.get("session")
    if type(event) is not str or not event:
        raise UnreadableError("no_event")
    if type(session) is not str or not session:
        raise UnreadableError("no_session")
    event_id, engine = data.get("id"), data.get("engine")
    payload = data.get("payload")
    return Envelope(
        event,
        event_id if type(event_id) is str else "",
        session,
        engine if type(engine) is str else "",
        _chat_of(payload) if type(payload) is dict else "",
        ROUTES.get(event, OTHER),
    )


def _chat_of(payload: dict[str, Any]) -> str:
    """The chat an event concerns, as it stands in the payload; "" when there is none."""
    message_id = payload.get("id")
    if type(message_id) is str:
        parsed = parse_message_id(message_id)
        if parsed is not None:
            return parsed.chat
    for part in ("after", "poll", "vote", "group", "eventCreationKey"):  # revoked, votes, groups, event responses
        inner = payload.get(part)
        if type(inner) is dict:
            found = _chat_of(inner)
            if found:
                return found
    for field in ("chatId", "id", "from", "remoteJid"):  # labels; presence, groups, archive; calls; WPP's revokes
        value = payload.get(field)
        if type(value) is str and "@" in value:
            return normalize_jid(value)[:_MAX_HEADER_CHARS]
    return ""


def to_header(text: str) -> bytes:
    """Header values are ASCII and short whatever the sender wrote."""
    return text[:_MAX_HEADER_CHARS].encode("ascii", "backslashreplace")
