"""The contacts consumer: people and groups as messages show them, into table `contacts`, one row per session and id."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Dictionary
from pipeline.postgres import Connection, Pool, copy_rows
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from schemas.normalize.contact import merge_contacts, to_contacts
from schemas.normalize.message import EVENTS, to_content
from schemas.rows import ContactFact
from schemas.topics import BACKFILL, CHAT, MESSAGE, PRESENCE, Topic
from schemas.webhook import parse_body
from sql import queries

_COLUMNS = ["session_id", *ContactFact._fields[1:]]


class PlacedContacts(NamedTuple):
    """What one message shows, and where its record stands."""

    facts: list[ContactFact]
    place: Place


class Contacts:
    """See module."""

    name = "contacts"
    topics: tuple[Topic, ...] = (MESSAGE, CHAT, PRESENCE, BACKFILL)
    events = EVENTS
    compared = (
        Compared("contacts", ("session_id", "jid"), ("push_name_at",), ignore=("first_seen_at", "last_seen_at")),
    )

    def __init__(self, pool: Pool) -> None:
        self._ids = Dictionary(pool)

    def decode(self, event: Event) -> PlacedContacts:
        """See pipeline.consumer.Consumer."""
        content = to_content(parse_body(event.value), event.source, event.received_at_ms)
        return PlacedContacts(to_contacts(content), event.place)

    async def prepare(self, facts: list[PlacedContacts]) -> list[PlacedContacts]:
        """See pipeline.consumer.Consumer."""
        await self._ids.learn_sessions({f.session for placed in facts for f in placed.facts})
        return facts

    async def write(self, connection: Connection, facts: list[PlacedContacts]) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer. A record counts as written when it showed somebody for the first time."""
        merged: dict[tuple[int, str], ContactFact] = {}
        first: dict[tuple[int, str], Place] = {}
        for placed in facts:
            for fact in placed.facts:
                key = (self._ids.sessions[fact.session], fact.jid)
                merged[key] = merge_contacts(merged[key], fact) if key in merged else fact
                first.setdefault(key, placed.place)
        sql = queries("contacts")
        await connection.execute(sql["stage"])
        await copy_rows(connection, "stage_contacts", _COLUMNS, [(k[0], *merged[k][1:]) for k in sorted(merged)])
        changed = await connection.fetch(sql["merge"])
        places = {first[r["session_id"], r["jid"]] for r in changed if r["is_new"]}
        counts: dict[Partition, int] = {}
        for place in places:  # two new people in one record are one record
            partition = Partition(place.topic, place.partition)
            counts[partition] = counts.get(partition, 0) + 1
        return counts


async def main(settings: Settings) -> None:
    """Process `contacts`."""
    await run_consumer(Contacts, Contacts.name, settings)
