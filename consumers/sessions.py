"""The sessions consumer: what WAHA says of the state of each session, into table `sessions`."""

from __future__ import annotations

from typing import NamedTuple

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.postgres import Connection, Pool
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from pipeline.watch import Look
from schemas.normalize.session import EVENTS, account_order, state_order, to_session
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
    compared = (
        Compared(
            "sessions",
            ("name",),
            ("status_at", "me_at"),
            ignore=("id", "created_at", "last_event_at"),
            shown=("status", "engine"),
        ),
    )

    def decode(self, event: Event) -> PlacedSession:
        """See pipeline.consumer.Consumer."""
        return PlacedSession(to_session(parse_body(event.value), event.source, event.received_at_ms), event.place)

    async def prepare(self, facts: list[PlacedSession]) -> list[PlacedSession]:
        """Nothing to look up: sessions are found by name."""
        return facts

    async def write(self, connection: Connection, facts: list[PlacedSession]) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer. A record counts as written when it changed the session's row."""
        states: dict[str, PlacedSession] = {}
        accounts: dict[str, SessionFact] = {}
        for placed in facts:
            fact = placed.fact
            other = states.get(fact.name)
            if other is None or state_order(fact) > state_order(other.fact):
                states[fact.name] = placed
            known = accounts.get(fact.name)
            if fact.me is not None and (known is None or account_order(fact) > account_order(known)):
                accounts[fact.name] = fact
        rows = [_row(placed.fact, accounts.get(name)) for name, placed in states.items()]
        changed = await connection.fetch(queries("sessions")["upsert"], *zip(*rows, strict=True))
        counts: dict[Partition, int] = {}
        for row in changed:
            place = states[row["name"]].place
            partition = Partition(place.topic, place.partition)
            counts[partition] = counts.get(partition, 0) + 1
        return counts


def _row(state: SessionFact, account: SessionFact | None) -> tuple[object, ...]:
    """A row of the statement's arrays: the newest state, and the newest account that was named."""
    me = (account.at, account.me, account.me_lid, account.me_push_name) if account else (None, None, None, None)
    return (state.name, state.status, state.at, state.engine, state.waha_version, *me)


def silent_sessions(after_s: float) -> Look:
    """For the metrics: WORKING sessions of which nothing was heard for `after_s`. Messages keep `last_event_at` up."""

    async def look(pool: Pool) -> None:
        metrics.SILENT_SESSIONS.set(await pool.fetchval(queries("sessions")["silent"], after_s))

    return look


def make(_pool: Pool) -> Sessions:
    """Sessions look nothing up."""
    return Sessions()


async def main(settings: Settings) -> None:
    """Process `sessions`."""
    await run_consumer(make, Sessions.name, settings, silent_sessions(settings.consumer.silent_session_s))
