"""The scratch schema of a shadow replay: the same tables beside the live ones, the same numbers for sessions and jids."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from pipeline.broker import Headers
from pipeline.migrate import migrate
from pipeline.postgres import Pool, connect_directly, translated
from pipeline.replay.loop import Runs
from pipeline.settings import DatabaseSettings
from schemas.deadletters import read_death
from sql import SCHEMA, queries

_PREFIX = f"{SCHEMA}_shadow_"
_NAME = re.compile(rf"^{_PREFIX}(\d+)$")
_SEED_TIMEOUT_S = 3600  # millions of jids are copied
_MOST_PLACES = 20


class Scratch:
    """The scratch schema of one replay."""

    def __init__(self, database: DatabaseSettings, replay_id: int) -> None:
        self._database, self.schema = database, f"{_PREFIX}{replay_id}"

    async def create(self) -> None:
        """Makes it anew, empty but for the dictionaries. Raises TransientError."""
        await self.drop()
        await migrate(self._database, schema=self.schema)
        connection = await connect_directly(self._database, name="replay", command_timeout_s=_SEED_TIMEOUT_S)
        try:
            async with translated(), connection.transaction():
                await connection.execute(queries("shadow")["seed"].replace("{scratch}", self.schema))
        finally:
            await connection.close()

    async def exists(self) -> bool:
        """Whether it is there and complete."""
        connection = await connect_directly(self._database, name="replay")
        try:
            async with translated():
                return bool(await connection.fetchval("SELECT to_regclass($1)", f"{self.schema}.replayed"))
        finally:
            await connection.close()

    async def drop(self) -> None:
        """Removes it with everything in it; harmless when there is none."""
        connection = await connect_directly(self._database, name="replay", command_timeout_s=_SEED_TIMEOUT_S)
        try:
            async with translated():
                await connection.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        finally:
            await connection.close()


async def scratch_schemas(pool: Pool) -> dict[int, str]:
    """The scratch schemas that there are, by replay. Raises TransientError."""
    async with translated():
        rows = await pool.fetch(queries("replays")["scratch_schemas"])
    return {int(match[1]): r["name"] for r in rows if (match := _NAME.match(r["name"]))}


async def note_replayed(pool: Pool, runs: Runs) -> None:
    """Writes down which records were tried; `pool` is the scratch schema's. Raises TransientError."""
    flat = [(p.topic, p.partition, first, following) for p, each in runs.items() for first, following in each]
    async with translated():
        await pool.execute(queries("shadow")["replayed"], *([row[i] for row in flat] for i in range(4)))


@dataclass(slots=True)
class Counted:
    """Takes dead letters that nobody shall get: counts them by reason and remembers where the first ones stood."""

    reasons: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        """See pipeline.deadletter.Outlet."""
        death = read_death(headers)
        if death is not None:
            self.add(death.reason, f"{death.topic}/{death.partition}/{death.offset}")

    def add(self, reason: str, place: str) -> None:
        """One more."""
        self.reasons[reason] += 1
        if len(self.places) < _MOST_PLACES:
            self.places.append(f"{place} {reason}")
