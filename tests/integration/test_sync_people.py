"""Contacts, hidden ids, groups, members and labels fetched from the simulated WAHA, of every engine, into the tables."""

from __future__ import annotations

from pathlib import Path

from producers.simulator.rest import Past, RestServer, SimulatedWaha
from producers.simulator.world import LABELS
from schemas.sync import make_request
from schemas.topics import BACKFILL
from tests.integration.synced import synced
from tests.site import until


async def test_people_of_every_engine(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(sessions=4, messages=0, chats=12)))
    async with synced(settings_env, server, tmp_path, processes=("sync", "contacts", "messages")) as site:
        await site.ask(*(make_request(name, "manual", 5, 5, kind="people") for name in server.waha.sessions))
        rows = await site.ended(4)
        assert {(r["kind"], r["status"]) for r in rows} == {("people", "completed")}
        await site.site.settled(0)
        read = site.pool.fetch

        async def as_far_as_messages() -> bool | None:
            """The books do not know that a consumer will read a topic before it has begun to."""
            rows = await read(
                "SELECT sum(next_offset) AS at FROM whatsapp_gateway.progress WHERE topic = $1 GROUP BY consumer",
                BACKFILL.name,
            )
            return True if len(rows) == 2 and rows[0]["at"] == rows[1]["at"] else None

        await until(as_far_as_messages, "contacts to read everything")
        names = await read(
            """SELECT s.name AS session, j.jid, n.name FROM whatsapp_gateway.contact_names n
               JOIN whatsapp_gateway.jids j ON j.id = n.contact_id JOIN whatsapp_gateway.sessions s ON s.id = j.session_id
               WHERE n.source = 'saved'"""
        )
        people = {(s, p.id): p for s, session in server.waha.sessions.items() for p in session.people}
        assert {(r["session"], r["jid"]): r["name"] for r in names} == {k: p.name for k, p in people.items()}
        identities = await read(
            """SELECT s.name AS session, l.jid AS lid, p.jid AS phone FROM whatsapp_gateway.identities i
               JOIN whatsapp_gateway.jids l ON l.id = i.lid_id JOIN whatsapp_gateway.jids p ON p.id = i.phone_id
               JOIN whatsapp_gateway.sessions s ON s.id = l.session_id WHERE NOT i.fallen"""
        )
        assert {(r["session"], r["lid"], r["phone"]) for r in identities} >= {
            (s, p.lid, p.id) for (s, _), p in people.items()
        }
        groups = await read(
            """SELECT s.name AS session, g."group", g.subject FROM whatsapp_gateway.groups g
               JOIN whatsapp_gateway.sessions s ON s.id = g.session_id"""
        )
        truth = {(s, c.id): c for s, session in server.waha.sessions.items() for c in session.chats if c.group}
        assert {(r["session"], r["group"]): r["subject"] for r in groups} == {k: c.subject for k, c in truth.items()}
        members = await read("SELECT count(*) AS n FROM whatsapp_gateway.group_members")
        assert members[0]["n"] == sum(len(c.members) for c in truth.values())
        labels = await read("SELECT DISTINCT name FROM whatsapp_gateway.labels")
        assert {r["name"] for r in labels} == set(LABELS)
        carried = await read("SELECT count(*) AS n FROM whatsapp_gateway.chat_labels WHERE carried")
        assert carried[0]["n"] == sum(len(s.chats) for s in server.waha.sessions.values())
        assert await read("SELECT * FROM whatsapp_gateway.other_events") == []


async def test_members_of_one_group(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("GOWS",), sessions=1, messages=0, chats=12)))
    group = next(c for c in server.waha.sessions["demo-01"].chats if c.group)
    async with synced(settings_env, server, tmp_path, processes=("sync", "contacts")) as site:
        await site.ask(
            make_request("demo-01", "periodic", 5, 5, kind="people", chat=group.id),
            make_request("demo-01", "periodic", 5, 5, kind="people", chat="120363999999999999@g.us"),  # left long ago
        )
        assert {r["status"] for r in await site.ended(2)} == {"completed"}

        async def listed() -> bool | None:
            members = await site.pool.fetchval("SELECT count(*) FROM whatsapp_gateway.group_members")
            return True if members == len(group.members) else None

        await until(listed, "the members to be listed")
        assert await site.pool.fetchval("SELECT count(*) FROM whatsapp_gateway.contact_names") == 0
