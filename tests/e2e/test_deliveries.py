"""Recorded and sample deliveries through real processes: answered 200, stored once, read back as they were said."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from schemas.ids import is_group_like
from tests.site import Site, fixture_lines, running

CONTENT = ("message", "message.any")
# What the engine's own message says that the common body does not: WhatsApp Web writes a location's thumbnail and the
# first vCard where the text stands.
NO_TEXT = {"location WEBJS", "vcard WEBJS"}


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Gateway and the three consumers, each a process; the key is the recordings' own."""
    from tests.conftest import make_environment

    environment = await make_environment(servers) | {"WHATSAPP_HOOK_HMAC_KEY": "test-key"}
    logs = tmp_path_factory.mktemp("site")
    async with running(environment, logs, "gateway", "messages", "contacts", "sessions") as started:
        yield started


async def test_everything_recorded_is_stored_once_and_read_back(site: Site) -> None:
    observed = fixture_lines("waha_observed")
    for line in observed:
        headers = {k: v for k, v in line["headers"].items() if k not in ("Content-Length", "Host", "Connection")}
        answer = await site.post(line["body"].encode(), headers=headers)
        assert answer.status_code == 200, (answer.text, line["body"][:200])
    books = await site.settled(len(observed))
    assert books.difference == 0
    bodies = [json.loads(line["body"]) for line in observed]
    for body in bodies:
        if body["event"] in CONTENT:
            await assert_read_back(site, body)
    await assert_the_rest_is_stored(site, bodies)

    samples = fixture_lines("waha_samples")
    for line in samples:
        answer = await site.post(
            line["body"].encode(),
            headers={"X-Webhook-Hmac": line["hmac_sha512_with_test-key"], "X-Webhook-Hmac-Algorithm": "sha512"},
        )
        assert answer.status_code == 200, (answer.text, line["name"])
    books = await site.settled(len(observed) + len(samples))
    assert books.difference == 0
    assert books.parked == 0
    for line in samples:
        if line["event"] in CONTENT:
            await assert_read_back(site, json.loads(line["body"]), line["name"])

    before = await rows(site)
    everything = [line["body"].encode() for line in observed + samples]
    seed = random.randrange(10**6)
    print("seed", seed)
    random.Random(seed).shuffle(everything)
    for raw in everything:
        assert (await site.post(raw)).status_code == 200
    books = await site.settled(2 * len(everything))
    assert books.difference == 0
    assert await rows(site) == before


async def assert_read_back(site: Site, body: dict[str, Any], name: str = "") -> None:
    """The message stands in its chat with the right direction, sender, time, text and reply."""
    payload = body["payload"]
    chat = payload["id"].split("_")[1]
    found = {m["id"]: m for m in await site.messages(body["session"], quote(chat, safe=""))}
    # The same message under a hidden id and under its number is one; it is shown under one of its two ids.
    raw = payload["id"].split("_")[2]
    message = found.get(payload["id"]) or next(m for i, m in found.items() if i.split("_")[2] == raw)
    from_me = payload["fromMe"]
    assert message["from_me"] is from_me
    # A chat is shown under the phone number as soon as a hidden id's number is known; the message's id keeps its own.
    assert message["chat"] == chat or (chat.endswith("@lid") and message["chat"].endswith("@c.us"))
    if from_me:
        assert message["sender"] == body["me"]["id"]
    elif message["id"] == payload["id"]:  # of twins the other one may be shown, with its own spelling of the sender
        assert message["sender"] == (payload.get("participant") if is_group_like(chat) else chat)
    sent_at = datetime.fromtimestamp(payload["timestamp"], UTC)
    assert message["timestamp"] == sent_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = None if name in NO_TEXT else (payload.get("body") or "").replace("\x00", "") or None
    if message["edited_at"] is None:
        assert message["text"] == (None if message["revoked"] else text)
    quoted = payload.get("replyTo")
    assert message["reply_to"] == (quoted["id"].split("_")[-1] if quoted else None)
    assert message["source"] == payload.get("source")


TABLES_OF_CONTENT = (
    "messages", "message_keys", "message_content", "contacts", "sessions", "jids", "other_events",
)  # fmt: skip
TABLES = {
    "message.ack": "message_acks", "message.ack.group": "message_acks", "message.reaction": "reactions",
    "message.edited": "message_edits", "message.revoked": "message_revokes", "poll.vote": "poll_votes",
    "presence.update": "presence", "call.received": "calls", "group.v2.update": "group_settings",
    "group.v2.participants": "group_members", "group.v2.join": "group_members", "label.upsert": "labels",
    "label.chat.added": "chat_labels", "chat.archive": "chat_archive", "session.status": "session_status",
    "group.v2.participants.join-request": "group_join_requests", "state.change": "other_events",
    "engine.event": "other_events",
}  # fmt: skip


async def assert_the_rest_is_stored(site: Site, bodies: list[dict[str, Any]]) -> None:
    """Nothing is skipped, and every kind of event that was sent left rows in its table."""
    connection = await asyncpg.connect(site.settings.database.dsn())
    try:
        skipped = await connection.fetch("SELECT * FROM whatsapp_gateway.progress_skipped")
        assert skipped == []
        for event in {b["event"] for b in bodies} & TABLES.keys():
            assert await connection.fetchval(f"SELECT count(*) FROM whatsapp_gateway.{TABLES[event]}"), event
    finally:
        await connection.close()


async def rows(site: Site) -> dict[str, int]:
    """Rows of the tables that hold facts."""
    connection = await asyncpg.connect(site.settings.database.dsn())
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM whatsapp_gateway.{table}")
            for table in (
                "messages",
                "message_keys",
                "message_content",
                "contacts",
                "sessions",
                "jids",
                "other_events",
                *set(TABLES.values()),
            )
        }
    finally:
        await connection.close()


async def test_sessions_and_contacts_are_read_back(site: Site) -> None:
    sessions = {s["name"]: s for s in (await site.get("/api/sessions"))["items"]}
    assert {"default", "acme-de"} <= sessions.keys()
    contacts = (await site.get("/api/contacts/default"))["items"]
    named = {c["id"]: c["push_name"] for c in contacts}
    assert named["5511988887777@c.us"] == "Ana 🦊"
    assert named["120363040000000001@g.us"] is None


@pytest.mark.parametrize(
    "chat", ["5511988887777@c.us", "5511988887777@s.whatsapp.net", "5511988887777", "%2B55 11 98888-7777"]
)
async def test_a_chat_may_be_written_in_every_way(site: Site, chat: str) -> None:
    assert len((await site.get(f"/api/messages/default/{chat}"))["items"]) >= 6


async def test_wrong_requests_are_refused_and_publish_nothing(site: Site, tmp_path: Path) -> None:
    body = b'{"event":"message","session":"default","payload":{}}'
    before = await site.settled(0)
    assert (await site.post(body, headers={})).status_code == 401
    assert (await site.post(body, headers={"X-Webhook-Hmac": "00" * 64})).status_code == 401
    assert (await site.http.get("/webhook")).status_code == 405
    assert (await site.http.post("/webhook", content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await site.http.post("/nowhere", content=b"x")).status_code == 404
    assert (await site.http.post("/webhook/unknown", content=body)).status_code == 404
    assert (await site.post(b"x" * (16 * 1024 * 1024 + 1))).status_code == 413
    after = await site.settled(0)
    assert (after.received, after.parked) == (before.received, before.parked)
