"""The table of replays: what was ordered, how far it is, which process works on it (the one that holds its lock)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from pipeline.batch import Partition
from pipeline.errors import ConfigError, FatalError, TransientError
from pipeline.postgres import Connection, Pool, connect_directly, transaction, translated
from pipeline.replay.ranges import Range
from pipeline.replay.spec import Spec, books_name
from pipeline.retry import backoff_s
from pipeline.settings import DatabaseSettings
from sql import queries

_LOCK = 0x7270_6C79  # "rply" in ASCII; the other half of the lock is the replay's id
_BEAT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """A row of the table. `held` when a process works on it; a `running` one that nobody holds is dead."""

    id: int
    consumer: str
    spec: Spec
    state: str
    records: int
    passed: int
    error: str | None
    result: dict[str, Any] | None
    host: str
    pid: int
    created_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    held: bool

    @property
    def shown_state(self) -> str:
        """For people: running, stopping, dead, stopped, done, failed."""
        return "dead" if self.state in ("running", "stopping") and not self.held else self.state


async def read_orders(pool: Pool, replay_id: int | None = None) -> list[Order]:
    """All of them, or the one. Raises TransientError."""
    async with _migrated(), translated():
        rows = await pool.fetch(queries("replays")["replays"], _LOCK, replay_id)
    return [
        Order(**dict(r) | {"spec": Spec.from_json(r["spec"]), "result": orjson.loads(r["result"] or b"null")})
        for r in rows
    ]


async def read_order(pool: Pool, replay_id: int) -> Order:
    """Raises ConfigError when there is none of this number."""
    found = await read_orders(pool, replay_id)
    if not found:
        raise ConfigError(f"there is no replay {replay_id}. `wapipe replay list` shows them")
    return found[0]


async def read_ranges(pool: Pool, replay_id: int) -> list[Range]:
    """What was decided at its start."""
    async with translated():
        rows = await pool.fetch(queries("replays")["ranges"], replay_id)
    return [Range(Partition(r["topic"], r["partition"]), r["first_offset"], r["end_offset"]) for r in rows]


async def ask_to_stop(pool: Pool, order: Order) -> None:
    """Its process ends between two batches; one that is dead already is merely marked."""
    async with translated():
        await pool.execute(queries("replays")["stop"], order.id, "stopping" if order.held else "stopped")


async def forget(pool: Pool, order: Order) -> None:
    """Its row and its books. Raises TransientError."""
    sql, name = queries("replays"), books_name(order.consumer, order.id)
    async with transaction(pool) as connection:
        await connection.execute(sql["forget_books"], name)
        await connection.execute(sql["forget_skipped"], name)
        await connection.execute(sql["forget"], order.id)


class Hold:
    """The right to work on a replay: a lock that goes with this process, and the row's heartbeat.

    `held` is set while the lock is ours; nothing should be written without it.
    """

    def __init__(self, database: DatabaseSettings) -> None:
        self._database = database
        self._connection: Connection | None = None
        self.id = 0
        self.held = asyncio.Event()

    async def create(self, spec: Spec, ranges: Sequence[Range]) -> int:
        """A new replay, ours from the start; its number. Raises TransientError."""
        sql, connection = queries("replays"), await self._connect()
        async with _migrated(), translated(), connection.transaction():
            self.id = await connection.fetchval(
                sql["create"], spec.consumer, spec.to_json(), sum(r.records for r in ranges), *_process()
            )
            await connection.execute(
                sql["add_ranges"], self.id, [r.partition.topic for r in ranges],
                [r.partition.partition for r in ranges], [r.first for r in ranges], [r.end for r in ranges],
            )  # fmt: skip
            await connection.fetchval(sql["lock"], _LOCK, self.id)
        self.held.set()
        return self.id

    async def resume(self, order: Order) -> None:
        """Takes over a replay that nobody works on. Raises ConfigError when somebody does, TransientError."""
        self.id = order.id
        if not await self._take(await self._connect()):
            await self.close()
            raise ConfigError(f"replay {order.id} is running already: process {order.pid} on {order.host}")
        async with translated():
            await self._one().execute(queries("replays")["resume"], self.id, *_process())

    async def finish(self, state: str, passed: int, error: str | None, result: dict[str, Any]) -> None:
        """The end of it, or of this attempt. Raises TransientError."""
        connection = self._one() if self.held.is_set() else await self._connect()
        async with translated():
            await connection.execute(
                queries("replays")["finish"], self.id, state, passed, error, orjson.dumps(result).decode()
            )

    async def close(self) -> None:
        """Gives the lock back."""
        self.held.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(TransientError):
                async with translated():
                    await connection.close(timeout=5)
            connection.terminate()

    async def watch(self, passed: Callable[[], int], stop: asyncio.Event) -> None:
        """Every second: a sign of life, and whether somebody wants it to stop. Takes the lock again after an outage.

        Raises FatalError when the replay was taken away or dropped.
        """
        attempt = 0
        while True:
            await asyncio.sleep(_BEAT_EVERY_S if attempt == 0 else backoff_s(attempt))
            try:
                if self._connection is None:
                    await self._take_again()
                async with translated():
                    state = await self._one().fetchval(queries("replays")["beat"], self.id, passed())
                attempt = 0
            except TransientError:
                attempt += 1
                await self.close()
                continue
            if state is None:
                raise FatalError(f"replay {self.id} was dropped")
            if state == "stopping":
                stop.set()

    async def _take_again(self) -> None:
        """The server may still take our old session for living; somebody else's lock comes with their name."""
        connection = await self._connect()
        if await self._take(connection):
            return
        async with translated():
            owner = await connection.fetchrow(queries("replays")["owner"], self.id)
        if owner is not None and tuple(owner) != _process():
            raise FatalError(f"another process goes on with replay {self.id}: {owner['pid']} on {owner['host']}")
        raise TransientError("postgres", "our old session still holds the lock")

    async def _take(self, connection: Connection) -> bool:
        async with translated():
            if not await connection.fetchval(queries("replays")["lock"], _LOCK, self.id):
                return False
        self.held.set()
        return True

    async def _connect(self) -> Connection:
        self._connection = await connect_directly(self._database, name="replay")
        return self._connection

    def _one(self) -> Connection:
        if self._connection is None:
            raise TransientError("postgres", "no connection")
        return self._connection


@contextlib.asynccontextmanager
async def _migrated() -> AsyncIterator[None]:
    """A database without the table is no outage."""
    try:
        yield
    except TransientError as exc:
        if isinstance(exc.__cause__, asyncpg.UndefinedTableError):
            raise ConfigError(
                "the database does not know replays yet. Bring it up to date with: wapipe migrate"
            ) from exc
        raise


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()
