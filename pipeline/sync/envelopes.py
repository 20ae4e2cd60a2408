"""What was fetched as records of waha.backfill: envelopes as WAHA would have made them, with ids that a second fetch repeats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from pipeline.broker import Headers
from pipeline.waha.answers import Row, SessionInfo
from schemas.envelope import to_header
from schemas.ids import is_group_like, parse_message_id, qualify_session
from schemas.keys import ME, PEER, message_key
from schemas.topics import (
    HEADER_ENGINE,
    HEADER_EVENT,
    HEADER_EVENT_ID,
    HEADER_RECEIVED_AT_MS,
    HEADER_SESSION,
    HEADER_SOURCE,
)

MESSAGE_EVENT = "message.any"


class Fetched(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Wrapper:
    """Makes envelopes for one session of one server."""

    source: str
    info: SessionInfo
    version: str

    @property
    def session(self) -> str:
        """Its qualified name."""
        return qualify_session(self.source, self.info.name)

    def message(self, row: Row) -> Fetched:
        """A message. The envelope's time is the message's own: when it became as it is now, nobody says."""
        parsed = parse_message_id(row.id)
        return self._wrapped(MESSAGE_EVENT, row.id, row.body, (row.at_s or 0) * 1000, parsed.chat if parsed else "")

    def event(self, event: str, identity: str, payload: Any, at_ms: int, chat: str = "") -> Fetched:
        """Any other event. `identity` is what the same thing is known by when it is fetched again."""
        return self._wrapped(event, identity, orjson.dumps(payload), at_ms, chat)

    def _wrapped(self, event: str, identity: str, payload: bytes, at_ms: int, chat: str) -> Fetched:
        digest = blake2b(f"{self.session}\x00{event}\x00{identity}".encode("utf-8", "surrogatepass"), digest_size=13)
        event_id = f"sync_{digest.hexdigest()}"
        head = orjson.dumps(
            {"id": event_id, "timestamp": at_ms, "event": event, "session": self.info.name, "me": self._me()}
        )
        tail = orjson.dumps({
            "engine": self.info.engine, "environment": {"version": self.version, "engine": self.info.engine},
            "wapipe": {"source": "backfill"},
        })  # fmt: skip
        value = b"".join((head[:-1], b',"payload":', payload, b",", tail[1:]))
        headers: Headers = [
            (HEADER_EVENT, event.encode()),
            (HEADER_EVENT_ID, event_id.encode()),
            (HEADER_SESSION, to_header(self.session)),
            (HEADER_ENGINE, to_header(self.info.engine)),
            (HEADER_SOURCE, self.source.encode()),
            (HEADER_RECEIVED_AT_MS, b"%d" % (time.time_ns() // 1_000_000)),
        ]
        return Fetched(f"{self.session}|{chat}".encode("utf-8", "replace")[:512], value, headers)

    def _me(self) -> dict[str, str | None] | None:
        if self.info.me is None:
            return None
        return {"id": self.info.me, "pushName": self.info.push_name, "lid": self.info.me_lid}


def keys_of(rows: Sequence[Row], hash_key: bytes) -> list[tuple[str, bytes]]:
    """Chat and key of every message whose id can be read: how the database knows it."""
    found = []
    for row in rows:
        if parsed := parse_message_id(row.id):
            author = ME if parsed.from_me else PEER
            if not parsed.from_me and is_group_like(parsed.chat):
                author = parsed.participant or parsed.chat
            found.append((parsed.chat, message_key(hash_key, author, parsed.raw)))
    return found
