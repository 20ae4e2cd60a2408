"""Decisions about dead letters: sent through their consumer again, or given up; each with who, when and why.

The order of a redrive: letters claimed in a transaction, published and acknowledged, transaction committed. Dying in
between leaves them open, so they are redriven again, which the merges make harmless; no letter is lost. Of two
commands at once the second waits for the claims of the first and leaves those letters out.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.broker import Publisher, require_topics
from pipeline.dlq.box import Box, Report, process_of, silent
from pipeline.dlq.letters import Letter, Origin
from pipeline.postgres import Connection, transaction, translated
from schemas.topics import redrive_topic
from sql import queries

_DEADLINE_S = 10.0

Pair = tuple[Letter, Any]  # with its record


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, about which letters (in words), why and by whom."""

    action: Literal["redriven", "dropped"]
    selection: str
    because: str = ""
    by: str = ""


@dataclass(slots=True)
class Outcome:
    """`decided` letters; `taken` by somebody else meanwhile; `gone`: retention was faster."""

    decided: int = 0
    taken: int = 0
    gone: int = 0


async def redrive(
    box: Box, publisher: Publisher, letters: Sequence[Letter], decision: Decision, report: Report = silent
) -> Outcome:
    """Publishes the letters to their consumer's redrive topic. Raises TransientError; what was done until then stays
    done, and the same command goes on from there. Raises ConfigError when there is nobody to read them."""
    topic = redrive_topic(process_of(box).name)
    await require_topics(box.kafka, [topic])
    outcome, done = Outcome(), 0
    number = await _begin(box, decision)
    async with aclosing(box.fetch(letters)) as fetched:
        async for chunk in fetched:
            async with transaction(box.pool) as connection:
                mine = await _claim(connection, box.consumer, number, [letter for letter, _ in chunk])
                await _publish(publisher, topic.name, [p for p in chunk if p[0].origin in mine])
            outcome.decided += len(mine)
            outcome.taken += len(chunk) - len(mine)
            done += len(chunk)
            report(done, len(letters))
    outcome.gone = len(letters) - done
    return outcome


async def drop(box: Box, letters: Sequence[Letter], decision: Decision) -> Outcome:
    """Gives the letters up. They stay in their topic until its retention ends. Raises TransientError."""
    outcome = Outcome()
    number = await _begin(box, decision)
    for start in range(0, len(letters), 1000):
        chunk = letters[start : start + 1000]
        async with transaction(box.pool) as connection:
            mine = await _claim(connection, box.consumer, number, chunk)
        outcome.decided += len(mine)
        outcome.taken += len(chunk) - len(mine)
    return outcome


def this_user() -> str:
    """user@host for the audit; a user without a name is a number."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def _begin(box: Box, decision: Decision) -> int:
    async with translated():
        number = await box.pool.fetchval(
            queries("deadletters")["decide"], box.consumer, decision.action, decision.selection, decision.because,
            decision.by or this_user(),
        )  # fmt: skip
    return int(number)


async def _claim(connection: Connection, consumer: str, number: int, letters: Sequence[Letter]) -> set[Origin]:
    """The letters that this decision gets. What was decided before about a letter that is not open, ends."""
    sql, again = queries("deadletters"), [letter for letter in letters if letter.decision is not None]
    if again:
        await connection.execute(sql["supersede"], number, consumer, *_columns((*x.origin, x.decision) for x in again))
    dead = _columns((*letter.origin, letter.death.at_ms) for letter in letters)
    rows = await connection.fetch(sql["claim"], number, consumer, *dead)
    return {Origin(r["topic"], r["partition"], r["offset"], r["recorded_at_ms"]) for r in rows}


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _publish(publisher: Publisher, topic: str, pairs: Sequence[Pair]) -> None:
    """Returns when the broker has all of them. The headers travel along: they are the letter's identity and history."""
    sends = (
        publisher.publish(
            topic, letter.key, record.value or b"", [(n, v) for n, v in record.headers if v is not None],
            deadline_s=_DEADLINE_S,
        )
        for letter, record in pairs
    )  # fmt: skip
    for failure in await asyncio.gather(*sends, return_exceptions=True):
        if failure is not None:
            raise failure
