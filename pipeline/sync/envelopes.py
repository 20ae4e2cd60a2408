"""What was fetched as records of waha.backfill: envelopes as WAHA would have made them, with ids that a second fetch repeats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from pipeline.broker import Headers
from pipeline.waha.answers import Row, SessionInfo
from schemas.envelope import to_header
from schemas.ids import MessageId, is_group_like, parse_message_id, qualify_session
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


@dataclass(frozen=True)
class Wrapper:
    """Makes envelopes for one session of one server."""

    source: str
    info: SessionInfo
    version: str

    @cached_property
    def session(self) -> str:
        """Its qualified name."""
        return qualify_session(self.source, self.info.name)

    def messages(self, rows: Sequence[Row], ids: Sequence[MessageId | None]) -> list[Fetched]:
        """The messages of a page; `ids` are theirs, as ids_of reads them. An envelope's time is its message's own: when it
        became as it is now, nobody says."""
        headers, stamp = self._headers(MESSAGE_EVENT), _stamp()
        return [
            self._wrapped(
                MESSAGE_EVENT,
                row.id,
                row.body,
                (row.at_s or 0) * 1000,
                id_.chat if id_ is not None else "",
                headers,
                stamp,
            )
            for row, id_ in zip(rows, ids, strict=True)
        ]

    def event(self, event: str, identity: str, payload: Any, at_ms: int, chat: str = "") -> Fetched:
        """Any other event. `identity` is what the same thing is known by when it is fetched again."""
        return self._wrapped(event, identity, orjson.dumps(payload), at_ms, chat, self._headers(event), _stamp())

    def _wrapped(  # noqa: PLR0917 - what an envelope is made of
        self,
        event: str,
        identity: str,
        payload: bytes,
        at_ms: int,
        chat: str,
        headers: Headers,
        stamp: tuple[str, bytes],
    ) -> Fetched:
        digest = blake2b(f"{self.session}\x00{event}\x00{identity}".encode("utf-8", "surrogatepass"), digest_size=13)
        event_id = b"sync_%b" % digest.hexdigest().encode()
        value = b'{"id":"%b","timestamp":%d,"event":"%b",%b,"payload":%b,%b' % (
            event_id, at_ms, event.encode(), self._session_json, payload, self._server_json,
        )  # fmt: skip
        key = f"{self.session}|{chat}".encode("utf-8", "replace")[:512]
        return Fetched(key, value, [*headers, (HEADER_EVENT_ID, event_id), stamp])

    def _headers(self, event: str) -> Headers:
        """Those that every record of this event has."""
        return [
            (HEADER_EVENT, event.encode()),
            (HEADER_SESSION, to_header(self.session)),
            (HEADER_ENGINE, to_header(self.info.engine)),
            (HEADER_SOURCE, self.source.encode()),
        ]

    @cached_property
    def _session_json(self) -> bytes:
        """What every envelope says of the session, without braces."""
        info = self.info
        me = None if info.me is None else {"id": info.me, "pushName": info.push_name, "lid": info.me_lid}
        return orjson.dumps({"session": info.name, "me": me})[1:-1]

    @cached_property
    def _server_json(self) -> bytes:
        """What every envelope ends with."""
        engine = self.info.engine
        said = {
            "engine": engine,
            "environment": {"version": self.version, "engine": engine},
            "wapipe": {"source": "backfill"},
        }
        return orjson.dumps(said)[1:]


def ids_of(rows: Sequence[Row]) -> list[MessageId | None]:
    """The parts of each message's id; None of one that cannot be read."""
    return [parse_message_id(row.id) for row in rows]


def keys_of(ids: Sequence[MessageId | None], hash_key: bytes) -> list[tuple[str, bytes]]:
    """Chat and key of every message whose id can be read: how the database knows it."""
    found = []
    for parsed in ids:
        if parsed is not None:
            author = ME if parsed.from_me else PEER
            if not parsed.from_me and is_group_like(parsed.chat):
                author = parsed.participant or parsed.chat
            found.append((parsed.chat, message_key(hash_key, author, parsed.raw)))
    return found


def _stamp() -> tuple[str, bytes]:
    return HEADER_RECEIVED_AT_MS, b"%d" % (time.time_ns() // 1_000_000)
