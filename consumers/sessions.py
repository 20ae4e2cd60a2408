"""The sessions consumer: the state of each session and how it came to it, whose account it is, what its engine says."""

from __future__ import annotations

from functools import cached_property

from pipeline import metrics, others, people
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import FactTable, FactWriter, Part, Placed, Rows, Stager, to_time
from pipeline.postgres import Connection, Pool
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from pipeline.watch import Look
from schemas.facts import IdentityFact, NameFact, OtherFact, StatusFact, VersionFact
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.rows import SessionFact
from schemas.topics import SESSION, Topic
from sql import queries


class _Sessions(FactTable):
    """sessions, which is a dictionary as well: its numbers are not staged."""

    @cached_property
    def stage(self) -> str:
        return queries("sessions")["stage"]


# Two registers, each won by its newest event: the state, and the account, which events before pairing do not name.
SESSIONS = _Sessions(
    "sessions", ("name",),
    (Part("newest", ("status_at", "status", "engine", "waha_version")),
     Part("newest", ("me_at", "me", "me_lid", "me_push_name")),
     Part("greatest", ("last_event_at",))),
    frozenset({"status", "engine", "waha_version", "me", "me_lid", "me_push_name"}),
)  # fmt: skip
STATUS = FactTable("session_status", ("session_id", "status", "at"))
VERSIONS = FactTable(
    "session_versions",
    ("session_id", "engine", "version"),
    (Part("least", ("first_at",)), Part("greatest", ("last_at",))),
)


def _stage_session(fact: SessionFact, _place: Place, origin: int, _ids: Ids, rows: Rows) -> None:
    state = (fact.at, fact.status, fact.engine, fact.waha_version)
    named = fact.me is not None
    account = (fact.at, fact.me, fact.me_lid, fact.me_push_name) if named else (None,) * 4
    rows.put(SESSIONS, (fact.name,), (fact.name, *state, *account, fact.at, origin))


def _stage_status(fact: StatusFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.session(fact.session), fact.status, to_time(fact.at_ms))
    rows.put(STATUS, key, (*key, origin))


def _stage_version(fact: VersionFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key, at = (ids.session(fact.session), fact.engine or "", fact.version or ""), to_time(fact.at_ms)
    rows.put(VERSIONS, key, (*key, at, at, origin))


_STAGERS: dict[type, Stager] = {
    SessionFact: _stage_session, StatusFact: _stage_status, VersionFact: _stage_version, IdentityFact: people.stage_identity,
    NameFact: people.stage_name, OtherFact: others.stage_other,
}  # fmt: skip


class Sessions:
    """See module."""

    name = "sessions"
    topics: tuple[Topic, ...] = (SESSION,)
    events = None  # all of them
    compared = (
        Compared(
            SESSIONS.name, SESSIONS.key, ("status_at", "me_at"), ignore=("id", "created_at", "last_event_at"),
            shown=("status", "engine"),
        ),
        Compared(STATUS.name, STATUS.key, ("at",), shown=("status",)),
        Compared(VERSIONS.name, VERSIONS.key, rising=("last_at",), ignore=("first_at",), shown=("engine", "version")),
        *people.COMPARED,
        others.COMPARED,
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self._facts = FactWriter(self.name, pool, _STAGERS)

    def decode(self, event: Event) -> Placed:
        """See pipeline.consumer.Consumer."""
        return Placed(to_facts(event.value, Record(event.event, event.source, event.received_at_ms)), event.place)

    async def prepare(self, batch: list[Placed]) -> Rows:
        """See pipeline.consumer.Consumer."""
        return await self._facts.prepare(batch)

    async def stage(self, connection: Connection, rows: Rows) -> None:
        """See pipeline.consumer.Consumer."""
        await self._facts.stage(connection, rows)

    async def write(self, connection: Connection, rows: Rows) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        return await self._facts.write(connection, rows)


def silent_sessions(after_s: float) -> Look:
    """For the metrics: WORKING sessions of which nothing was heard for `after_s`. Messages keep `last_event_at` up."""

    async def look(pool: Pool) -> None:
        metrics.SILENT_SESSIONS.set(await pool.fetchval(queries("sessions")["silent"], after_s))

    return look


async def main(settings: Settings) -> None:
    """Process `sessions`."""
    await run_consumer(Sessions, Sessions.name, settings, silent_sessions(settings.consumer.silent_session_s))
