"""How often a busy chat makes the contacts consumer write: once a person for what is new, then only when an hour or a day
passes; never because of a message that says nothing new."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from typing import Any, cast

import orjson
import pytest

from consumers.contacts import Contacts
from pipeline.broker import Publisher
from pipeline.postgres import Pool
from pipeline.write import Writer
from tests.integration.written import AT_MS, Record, numbered, store, totals
from tests.integration.written import accounts as accounts_of
from tests.unit.ingress_client import Remembering

GROUP = "120363040000000001@g.us"
PEOPLE = 20
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TABLES = ("contacts_seen", "contact_names", "identities")


def said(number: int, at_ms: int, rng: random.Random) -> bytes:
    """A message in the group as NOWEB delivers it: hidden id, phone number and name of its sender."""
    person = rng.randrange(PEOPLE)
    lid, phone = f"{22334455667700 + person}@lid", f"{49151000000 + person}@s.whatsapp.net"
    data = {"key": {"participant": lid, "participantAlt": phone}, "pushName": f"Person {person}"}
    payload = {
        "id": f"false_{GROUP}_A{number}_{lid}", "timestamp": at_ms // 1000, "from": GROUP, "participant": lid,
        "fromMe": False, "body": "hi", "_data": data,
    }  # fmt: skip
    return orjson.dumps(
        {"event": "message", "session": "default", "engine": "NOWEB", "id": f"evt_{number}", "payload": payload}
    )


class Busy:
    """The contacts consumer, and how many rows it wrote."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._consumer, self._offset = pool, cast(Any, Contacts(pool)), 0
        self._consumer.name = f"contacts-{secrets.token_hex(4)}"
        self._writer: Writer[Any] = Writer(self._consumer, pool, cast(Publisher, Remembering()))

    async def written(self, bodies: list[bytes], batch: int = 10) -> dict[str, int]:
        """Rows inserted or rewritten by these messages, in small batches."""
        found: Counter[str] = Counter()
        before = await self._versions()
        for start in range(0, len(bodies), batch):
            records = numbered((Record(b) for b in bodies[start : start + batch]), self._offset)
            self._offset += len(records)
            await store(self._writer, self._consumer, records)
            after = await self._versions()
            found.update(table for table, _ in after - before)
            before = after
        return dict(found)

    async def _versions(self) -> set[tuple[str, str]]:
        one = "SELECT '{0}' AS t, ctid::text || xmin::text AS version FROM whatsapp_gateway.{0}"
        return {(r["t"], r["version"]) for r in await self._pool.fetch(" UNION ALL ".join(map(one.format, TABLES)))}

    async def books(self) -> dict[str, int]:
        return totals(await accounts_of(self._pool, self._consumer.name))


async def test_a_busy_chat_writes_once_a_person_and_hour(pool: Pool) -> None:
    rng, busy = random.Random(7), Busy(pool)

    def thousand(start: int, at_ms: int) -> list[bytes]:
        """1,000 messages within that hour, out of order."""
        return [said(start + n, at_ms + rng.randrange(HOUR_MS), rng) for n in range(1000)]

    hour = AT_MS - AT_MS % HOUR_MS
    first = await busy.written(thousand(0, hour))
    # The group, and each person under the hidden id; one name and one phone number each.
    assert first == {"contacts_seen": PEOPLE + 1, "contact_names": PEOPLE, "identities": PEOPLE}
    assert await busy.written(thousand(1000, hour)) == {}
    assert await busy.written(thousand(2000, hour + HOUR_MS)) == {"contact_names": PEOPLE, "identities": PEOPLE}
    assert await busy.written(thousand(3000, hour)) == {}, "an hour that is past says nothing new"
    assert await busy.written(thousand(4000, hour + DAY_MS)) == first
    assert await busy.written(thousand(5000, hour + DAY_MS)) == {}
    books = await busy.books()
    assert books["records"] == 6000
    print(
        f"rows written per 1,000 messages of {PEOPLE} people: {sum(first.values())} when all is new, 0 within the hour"
    )


@pytest.mark.parametrize("kept", [True, False], ids=["history", "no history"])
async def test_presence_is_the_last_one_and_its_history_only_on_demand(pool: Pool, kept: bool) -> None:
    session, person = f"p{secrets.token_hex(4)}", "5511988887777@c.us"
    consumer = cast(Any, Contacts(pool, presence_history=kept))
    consumer.name = f"contacts-{session}"
    told = [(3, "offline"), (1, "online"), (2, "typing"), (2, "typing")]
    bodies = [
        {
            "event": "presence.update", "session": session, "id": f"evt_{n}", "timestamp": AT_MS + n,
            "payload": {"id": person, "presences": [{"participant": person, "lastKnownPresence": state}]},
        }
        for n, state in told
    ]  # fmt: skip
    records = numbered(Record(orjson.dumps(b), "presence.update", "waha.presence") for b in bodies)
    await store(Writer(consumer, pool, cast(Publisher, Remembering())), consumer, records)
    sql = """SELECT p.state FROM whatsapp_gateway.{} p JOIN whatsapp_gateway.jids j ON j.id = p.person_id
             JOIN whatsapp_gateway.sessions s ON s.id = j.session_id WHERE s.name = $1 ORDER BY p.at"""
    assert [r["state"] for r in await pool.fetch(sql.format("presence"), session)] == ["offline"]
    history = [r["state"] for r in await pool.fetch(sql.format("presence_history"), session)]
    assert history == (["online", "typing", "offline"] if kept else [])
