"""Cursors of lists: the place after the last item of a page, as opaque text that stands in a URL unescaped.

A cursor carries a short checksum over what it pages through, so that a mistyped one, or one of another chat,
is refused and does not silently show the wrong page. It is no secret and no permission: the token decides who
reads.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import orjson

_CHECK_BYTES = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CURSOR_CHARS = 4096  # a contact or call has an id of 256 characters at most, each of which JSON may write as six


class Position(NamedTuple):
    """Place of a message in a chat: newest first by WhatsApp's time, then by ours, then by key; twins have equal keys, so
    last by the number of the id under which the chat has it."""

    ts: datetime
    received_at: datetime
    key: UUID
    chat_id: int


END = datetime.max.replace(tzinfo=UTC)
NEWEST = Position(END, END, UUID(int=2**128 - 1), 2**31 - 1)
OLDEST = datetime.min.replace(tzinfo=UTC)


def just_before(ts: datetime) -> Position:
    """The place after everything at `ts` or later: what is older than `ts` comes next."""
    return Position(ts, OLDEST, UUID(int=0), 0)


def encode(place: bytes, *scope: str) -> str:
    """A cursor for `place` in the list that `scope` names (its kind, session, chat)."""
    return base64.urlsafe_b64encode(_check(place, scope) + place).decode().rstrip("=")


def decode(cursor: str, *scope: str) -> bytes:
    """The place again. Raises ValueError when the text is no cursor of this list."""
    if not cursor.isascii() or len(cursor) > _MAX_CURSOR_CHARS:
        raise ValueError("not a cursor")
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not a cursor") from None
    check, place = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    if check != _check(place, scope) or encode(place, *scope) != cursor:
        raise ValueError("not a cursor of this list")
    return place


def encode_text(last: str, *scope: str) -> str:
    """A cursor for the place after `last` in a list that is sorted by one text."""
    return encode(last.encode(), *scope)


def decode_text(cursor: str, *scope: str) -> str:
    """The text again. Raises ValueError, also for one that PostgreSQL cannot hold."""
    text = decode(cursor, *scope).decode()
    if "\x00" in text:
        raise ValueError("not a cursor of texts")
    return text


def encode_values(values: Sequence[int | str], *scope: str) -> str:
    """A cursor for the place after a row that is ordered by several values."""
    return encode(orjson.dumps(values), *scope)


def decode_values(cursor: str, kinds: Sequence[type], *scope: str) -> list[Any]:
    """The values again, of these types: datetime (from microseconds), int (of four bytes) or str. Raises ValueError."""
    values = orjson.loads(decode(cursor, *scope))
    if not isinstance(values, list) or len(values) != len(kinds):
        raise ValueError("not a cursor of such rows")
    return [_to_kind(value, kind) for value, kind in zip(values, kinds, strict=True)]


def _to_kind(value: Any, kind: type) -> Any:
    if kind is str and isinstance(value, str) and "\x00" not in value:
        return value
    if kind is datetime and isinstance(value, int):
        try:
            return _from_us(value)
        except OverflowError:
            raise ValueError("not a time") from None
    if kind is int and isinstance(value, int) and 0 <= value < 2**31:
        return value
    raise ValueError("not a cursor of such rows")


def encode_position(position: Position, *scope: str) -> str:
    """A cursor for a place among messages."""
    times = (to_us(position.ts), to_us(position.received_at))
    place = b"".join(t.to_bytes(8, "big", signed=True) for t in times) + position.key.bytes
    return encode(place + position.chat_id.to_bytes(4, "big"), *scope)


def decode_position(cursor: str, *scope: str) -> Position:
    """The place among messages again. Raises ValueError."""
    place = decode(cursor, *scope)
    if len(place) != 36 or place[32] > 0x7F:
        raise ValueError("not a cursor of messages")
    ts, received_at = (int.from_bytes(place[i : i + 8], "big", signed=True) for i in (0, 8))
    try:
        return Position(
            _from_us(ts), _from_us(received_at), UUID(bytes=place[16:32]), int.from_bytes(place[32:], "big")
        )
    except OverflowError:
        raise ValueError("not a time") from None


def _check(place: bytes, scope: tuple[str, ...]) -> bytes:
    named = "\x1f".join(scope).encode("utf-8", "surrogatepass")
    return blake2b(place, digest_size=_CHECK_BYTES, key=blake2b(named, digest_size=32).digest()).digest()


def to_us(at: datetime) -> int:
    """Unix microseconds."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def _from_us(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)
