"""How complete the archive is: of a session, or of one of its chats, from the requests that ended and the gaps that are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from pipeline.postgres import Connection, Pool, translated
from sql import queries

Complete = Literal["true", "false", "unknown"]
_MOST_GAPS = 200


@dataclass(frozen=True, slots=True)
class Gap:
    """An interval in which messages may be missing. `found`: what fetching it brought, once it is closed."""

    chat: str
    cause: str
    since_s: int
    until_s: int
    status: str
    found: int | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """`complete` is "true" from `since_s` to `until_s`, as far as anybody can tell; "false" while a gap or a request is open
    or failed; "unknown" when nothing was ever fetched. `missed`: messages that look-backs found and no webhook had brought, of
    `looked_at` messages."""

    complete: Complete
    why: str
    since_s: int | None
    until_s: int | None
    looked_at: int
    missed: int
    gaps: list[Gap]


async def read_coverage(pool: Pool | Connection, session: str, chat: str | None = None) -> Coverage:
    """Raises TransientError."""
    async with translated():
        runs = await pool.fetch(queries("gaps")["covered"], session, chat)
    return judge([dict(r) for r in runs], await read_gaps(pool, session, chat))


async def read_gaps(
    pool: Pool | Connection, session: str, chat: str | None = None, *, closed: bool = False
) -> list[Gap]:
    """The newest first; closed ones too where they are asked for. Raises TransientError."""
    async with translated():
        rows = await pool.fetch(queries("gaps")["gaps"], session, chat, closed, _MOST_GAPS)
    return [Gap(r["chat"], r["cause"], r["since_s"], r["until_s"], r["status"], r["found"]) for r in rows]


class PageCoverage(NamedTuple):
    """Whether messages may be missing between two times of a chat. `gaps`: those that are not closed."""

    complete: Complete
    gaps: list[Gap]


async def read_page_coverage(
    connection: Pool | Connection, session: str, chats: Sequence[str], since_s: int, until_s: int
) -> PageCoverage:
    """Of a chat under all its ids, both ends inclusive; `until_s` may lie ahead. Raises TransientError."""
    async with translated():
        row = await connection.fetchrow(queries("gaps")["of_page"], session, list(chats), since_s, until_s)
    assert row is not None  # it is one aggregate
    gaps = [Gap(**gap, found=None) for gap in orjson.loads(row["gaps"])]
    if gaps or row["unfinished"]:
        return PageCoverage("false", gaps)
    return PageCoverage("true" if row["covered"] else "unknown", [])


def judge(runs: Sequence[Mapping[str, Any]], gaps: list[Gap]) -> Coverage:
    """Pure. `runs`: the newest first."""
    done = [r for r in runs if r["status"] == "completed"]
    looks = [r for r in done if r["reason"] == "periodic"]
    span = _span(done)
    unfinished = next((r for r in runs if r["status"] != "completed" and not _seen_since(r, done)), None)
    complete, why = _verdict(span, unfinished, gaps)
    looked_at, missed = sum(r["seen"] for r in looks), sum(r["new"] for r in looks)
    return Coverage(complete, why, span[0] if span else None, span[1] if span else None, looked_at, missed, gaps)


def _verdict(
    span: tuple[int, int] | None, unfinished: Mapping[str, Any] | None, gaps: list[Gap]
) -> tuple[Complete, str]:
    if unfinished is not None:
        said = f": {unfinished['error']}" if unfinished["error"] else ""
        return "false", f"a request ({unfinished['reason']}) is {unfinished['status']}{said}"
    if gaps:
        return "false", f"{len(gaps)} gaps are not closed"
    if span is None:
        return "unknown", "nothing was fetched yet"
    return "true", "everything that WAHA has was fetched"


def _span(done: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """The newest stretch without a hole that the completed windows make together."""
    found: tuple[int, int] | None = None
    for since_s, until_s in sorted(((r["since_s"], r["until_s"]) for r in done), key=lambda w: -w[1]):
        if found is None:
            found = since_s, until_s
        elif until_s >= found[0] - 1:
            found = min(since_s, found[0]), found[1]
    return found


def _seen_since(run: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a completed request covers the window of one that did not get there."""
    return any(d["since_s"] <= run["since_s"] and d["until_s"] >= run["until_s"] for d in done)
