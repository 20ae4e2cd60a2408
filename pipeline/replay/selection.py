"""Which records of a range are wanted, by header and key; the body is read only where these do not say it."""

from __future__ import annotations

from typing import Any

from pipeline.replay.spec import Spec
from schemas.envelope import Envelope, read_envelope, to_header
from schemas.ids import DEFAULT_SOURCE, qualify_session
from schemas.reading import UnreadableError
from schemas.topics import HEADER_EVENT, HEADER_SESSION, HEADER_SOURCE

FILTERED = "(filtered)"  # stands where the name of a skipped event stands; no event has such a name
_MAX_KEY_BYTES = 512  # the ingress cuts keys there


class Selection:
    """The filters of a replay. Sessions are written as users write them (`source:session` for a second WAHA)."""

    def __init__(self, spec: Spec) -> None:
        self._events = frozenset(to_header(name) for name in spec.events)
        self._sessions = frozenset(to_header(name) for name in spec.sessions)
        self._chats = frozenset(name.encode() for name in spec.chats)

    def wants(self, record: Any) -> bool:
        """True for a record that passes every filter."""
        headers = dict(record.headers)
        if self._events and headers.get(HEADER_EVENT) not in self._events:
            return False
        if self._sessions and _session(record, headers) not in self._sessions:
            return False
        return not self._chats or _chat(record) in self._chats


def _session(record: Any, headers: dict[str, bytes | None]) -> bytes | None:
    said = headers.get(HEADER_SESSION)
    if said is not None:
        return said
    envelope = _envelope(record)
    source = (headers.get(HEADER_SOURCE) or b"").decode("ascii", "replace") or DEFAULT_SOURCE
    return to_header(qualify_session(source, envelope.session)) if envelope else None


def _chat(record: Any) -> bytes | None:
    key = record.key or b""
    _, separator, chat = key.rpartition(b"|")
    if separator and len(key) < _MAX_KEY_BYTES:
        return bytes(chat)
    envelope = _envelope(record)
    return envelope.chat.encode("utf-8", "replace") if envelope else None


def _envelope(record: Any) -> Envelope | None:
    try:
        return read_envelope(record.value or b"")
    except UnreadableError:
        return None
