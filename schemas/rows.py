"""One NamedTuple a table, in COPY order: what a fact looks like on its way into the database."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from msgspec import Struct

_RANK = struct.Struct(">QII")

LANE_LIVE = 0
LANE_BACKFILL = 1


class ContentFact(Struct, frozen=True, gc=False):
    """What one `message` or `message.any` says, with ids still as text. Pure: made from the record alone."""

    session: str
    chat: str
    sender: str | None
    participant: str | None  # fourth part of the serialized id
    key_sender: str  # the sender as far as it belongs to the message's key: "" for own messages and direct chats
    ts_ms: int
    from_me: bool
    has_media: bool
    raw_id: str
    type: str
    body: str | None
    reply_to: str | None
    source: str | None
    push_name: str | None
    mimetype: str | None
    filename: str | None
    event_id: str | None
    extra: str | None  # JSON text
    poverty: int  # 0 content is all there, 1 media not described, 2 nothing to show: the richer of two facts is shown


class StagedContent(NamedTuple):
    """A row of stage_messages: message_content's columns in order (times as Unix milliseconds: the database turns them
    into timestamps far cheaper than Python), and the rank that decides between two contents."""

    ts_ms: int
    received_at_ms: int
    offset: int
    session_id: int
    chat_id: int
    sender_id: int | None
    participant_id: int | None
    partition: int
    lane: int
    key: UUID
    from_me: bool
    has_media: bool
    raw_id: str
    type: str
    body: str | None
    reply_to: str | None
    source: str | None
    push_name: str | None
    mimetype: str | None
    filename: str | None
    event_id: str | None
    topic: str
    extra: str | None
    rank: UUID


def content_rank(poverty: int, lane: int, received_at_ms: int, tie_break: bytes) -> bytes:
    """16 bytes; the content with the lowest is the one shown, whatever order they came in.

    Richer before poorer, live before backfill, first received before later; within one millisecond a checksum of
    `tie_break` (what tells two events apart) decides, so that the order is the same for everybody.
    """
    return _RANK.pack(poverty << 56 | lane << 48 | received_at_ms & 0xFFFF_FFFF_FFFF, crc32(tie_break), len(tie_break))


class SessionFact(NamedTuple):
    """What one `session.status` says. Merged by schemas.normalize.session.state_order and account_order."""

    name: str
    status: str
    at: datetime
    me: str | None
    me_lid: str | None
    me_push_name: str | None
    engine: str | None
    waha_version: str | None
