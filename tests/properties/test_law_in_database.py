"""The merge law on a real database: random histories, in any order, doubled, cut into batches, written by two writers at
once, interrupted and repeated, give the rows of schemas.law in every table of every consumer.

The seed is printed; WAPIPE_LAW_SEED repeats a run, WAPIPE_LAW_EXAMPLES makes it longer (then with --timeout 0). Histories
have sessions of their own, so that many of them are played together.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from msgspec import structs

from consumers.contacts import Contacts
from consumers.messages import Messages
from consumers.sessions import Sessions
from pipeline.batch import Place
from pipeline.facts import Placed
from pipeline.postgres import Pool, open_pool, transaction
from pipeline.settings import DatabaseSettings
from schemas.facts import Fact, RankedContent
from schemas.law import merge
from schemas.normalize.contact import met_in
from schemas.rows import SessionFact
from tests.integration.written import migrated
from tests.properties.histories import histories
from tests.properties.tables import difference, fetch_tables, lawful_tables
from tests.stack import DatabaseServer

EXAMPLES = int(os.environ.get("WAPIPE_LAW_EXAMPLES", "2000"))
SEED = int(os.environ.get("WAPIPE_LAW_SEED", str(secrets.randbits(32))))
TOGETHER = 100  # histories that are played at once


@pytest.fixture(scope="module")
async def database(database_server: DatabaseServer) -> DatabaseSettings:
    return await migrated(database_server)


@pytest.fixture(scope="module")
async def pools(database: DatabaseSettings) -> AsyncIterator[tuple[Pool, Pool]]:
    """Of two writers."""
    async with await open_pool(database, name="one") as one, await open_pool(database, name="other") as other:
        yield one, other


def drawn(count: int, seed: int) -> list[list[Fact]]:
    """So many random histories."""
    found: list[list[Fact]] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def collect(history: list[Fact]) -> None:
        found.append(history)

    collect()
    return found


def own_sessions(history: list[Fact], prefix: str) -> list[Fact]:
    """The same facts in sessions that no other history writes to."""
    return [_moved(fact, prefix) for fact in history]


def _moved(fact: Any, prefix: str) -> Fact:
    if isinstance(fact, SessionFact):
        return fact._replace(name=prefix + fact.name)
    if isinstance(fact, RankedContent):
        return structs.replace(fact, content=structs.replace(fact.content, session=prefix + fact.content.session))
    return cast(Fact, structs.replace(fact, session=prefix + fact.session))


class Killed(Exception):
    """The writer was killed in the middle of a transaction."""


class Fragile:
    """A connection that breaks after so many statements."""

    def __init__(self, connection: Any, statements: int) -> None:
        self._connection, self._left = connection, statements

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return getattr(self._connection, name)


class Process:
    """One of two concurrent writers, of all three consumers."""

    def __init__(self, pool: Pool, partition: int, rng: random.Random) -> None:
        self._pool, self._partition, self._rng = pool, partition, rng
        self._consumers: list[Any] = [Messages(pool), Contacts(pool), Sessions(pool)]

    async def play(self, facts: Sequence[Fact]) -> None:
        """In some order, some doubled, in batches of all sizes, now and then interrupted."""
        told = [*facts, *self._rng.sample(facts, len(facts) // 3)]
        self._rng.shuffle(told)
        offsets, rest = itertools.count(), iter(told)
        while batch := list(itertools.islice(rest, self._rng.choice((1, 3, 30, 300, 900)))):
            placed = [Placed([f, *met_in([f])], Place("waha.message", self._partition, next(offsets))) for f in batch]
            for consumer in self._consumers:
                await self._store(consumer, placed)

    async def _store(self, consumer: Any, placed: list[Placed]) -> None:
        rows = await consumer.prepare(placed)
        if self._rng.random() < 0.3:
            try:
                async with transaction(self._pool) as connection:
                    fragile: Any = Fragile(connection, self._rng.randrange(40))
                    await consumer.stage(fragile, rows)
                    await consumer.write(fragile, rows)
                    raise Killed
            except Killed:
                pass
        async with transaction(self._pool) as connection:
            await consumer.stage(connection, rows)
            await consumer.write(connection, rows)


async def assert_lawful(pools: tuple[Pool, Pool], played: list[list[Fact]], rng: random.Random) -> None:
    """Plays histories, each with sessions of its own, and holds the rows against the law."""
    halves: tuple[list[Fact], list[Fact]] = ([], [])
    for fact in itertools.chain(*played):
        for half in rng.choice((halves[:1], halves[1:], halves)):
            half.append(fact)
    processes = [Process(pool, n, random.Random(rng.random())) for n, pool in enumerate(pools)]
    await asyncio.gather(*(process.play(half) for process, half in zip(processes, halves, strict=True)))
    stored = merge(fact for history in played for fact in (*history, *met_in(history)))
    sessions = {session_of(fact) for history in played for fact in history}
    hash_key = await pools[0].fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
    wrong = list(difference(await fetch_tables(pools[0], list(sessions)), lawful_tables(stored, hash_key)))
    assert not wrong, "\n".join([*wrong[:20], *_histories_of(wrong[0], played)])


def session_of(fact: Any) -> str:
    if isinstance(fact, SessionFact):
        return fact.name
    return str(fact.content.session if isinstance(fact, RankedContent) else fact.session)


def _histories_of(wrong: str, played: list[list[Fact]]) -> Iterator[str]:
    for history in played:
        if any(repr(session_of(fact)) in wrong for fact in history):
            yield from ("of the history", *map(repr, history))


async def test_random_histories_give_the_rows_of_the_law(pools: tuple[Pool, Pool]) -> None:
    print(f"WAPIPE_LAW_SEED={SEED}")
    rng, run = random.Random(SEED), secrets.token_hex(3)
    for start in range(0, EXAMPLES, 10_000):
        found = drawn(min(10_000, EXAMPLES - start), SEED + start)
        for first in range(0, len(found), TOGETHER):
            together = found[first : first + TOGETHER]
            own = [own_sessions(h, f"{run}-{start + first + n}-") for n, h in enumerate(together)]
            await assert_lawful(pools, own, rng)
