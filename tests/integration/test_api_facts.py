"""What is said of a message afterwards, from bodies through the consumer's tables to the API, in any order."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson
import pytest

from pipeline.api import make_app
from pipeline.migrate import migrate
from pipeline.postgres import open_pool
from pipeline.settings import load_settings
from schemas.topics import MESSAGE
from tests.integration.written import ANA, AT_MS, ME, Desk, Record, new_desk, numbered

BOB = "447700900123@c.us"
GROUP = "120363040000000001@g.us"
AT_S = AT_MS // 1000


@dataclass
class Reading:
    """A consumer and the API over one database."""

    desk: Desk
    http: httpx.AsyncClient

    async def read(self, chat: str, **query: Any) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/api/messages/default/{chat}", params=query)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest.fixture
async def reading(settings_env: dict[str, str]) -> AsyncIterator[Reading]:
    settings = load_settings(settings_env)
    await migrate(settings.database)
    pool = await open_pool(settings.database, name="test", max_size=4)
    desk = new_desk(pool)
    desk.consumer.events = None
    assert settings.api.token
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    transport = httpx.ASGITransport(make_app(settings, pool))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
        yield Reading(desk, http)
    await pool.close()


_ids = itertools.count()


def event(name: str, payload: dict[str, Any], *, at_s: int = AT_S) -> Record:
    """A NOWEB envelope of the account ME."""
    body = {
        "id": f"evt_{next(_ids):04}", "event": name, "session": "default", "engine": "NOWEB", "timestamp": at_s * 1000,
        "me": {"id": ME}, "payload": payload,
    }  # fmt: skip
    return Record(orjson.dumps(body), name, MESSAGE.name)


def content(chat: str, raw_id: str, text: str, *, sender: str | None = None) -> Record:
    suffix = f"_{sender}" if sender else ""
    payload = {"id": f"false_{chat}_{raw_id}{suffix}", "timestamp": AT_S, "from": chat, "fromMe": False, "body": text}
    return event("message", payload | ({"participant": sender} if sender else {}))


def edited(chat: str, raw_id: str, edit_id: str, text: str, at_s: int, *, sender: str | None = None) -> Record:
    suffix = f"_{sender}" if sender else ""
    payload = {
        "id": f"false_{chat}_{edit_id}{suffix}", "timestamp": at_s, "from": chat, "fromMe": False, "body": text,
        "editedMessageId": raw_id, "participant": sender,
    }  # fmt: skip
    return event("message.edited", payload, at_s=at_s)


def reacted(chat: str, raw_id: str, emoji: str, at_s: int) -> Record:
    payload = {
        "id": f"false_{chat}_R{at_s}", "timestamp": at_s, "from": chat, "fromMe": False,
        "reaction": {"text": emoji, "messageId": f"false_{chat}_{raw_id}"},
    }  # fmt: skip
    return event("message.reaction", payload, at_s=at_s)


def revoked(chat: str, raw_id: str, at_s: int, *, by: str | None = None) -> Record:
    suffix = f"_{by}" if by else ""
    after = {"id": f"false_{chat}_V{at_s}{suffix}", "timestamp": at_s, "from": chat, "fromMe": False, "participant": by}
    return event("message.revoked", {"revokedMessageId": raw_id, "after": after, "before": None}, at_s=at_s)


def acked(chat: str, raw_id: str, level: int, at_s: int) -> Record:
    payload = {"id": f"true_{chat}_{raw_id}", "from": chat, "fromMe": True, "ack": level}
    return event("message.ack", payload, at_s=at_s)


@pytest.mark.parametrize("seed", range(4))
async def test_a_message_with_its_life_in_any_order(reading: Reading, seed: int) -> None:
    """Edits, a reaction that is taken away and set again: the same answer whatever came first, and however often."""
    life = [
        content(ANA, "A1", "helo"),
        edited(ANA, "A1", "E1", "hello", AT_S + 10),
        edited(ANA, "A1", "E2", "hello there", AT_S + 20),
        reacted(ANA, "A1", "👍", AT_S + 5), reacted(ANA, "A1", "", AT_S + 6), reacted(ANA, "A1", "❤", AT_S + 7),
    ]  # fmt: skip
    rng = random.Random(seed)
    told = rng.choices(life, k=5) + life
    rng.shuffle(told)
    cut = rng.randrange(len(told))
    records = numbered(told)
    for batch in (records[:cut], records[cut:]):
        if batch:
            await reading.desk.store(batch)
    [found] = await reading.read(ANA, include="edits")
    assert found["text"] == "hello there"
    assert [e["text"] for e in found["edits"]] == ["hello", "hello there"]
    assert found["edited_at"] == found["edits"][-1]["at"]
    assert found["reactions"] == [{"by": ANA, "emoji": "❤"}]
    assert sum((await reading.desk.books()).values()) == 2 * len(told)


async def test_a_revoked_message_is_a_tombstone_with_its_text_behind_it(reading: Reading) -> None:
    await reading.desk.store(numbered([revoked(ANA, "A1", AT_S + 9), content(ANA, "A1", "never mind")]))
    [found] = await reading.read(ANA)
    assert (found["text"], found["revoked"]["by"], found["revoked"]["text"]) == (None, ANA, None)
    [found] = await reading.read(ANA, include="revoked")
    assert (found["text"], found["revoked"]["text"]) == (None, "never mind")


async def test_an_ack_never_goes_back(reading: Reading) -> None:
    sent = {"id": f"true_{ANA}_B1", "timestamp": AT_S, "from": ANA, "fromMe": True, "body": "hi", "ack": 1}
    levels = [acked(ANA, "B1", level, AT_S + n) for n, level in enumerate((3, 2, 1))]
    await reading.desk.store(numbered([*levels, event("message.any", sent)]))
    [found] = await reading.read(ANA, include="receipts")
    assert found["ack"] == "read"
    [receipt] = found["receipts"]
    assert [receipt[n] is not None for n in ("server_at", "device_at", "read_at", "played_at")] == [True] * 3 + [False]


async def test_nobody_changes_what_is_anothers(reading: Reading) -> None:
    """In a group: an edit by another, and another's message under the same raw id."""
    await reading.desk.store(
        numbered(
            [
                content(GROUP, "A1", "mine", sender=ANA),
                edited(GROUP, "A1", "E1", "forged", AT_S + 5, sender=BOB),
                replace(content(GROUP, "A1", "copied id", sender=BOB), received_at_ms=AT_MS + 50),
            ]
        )
    )
    by_sender = {m["sender"]: m for m in await reading.read(GROUP)}
    assert by_sender[ANA]["text"] == "mine"
    assert by_sender[ANA]["flags"] == []
    assert by_sender[BOB]["flags"] == ["id_reused"]


async def test_one_message_is_read_by_its_id(reading: Reading) -> None:
    await reading.desk.store(numbered([content(ANA, "A1", "one"), content(ANA, "A2", "two")]))
    for name in ("A2", f"false_{ANA}_A2"):
        answer = await reading.http.get(f"/api/messages/default/{ANA}/{name}")
        assert (answer.status_code, answer.json()["text"], answer.json()["edits"]) == (200, "two", [])
    assert (await reading.http.get(f"/api/messages/default/{ANA}/A3")).status_code == 404
    assert (await reading.http.get(f"/api/messages/nobody/{ANA}/A2")).status_code == 404
