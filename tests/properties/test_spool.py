"""The spool over random records, cuts, flips and broker failures: what was acknowledged is sent, in order, or reported."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TransientError
from pipeline.spool.contents import read_spool
from pipeline.spool.drain import drain
from pipeline.spool.record import Kind, Record, decode, encode, scan
from tests.spooling import Broker, leave_slot, recovered, values

RECORDS = st.builds(
    Record,
    topic=st.text(max_size=20),
    key=st.binary(max_size=30),
    headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20)), max_size=4),
    value=st.binary(max_size=300) | st.just(b"\xffWR\xfe" * 9),
    at_ms=st.integers(0, 2**63),
)


@given(st.lists(RECORDS, max_size=8), st.data())
def test_any_prefix_of_a_file_holds_its_whole_records_and_nothing_else(
    written: list[Record], data: st.DataObject
) -> None:
    frames = [encode(r) for r in written]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    pieces = list(scan(whole[:cut], 0))
    good = [decode(whole, p) for p in pieces if p.kind is Kind.GOOD]
    assert good == written[: len(good)]
    assert sum(len(f) for f in frames[: len(good)]) <= cut
    assert len(good) == len(written) or sum(len(f) for f in frames[: len(good) + 1]) > cut
    assert all(p.kind is not Kind.DAMAGED for p in pieces)


@given(st.lists(RECORDS, min_size=1, max_size=8), st.data())
def test_damage_anywhere_costs_only_what_it_touches_and_is_reported(written: list[Record], data: st.DataObject) -> None:
    frames = [encode(r) for r in written]
    whole = bytearray(b"".join(frames))
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, min(len(whole), start + 40)))
    for at in range(start, end):
        whole[at] ^= 0x55
    edges = [sum(map(len, frames[:n])) for n in range(len(frames) + 1)]
    untouched = [r for n, r in enumerate(written) if edges[n + 1] <= start or edges[n] >= end]
    pieces = list(scan(bytes(whole), 0))
    assert [decode(bytes(whole), p) for p in pieces if p.kind is Kind.GOOD] == untouched
    lost = [p for p in pieces if p.kind is not Kind.GOOD]
    assert lost
    assert lost[0].start <= start < lost[-1].end
    assert sum(p.end - p.start for p in pieces) == len(whole)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(RECORDS, min_size=1, max_size=30), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), max_size=5),
    st.integers(0, 2**32),
)
def test_any_sequence_of_outages_and_restarts_sends_everything_in_order(
    segments: list[list[Record]], outages: list[int], seed: int
) -> None:
    root = Path(tempfile.mkdtemp(prefix="wapipe-spool-"))
    try:
        leave_slot(root, *segments)
        broker = asyncio.run(_through(root, outages, random.Random(seed)))
        everything = [r for s in segments for r in s]
        first_time = iter(broker.values)
        assert all(value in first_time for value in values(everything)), "not in order, or lost"
        assert [(s.segments, s.aside) for s in read_spool(root, "")] == [(0, 0)]
    finally:
        shutil.rmtree(root)


async def _through(root: Path, outages: list[int], dice: random.Random) -> Broker:
    """Drains with the broker going away after so many tries each; now and then the process is a new one."""
    broker = Broker()
    slot = recovered(root)
    for tries in [*outages, None]:
        broker.tries_left, broker.away = tries, False
        try:
            await drain(slot, broker.take, lambda _: None)
        except TransientError:
            if dice.random() < 0.5:
                slot.close()
                slot = recovered(root)
    slot.close()
    return broker


@given(st.binary(max_size=400))
def test_rubbish_is_never_a_record(rubbish: bytes) -> None:
    pieces = list(scan(rubbish, 0))
    assert sum(p.end - p.start for p in pieces) == len(rubbish)
    assert all(p.kind is not Kind.GOOD for p in pieces)
