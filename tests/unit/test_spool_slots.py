"""Directories of the spool: locks, leftovers, recovery, positions, what is set aside, and the view from outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, TransientError
from pipeline.ledger import Ledger
from pipeline.spool.contents import count_records, read_spool
from pipeline.spool.drain import drain
from pipeline.spool.record import encode
from pipeline.spool.slot import adopt, claim, hold, read_position, segment_files
from tests.spooling import Broker, leave_slot, record, records, recovered, values, write_segment


def ignore(_: int) -> None:
    """Nobody counts."""


# ---------------------------------------------------------------- who holds what
def test_two_claims_share_nothing(tmp_path: Path) -> None:
    one, two = claim(tmp_path, ""), claim(tmp_path, "")
    assert (one.path.name, two.path.name) == ("slot-0000", "slot-0001")
    one.close()
    again = claim(tmp_path, "")
    assert again.path == one.path
    again.close()
    two.close()


def test_what_a_dead_process_left_is_adopted_once(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(2))
    first, second = adopt(tmp_path, ""), adopt(tmp_path, "")
    assert first is not None
    assert (first.path, second) == (path, None)
    first.close()


def test_an_empty_or_held_directory_is_not_adopted(tmp_path: Path) -> None:
    leave_slot(tmp_path)
    held = claim(tmp_path, "")
    write_segment(held.path, records(1))
    assert adopt(tmp_path, "") is None
    held.close()


def test_installations_with_different_prefixes_do_not_meet(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(2))
    own = claim(tmp_path, "blue.")
    assert (own.path.name, adopt(tmp_path, "blue."), adopt(tmp_path, "lue.")) == ("blue.slot-0000", None, None)
    assert [s.path.name for s in read_spool(tmp_path, "blue.")] == ["blue.slot-0000"]
    own.close()


def test_a_folder_that_cannot_be_had_says_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"WAPIPE_SPOOL_DIR.*WAPIPE_SPOOL_MAX_BYTES=0"):
        claim(tmp_path / "file" / "spool", "")


# ---------------------------------------------------------------- recovery
async def test_a_torn_tail_is_cut_off_and_the_rest_is_drained(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(3))
    file, whole = path / "0000000001.spool", (path / "0000000001.spool").read_bytes()
    file.write_bytes(whole + encode(record(9))[:-5])
    slot, broker = recovered(tmp_path), Broker()
    assert (file.read_bytes(), slot.records) == (whole, 3)
    await drain(slot, broker.take, ignore)
    assert (broker.values, segment_files(path), segment_files(path / "aside")) == (values(records(3)), [], [])
    slot.close()


async def test_a_file_that_ended_in_its_header_holds_nothing_up(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, [], records(1))
    (path / "0000000001.spool").write_bytes(b"WAPSP")
    slot, broker = recovered(tmp_path), Broker()
    await drain(slot, broker.take, ignore)
    assert (broker.values, segment_files(path)) == (values(records(1)), [])
    slot.close()


async def test_a_damaged_record_is_set_aside_with_its_file_and_the_others_are_sent(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(3), [record(3)])
    file = path / "0000000001.spool"
    file.write_bytes(file.read_bytes().replace(record(1).value, b"y" * 20))
    [seen] = read_spool(tmp_path, "")
    assert (seen.records, seen.damaged, seen.aside) == (3, 1, 0)
    slot, broker = recovered(tmp_path), Broker()
    await drain(slot, broker.take, ignore)
    assert broker.values == values([record(0), record(2), record(3)])
    assert [p.name for p in segment_files(path / "aside")] == ["0000000001.damaged.spool"]
    slot.close()
    [after] = read_spool(tmp_path, "")
    assert (after.records, after.damaged, after.aside, after.size_bytes) == (0, 1, 1, 0)


async def test_the_next_file_is_behind_all_others(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(1), records(1))
    slot = recovered(tmp_path)
    opened = slot.new_segment()
    assert opened.segment.number == 3
    opened.discard()
    slot.close()


# ---------------------------------------------------------------- positions
async def test_a_restart_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(10))
    slot, broker = recovered(tmp_path), Broker(tries_left=1)
    with pytest.raises(TransientError):
        await drain(slot, broker.take, ignore)  # the first record goes alone
    slot.close()
    again, later = recovered(tmp_path), Broker()
    assert again.records == 9
    await drain(again, later.take, ignore)
    assert broker.values + later.values == values(records(10))
    again.close()


async def test_a_flaw_found_before_a_restart_still_sets_the_file_aside(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(3))
    slot, broker = recovered(tmp_path), Broker(large={record(0).value}, tries_left=1)
    with pytest.raises(TransientError):
        await drain(slot, broker.take, ignore)
    slot.close()
    broker.tries_left, broker.away = None, False
    again = recovered(tmp_path)
    assert again.records == 2
    await drain(again, broker.take, ignore)
    again.close()
    assert broker.values == values(records(3)[1:])
    assert [p.name for p in segment_files(path / "aside")] == ["0000000001.refused.spool"]


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b"[1]", b'["id", 9, null, 12]', b"\xff"])
def test_a_position_that_cannot_be_trusted_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "position").write_bytes(content)
    assert read_position(tmp_path) is None


def test_a_position_with_a_flipped_digit_is_none(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(5))
    slot = recovered(tmp_path)
    slot.segments[0].position = 100
    slot.save_position(slot.segments[0])
    slot.close()
    file = slot.path / "position"
    kept = read_position(slot.path)
    assert kept is not None
    assert kept.offset == 100
    file.write_bytes(file.read_bytes().replace(b"100", b"900"))
    assert read_position(slot.path) is None


# ---------------------------------------------------------------- refused by the broker
async def test_a_record_that_is_too_large_holds_nothing_up_and_can_be_sent_later(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(4), [record(4)])
    slot, broker = recovered(tmp_path), Broker(large={record(2).value})
    await drain(slot, broker.take, ignore)
    assert broker.values == values([record(n) for n in (0, 1, 3, 4)])
    assert (slot.take_back("refused"), slot.take_back("refused")) == (1, 0)
    slot.recover()
    larger = Broker()
    await drain(slot, larger.take, ignore)
    slot.close()
    assert record(2).value in larger.values
    assert (segment_files(path), segment_files(path / "aside")) == ([], [])


# ---------------------------------------------------------------- from outside
def test_the_view_from_outside(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(3), [record(3, at_ms=1_600_000_000_000)])
    held = claim(tmp_path, "")
    [seen] = read_spool(tmp_path, "")
    assert (seen.records, seen.segments, seen.oldest_ms, seen.held_by) == (4, 2, 1_600_000_000_000, os.getpid())
    assert json.loads(json.dumps(seen.as_dict()))["name"] == "slot-0000"
    held.close()
    [free] = read_spool(tmp_path, "")
    assert free.held_by is None
    assert read_spool(tmp_path / "nowhere", "") == []


def test_the_books_count_what_is_here_and_nothing_where_there_is_no_spool(tmp_path: Path) -> None:
    leave_slot(tmp_path / "spool", records(3), records(2))
    assert count_records(tmp_path / "spool", "") == 5
    assert count_records(tmp_path / "spool", "other.") == 0
    assert count_records(tmp_path / "elsewhere", "") is None
    assert Ledger(0, 0, 0, 0, [], 5).as_dict()["spooled"] == 5


def test_looking_takes_nothing(tmp_path: Path) -> None:
    path = leave_slot(tmp_path, records(1))
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    read_spool(tmp_path, "")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before
    slot = hold(path)
    assert slot is not None
    slot.close()
