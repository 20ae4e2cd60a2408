"""A request to fetch history: what travels on wapipe.sync. Its state is a row of sync_state."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import Struct

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS

EVENT = "sync.request"  # the header `event` of its record
ALL_CHATS = "all"

Kind = Literal["messages", "people"]
Reason = Literal["gap", "manual", "initial", "periodic"]
PRIORITIES: dict[Reason, int] = {"gap": 0, "manual": 1, "initial": 2, "periodic": 3}


class SyncRequest(Struct, frozen=True, gc=False, kw_only=True):
    """Fetch `chat` of `session` (qualified) between two seconds of WhatsApp's time, both inclusive."""

    request_id: str
    session: str
    chat: str = ALL_CHATS
    kind: Kind = "messages"
    reason: Reason
    since_s: int
    until_s: int

    @property
    def priority(self) -> int:
        """The least goes first."""
        return PRIORITIES[self.reason]


def make_request(
    session: str, reason: Reason, since_s: int, until_s: int, *, chat: str = ALL_CHATS, kind: Kind = "messages"
) -> SyncRequest:
    """A request named by what it asks for: whoever asks for the same makes the same one."""
    asked = f"{session}\x00{chat}\x00{kind}\x00{reason}\x00{since_s}\x00{until_s}"
    request_id = blake2b(asked.encode(), digest_size=12).hexdigest()
    return SyncRequest(
        request_id=request_id, session=session, chat=chat, kind=kind, reason=reason, since_s=since_s, until_s=until_s
    )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SyncRequest).decode


def to_value(request: SyncRequest) -> bytes:
    """The record's value."""
    return _encode(request)


def parse_request(value: bytes) -> SyncRequest:
    """Raises MalformedError when it is no request that could ever be run."""
    try:
        request = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedError("sync_request_wrong", str(exc)[:100]) from exc
    if not request.session or not request.request_id or not request.chat:
        raise MalformedError("sync_request_wrong", "session, chat and request_id")
    if max(len(request.session), len(request.chat), len(request.request_id)) > MAX_JID_CHARS:
        raise MalformedError("sync_request_wrong", "too long")
    if not 0 <= request.since_s <= request.until_s < 2**40:
        raise MalformedError("sync_request_wrong", "since_s and until_s")
    return request
