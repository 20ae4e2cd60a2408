"""What `wapipe replay` prints: progress while it runs, books and differences at the end, the list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.replay.compare import Difference
from pipeline.replay.orders import Order
from pipeline.replay.outcome import Outcome, Rehearsal, Watched
from pipeline.replay.ranges import Range
from pipeline.replay.spec import Bound, Spec

notes = Console(stderr=True, highlight=False, markup=False)

_TICK_S = 0.2
_LINE_EVERY_S = 5.0


# ---------------------------------------------------------------- while it runs
@asynccontextmanager
async def shown(watched: Watched) -> AsyncIterator[None]:
    """A bar with an estimate on a terminal, a line every few seconds elsewhere; both on stderr."""
    ticker = asyncio.create_task(_draw(watched) if notes.is_terminal else _write_lines(watched))
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)


async def _draw(watched: Watched) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("", total=None)
        try:
            while True:
                bar.update(task, description=_words(watched), completed=watched.passed, total=watched.total or None)
                await asyncio.sleep(_TICK_S)
        finally:
            bar.update(task, description=_words(watched), completed=watched.passed)


async def _write_lines(watched: Watched) -> None:
    loop = asyncio.get_running_loop()
    started, said = loop.time(), ""
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        done, elapsed = watched.passed - watched.before, loop.time() - started
        rate = done / elapsed
        left = f", {(watched.total - watched.passed) / rate:,.0f} s left" if rate else ""
        line = f"{_words(watched)}: {watched.passed:,} of {watched.total:,} ({rate:,.0f}/s{left})"
        if line != said:
            notes.print(line, soft_wrap=True)
        said = line


def _words(watched: Watched) -> str:
    name = "replay" if watched.id is None else f"replay {watched.id}"
    return f"{name}: {watched.phase}" + (f", waiting for {watched.away}" if watched.away else "")


# ---------------------------------------------------------------- when it has ended
def print_outcome(outcome: Outcome, out: Console, *, as_json: bool) -> None:
    """The books of a replay and what else is to be said of it."""
    if as_json:
        out.print_json(data=outcome.as_dict())
        return
    say = _sayer(out)
    if outcome.unread:
        say(f"{outcome.unread:,} records were left out: the live consumer has not stored them yet")
    if outcome.state == "nothing":
        say("the topics have no record in this range: nothing was done")
        return
    books = outcome.books
    done = outcome.passed - outcome.before
    rate = f", {done / outcome.elapsed_s:,.0f}/s" if outcome.elapsed_s else ""
    earlier = f" ({outcome.before:,} of them earlier)" if outcome.before else ""
    passed = f"{outcome.passed:,} of {outcome.total:,} offsets passed{earlier}"
    say(f"replay {outcome.id}: {passed}, {outcome.elapsed_s:,.1f} s{rate}")
    say(
        f"{books['records']:,} records = {books['written']:,} written + {books['merged']:,} merged + "
        f"{books['skipped']:,} skipped + {books['dead']:,} dead-lettered; gap {books['gap']:,}. "
        f"Difference: {outcome.difference:,}"
    )
    _print_skipped(outcome.skipped_events, out)
    if outcome.scratch is None and not outcome.tables and books["dead"]:
        say(f"look at the dead letters with: wapipe dlq list {outcome.consumer}")
    _print_dead(outcome.dead_letters, outcome.dead_places, out)
    if outcome.tables:
        print_differences(outcome.tables, out)
    if outcome.scratch:
        say(f"the scratch schema {outcome.scratch} stays until: wapipe replay drop {outcome.id}")
    say(_verdict(outcome))


def _verdict(outcome: Outcome) -> str:
    if outcome.state == "stopped":
        return f"stopped before the end. Go on with: wapipe replay resume {outcome.id}"
    return "the books balance" if outcome.state == "done" else "THE BOOKS DO NOT BALANCE"


def print_differences(tables: Iterable[Difference], out: Console) -> None:
    """What this code would make of the records, beside what stands in the live tables."""
    table = Table("table", "same", "added", "changed", "missing", "decided elsewhere")
    for found in tables:
        missing = "not told" if found.missing is None else f"{found.missing:,}"
        table.add_row(
            found.table, f"{found.same:,}", f"{found.added:,}", f"{found.changed:,}", missing, f"{found.elsewhere:,}"
        )
    out.print(table)
    say = _sayer(out)
    for found in tables:
        columns = ", ".join(f"{name} {n:,}" for name, n in sorted(found.columns.items(), key=lambda item: -item[1]))
        if columns:
            say(f"{found.table}: changed rows by column: {columns}")
        for example in found.examples:
            say(f"{found.table}: {example}")
    if not any(found.differs for found in tables):
        say("no difference to the live tables")


def print_rehearsal(found: Rehearsal, spec: Spec, out: Console, *, as_json: bool) -> None:
    """What would be read, and what decoding made of it."""
    if as_json:
        out.print_json(data=_rehearsed(found))
        return
    table = Table("topic", "partition", "from offset", "to offset", "records")
    for r in found.ranges:
        table.add_row(r.partition.topic, str(r.partition.partition), f"{r.first:,}", f"{r.end:,}", f"{r.records:,}")
    out.print(table)
    say = _sayer(out)
    _print_gone(found.ranges, out)
    say(
        f"{spec.consumer}, {_range(spec)}: {found.records:,} records read, {found.filtered:,} of them "
        f"filtered out, {sum(found.skipped_events.values()):,} skipped by name, {found.decoded:,} decoded, "
        f"{sum(found.dead.reasons.values()):,} cannot be decoded"
    )
    _print_skipped(found.skipped_events, out)
    _print_dead(found.dead.reasons, found.dead.places, out)
    say("nothing was written" + ("" if found.complete else "; stopped before the end"))


def _range(spec: Spec) -> str:
    first = "the beginning" if spec.start == Bound() else str(spec.start)
    return f"from {first} to {'now' if spec.end == Bound() else spec.end}"


def _rehearsed(found: Rehearsal) -> dict[str, Any]:
    return {
        "consumer": found.consumer, "complete": found.complete, "records": found.records, "filtered": found.filtered,
        "decoded": found.decoded, "skipped_events": dict(found.skipped_events),
        "dead_letters": dict(found.dead.reasons), "dead_places": found.dead.places,
        "ranges": [
            {"topic": r.partition.topic, "partition": r.partition.partition, "first": r.first, "end": r.end, "gone": r.gone}
            for r in found.ranges
        ],
    }  # fmt: skip


def _print_gone(ranges: Iterable[Range], out: Console) -> None:
    gone = sum(r.gone for r in ranges)
    if gone:
        _sayer(out)(f"{gone:,} offsets that were asked for are deleted already")


def _print_skipped(events: Mapping[str, int], out: Console) -> None:
    if events:
        names = ", ".join(f"{event or '(none)'} {n:,}" for event, n in sorted(events.items()))
        _sayer(out)(f"skipped, by name: {names}")


def _print_dead(reasons: Mapping[str, int], places: Iterable[str], out: Console) -> None:
    if reasons:
        counts = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
        _sayer(out)(f"would be dead letters, by reason: {counts}; the first ones: {'; '.join(places)}")


# ---------------------------------------------------------------- the list
def print_orders(orders: list[Order], schemas: Mapping[int, str], out: Console, *, as_json: bool) -> None:
    """All replays, and scratch schemas that nobody works on."""
    left = {i: name for i, name in schemas.items() if not any(o.id == i and o.held for o in orders)}
    if as_json:
        out.print_json(data={"replays": [_order(o) for o in orders], "left_over": list(left.values())})
        return
    table = Table("id", "consumer", "state", "passed", "started")
    for o in orders:
        table.add_row(
            str(o.id), o.consumer + (" (shadow)" if o.spec.shadow else ""), o.shown_state,
            f"{o.passed:,} of {o.records:,}", _time(o.created_at),
        )  # fmt: skip
    out.print(table if orders else "no replay has been started yet")
    say = _sayer(out)
    for o in orders:
        if o.held:
            say(f"replay {o.id} is worked on by process {o.pid} on {o.host}")
        elif o.state != "done":
            why = f": {o.error}" if o.error else ""
            say(
                f"replay {o.id} is {o.shown_state} since {_time(o.heartbeat_at)}{why}. Go on: wapipe replay resume {o.id}"
            )
    for replay_id, name in left.items():
        say(f"left over: schema {name}. Remove it with: wapipe replay drop {replay_id}")


def _order(o: Order) -> dict[str, Any]:
    return {
        "id": o.id, "consumer": o.consumer, "state": o.shown_state, "passed": o.passed, "records": o.records,
        "shadow": o.spec.shadow, "from": str(o.spec.start), "to": str(o.spec.end), "host": o.host, "pid": o.pid,
        "created_at": o.created_at.isoformat(), "heartbeat_at": o.heartbeat_at.isoformat(),
        "finished_at": o.finished_at.isoformat() if o.finished_at else None, "error": o.error, "result": o.result,
    }  # fmt: skip


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _sayer(out: Console) -> Any:
    def say(text: str) -> None:
        out.print(text, soft_wrap=True)

    return say
