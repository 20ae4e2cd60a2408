"""The sessions consumer: what WAHA says of the state of each session, into table `sessions`."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.batch import Event, Partition, Place
from pipeline.postgres import Connection
from pipeline.runner import Runner, open_dependencies, serve_consumer
from pipeline.settings import Settings
from schemas.normalize.session import EVENTS, to_session
from schemas.rows import SessionFact
from schemas.topics import SESSION, Topic
from schemas.webhook import parse_body
from sql import queries


class PlacedSession(NamedTuple):
    """A session fact and where its record stands."""

    fact: SessionFact
    place: Place


class Sessions:
    """See module."""

    name = "sessions"
    topics: tuple[Topic, ...] = (SESSION,)
    events = EVENTS

    def decode(self, event: Event) -> PlacedSession:
        """See pipeline.runner.Consumer."""
        return PlacedSession(to_session(parse_body(event.value), event.source, event.received_at_ms), event.place)

    async def prepare(self, facts: list[PlacedSession]) -> list[PlacedSession]:
        """Nothing to look up: sessions are found by name."""
        return facts

    async def write(self, connection: Connection, facts: list[PlacedSession]) -> dict[Partition, int]:
        """See pipeline.runner.Consumer. A record counts as written when it changed the session's row."""
        newest: dict[str, PlacedSession] = {}
        for placed in facts:
            other = newest.get(placed.fact.name)
            if other is None or (placed.fact.at, placed.fact.status) > (other.fact.at, other.fact.status):
                newest[placed.fact.name] = placed
        columns = list(zip(*(p.fact for p in newest.values()), strict=True))
        changed = await connection.fetch(queries("sessions")["upsert"], *columns)
        counts: dict[Partition, int] = {}
        for row in changed:
            place = newest[row["name"]].place
            partition = Partition(place.topic, place.partition)
            counts[partition] = counts.get(partition, 0) + 1
        return counts


async def main(settings: Settings) -> None:
    """Process `sessions`."""
    async with open_dependencies(settings, Sessions.name) as (pool, publisher):
        await serve_consumer(Runner(Sessions(), settings, pool, publisher), settings, port=4023)
