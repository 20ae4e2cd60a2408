"""Frames and segments: what is written is read again, and every kind of damage is told from an unfinished write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import PoisonError
from pipeline.spool.record import Kind, Piece, Record, decode, encode, scan
from pipeline.spool.segment import HEADER_BYTES, Position, Segment, read_content
from schemas.topics import MAX_RECORD_BYTES
from tests.spooling import record, records, write_segment

ODD = Record("t", b"", [("", b""), ("ä", b"\x00\xff")], b"\xffWR\xfe\x00\x00", 2**62)


def kinds(data: bytes) -> list[Kind]:
    return [p.kind for p in scan(data, 0)]


@pytest.mark.parametrize("one", [record(1), record(2, 100_000), ODD], ids=["small", "large", "odd"])
def test_a_record_comes_back_as_it_was(one: Record) -> None:
    data = encode(one)
    [piece] = scan(data, 0)
    assert piece == Piece(0, len(data), Kind.GOOD)
    assert decode(data, piece) == one


def test_a_record_that_no_broker_takes_is_refused_before_it_is_spooled() -> None:
    with pytest.raises(PoisonError, match="too_large_for_broker"):
        encode(record(1, MAX_RECORD_BYTES))


def test_nothing_is_nothing() -> None:
    assert list(scan(b"", 0)) == []


def test_the_pieces_are_the_whole_file() -> None:
    data = encode(record(1)) + b"rubbish" + encode(record(2)) + encode(record(3))[:9]
    pieces = list(scan(data, 0))
    assert [p.kind for p in pieces] == [Kind.GOOD, Kind.DAMAGED, Kind.GOOD, Kind.TORN]
    assert b"".join(data[p.start : p.end] for p in pieces) == data


def test_a_tail_torn_at_any_byte_costs_the_last_record_only(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, records(3))
    data = segment.path.read_bytes()
    ends = [HEADER_BYTES, *(p.end for p in scan(data, HEADER_BYTES))]
    for cut in range(len(data) + 1):
        segment.path.write_bytes(data[:cut])
        content = read_content(segment, None)
        whole = sum(end <= cut for end in ends[1:])
        assert [decode(content.data, p) for p in content.of(Kind.GOOD)] == records(3)[:whole]
        assert content.of(Kind.DAMAGED) == []
        assert bool(content.of(Kind.TORN)) == (cut not in (0, *ends)), cut


def test_any_flipped_byte_costs_one_record_and_is_seen(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, records(3))
    data = segment.path.read_bytes()
    _, second, _ = scan(data, HEADER_BYTES)
    for at in range(second.start, second.end):
        segment.path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        content = read_content(segment, None)
        assert [decode(content.data, p) for p in content.of(Kind.GOOD)] == [record(0), record(2)], at
        assert content.of(Kind.DAMAGED) == [Piece(second.start, second.end, Kind.DAMAGED)], at


@pytest.mark.parametrize("rest", [bytes(5), bytes(400), b"\xff", b"\xffWR\xfe\x00", encode(record(9))[:-1]])
def test_what_an_unfinished_write_leaves(rest: bytes) -> None:
    assert kinds(encode(record(1)) + rest) == [Kind.GOOD, Kind.TORN]


@pytest.mark.parametrize(
    "rest", [b"rubbish", b"\xffWR\xff", bytes(300) + b"x" + bytes(300), encode(record(9))[:-1] + b"\x02"]
)
def test_what_no_unfinished_write_leaves(rest: bytes) -> None:
    assert kinds(encode(record(1)) + rest) == [Kind.GOOD, Kind.DAMAGED]


def test_a_text_that_looks_like_a_frame_is_no_record_even_after_damage() -> None:
    fake = encode(record(7)).decode("latin-1").encode()  # as it could stand in a body, which is UTF-8
    outer = encode(Record("t", b"k", [], b'{"body": "' + fake + b'"}', 0))
    damaged = outer[:6] + b"\x01" + outer[7:]
    assert kinds(damaged + encode(record(2))) == [Kind.DAMAGED, Kind.GOOD]


def test_a_payload_of_a_later_version_is_unreadable_not_lost() -> None:
    import struct
    from zlib import crc32

    length = struct.pack(">I", 3)
    data = b"\xffWR\xfe" + length + struct.pack(">I", crc32(b"\xa2hi", crc32(length))) + b"\xa2hi"
    [piece] = scan(data, 0)
    assert piece.kind is Kind.GOOD
    with pytest.raises(PoisonError, match="unreadable"):
        decode(data, piece)


def test_a_position_counts_for_its_own_segment_only(tmp_path: Path) -> None:
    mine, other = write_segment(tmp_path, records(3)), write_segment(tmp_path, records(2), 2)
    second = list(scan(mine.path.read_bytes(), HEADER_BYTES))[1]
    position = Position(mine.identity, second.start, "refused")
    read_content(mine, position)
    read_content(other, position)
    assert (mine.records, mine.position, mine.flaw) == (2, second.start, "refused")
    assert (other.records, other.position, other.flaw) == (2, HEADER_BYTES, None)


def test_a_damaged_header_costs_no_record(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, records(2))
    data = segment.path.read_bytes()
    segment.path.write_bytes(b"WAPSPL9\n" + data[8:])
    fresh = Segment(segment.path)
    content = read_content(fresh, None)
    assert content.of(Kind.DAMAGED) == [Piece(0, HEADER_BYTES, Kind.DAMAGED)]
    assert (fresh.records, fresh.flaw) == (2, "damaged")


def test_a_segment_is_private(tmp_path: Path) -> None:
    assert os.stat(write_segment(tmp_path, []).path).st_mode & 0o777 == 0o600
