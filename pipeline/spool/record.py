"""A spooled record and its frame: marker, length, CRC-32, MessagePack. Pure: bytes in, bytes out.

    frame = marker (4 bytes) | length of payload (u32, big-endian) | CRC-32 of length and payload (u32) | payload

The marker is no UTF-8, so a text that somebody sends can never look like a frame to a scan that lost its way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

import msgspec

from pipeline.errors import PoisonError
from schemas.topics import MAX_RECORD_BYTES

_MARKER = b"\xffWR\xfe"
_HEAD = struct.Struct(">4sII")


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What `publish` is called with, and when it was spooled (ms since the epoch). New fields go to the end."""

    topic: str  # without the installation's prefix
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes
    at_ms: int


class Kind(StrEnum):
    """What a piece of a segment is."""

    GOOD = "good"
    DAMAGED = "damaged"  # does not match its checksum, or no frame at all
    TORN = "torn"  # an unfinished write at the end: it was never acknowledged


class Piece(NamedTuple):
    """`data[start:end]` of a segment."""

    start: int
    end: int
    kind: Kind


_decoder = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


def encode(record: Record) -> bytes:
    """The frame. Raises PoisonError for a record that no broker of ours takes."""
    payload = _encoder.encode(record)
    if len(payload) > MAX_RECORD_BYTES:
        raise PoisonError("too_large_for_broker", f"{len(payload):,} bytes")
    length = len(payload).to_bytes(4, "big")
    return _HEAD.pack(_MARKER, len(payload), crc32(payload, crc32(length))) + payload


def decode(data: bytes, piece: Piece) -> Record:
    """The record of a good piece. Raises PoisonError for one whose payload is none (written by a later version)."""
    try:
        return _decoder.decode(memoryview(data)[piece.start + _HEAD.size : piece.end])
    except msgspec.MsgspecError as exc:
        raise PoisonError("unreadable", str(exc)) from exc


def scan(data: bytes, start: int) -> Iterator[Piece]:
    """Every byte from `start` on, as pieces in order; after damage it goes on at the next good frame."""
    at = start
    while at < len(data):
        end = _frame_end(data, at)
        if end is not None:
            yield Piece(at, end, Kind.GOOD)
            at = end
            continue
        following = _next_frame(data, at + 1)
        if following is None:
            yield Piece(at, len(data), Kind.TORN if _is_unfinished(data, at) else Kind.DAMAGED)
            return
        yield Piece(at, following, Kind.DAMAGED)
        at = following


def _frame_end(data: bytes, at: int) -> int | None:
    """End of the good frame at `at`; None if there is none."""
    if not data.startswith(_MARKER, at) or at + _HEAD.size > len(data):
        return None
    _, length, checksum = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + length
    if end > len(data):
        return None
    view = memoryview(data)
    return end if crc32(view[at + _HEAD.size : end], crc32(view[at + 4 : at + 8])) == checksum else None


def _next_frame(data: bytes, at: int) -> int | None:
    while (at := data.find(_MARKER, at)) >= 0:
        if _frame_end(data, at) is not None:
            return at
        at += 1
    return None


def _is_unfinished(data: bytes, at: int) -> bool:
    """True for what a write that was cut off leaves at the end: the beginning of a frame, or zeros of a grown file."""
    rest = data[at : at + _HEAD.size]
    if len(rest) < _HEAD.size:
        return _MARKER.startswith(rest[:4]) or rest.startswith(_MARKER) or not any(rest)
    if rest.startswith(_MARKER):
        return at + _HEAD.size + int.from_bytes(rest[4:8], "big") > len(data)
    return not data[at:].strip(b"\0")
