"""Contacts, groups, calls and lists of chats, from facts through the consumers' tables to the API."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    Fact,
    GroupFact,
    LabelFact,
    MemberFact,
    NameFact,
)
from schemas.keys import ME as OWN
from schemas.keys import PEER
from tests.integration.telling import AT_S, Telling, same, telling, wrote
from tests.integration.written import ANA, ME

BOB, LID = "447700900123@c.us", "99887766554433@lid"
GROUP, OTHER_GROUP = "120363040000000001@g.us", "120363040000000002@g.us"
S = "default"


@pytest.fixture
async def told(settings_env: dict[str, str]) -> AsyncIterator[Telling]:
    async with telling(settings_env) as made:
        yield made


def rfc(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def named(jid: str, source: str, name: str, at_s: int = AT_S, session: str = S) -> Fact:
    return NameFact(session, jid, source, name, at_s * 1000)


async def test_contacts_with_names_by_precedence_and_a_hidden_id_once(told: Telling) -> None:
    await told.tell(
        *wrote(ANA, "A1", "hi"), *wrote(LID, "L1", "hi", AT_S + 86_400), *wrote(BOB, "B1", "hi"),
        named(LID, "push", "ana ✨", AT_S + 9), named(LID, "push", "Ana", AT_S), named(ANA, "verified", "Ana Ltd"),
        GroupFact(S, GROUP, "subject", '"Sailing"', AT_S * 1000, "e1"),
    )  # fmt: skip
    apart = {c["id"]: c for c in await told.pages(f"/api/contacts/{S}", 2)}
    assert list(apart) == sorted([GROUP, ANA, BOB, LID])
    assert (apart[LID]["name"], apart[LID]["phone"], apart[ANA]["name"]) == ("ana ✨", None, "Ana Ltd")
    assert (apart[GROUP]["name"], apart[GROUP]["is_group"], apart[BOB]["name"]) == ("Sailing", True, "+447700900123")
    await told.tell(same(LID, ANA, AT_S + 100), named(ANA, "saved", "Ana from work"))
    found = {c["id"]: c for c in await told.pages(f"/api/contacts/{S}", 2, include="names")}
    assert LID not in found
    ana = found[ANA]
    assert (ana["name"], ana["saved_name"], ana["push_name"], ana["verified_name"]) == (
        "Ana from work", "Ana from work", "ana ✨", "Ana Ltd",
    )  # fmt: skip
    assert (ana["phone"], ana["lid"]) == (ANA, LID)
    assert ana["first_seen_at"] == apart[ANA]["first_seen_at"]
    assert ana["last_seen_at"] == apart[LID]["last_seen_at"]
    assert {(n["source"], n["name"]) for n in ana["names"]} == {
        ("saved", "Ana from work"), ("push", "ana ✨"), ("push", "Ana"), ("verified", "Ana Ltd"),
    }  # fmt: skip
    await told.tell(same(LID, ANA, AT_S + 200, holds=False))
    parted = {c["id"]: c for c in await told.pages(f"/api/contacts/{S}", 50)}
    assert (parted[LID]["name"], parted[ANA]["push_name"], parted[ANA]["names"]) == ("ana ✨", None, None)


async def test_contacts_are_searched_by_any_name_and_number(told: Telling) -> None:
    await told.tell(
        *wrote(ANA, "A1", "hi"), *wrote(BOB, "B1", "hi"), *wrote(LID, "L1", "hi"), *wrote(BOB, "B2", "hi", session="other"),
        named(ANA, "push", "Anna Müller", AT_S), named(ANA, "push", "captain", AT_S + 10), named(BOB, "saved", "100% Bob"),
        named(LID, "push", "Hidden"), GroupFact(S, GROUP, "subject", '"Müllers"', AT_S * 1000, "e1"),
        same(LID, ANA, AT_S),
    )  # fmt: skip

    async def ids(q: str) -> list[str]:
        return [c["id"] for c in await told.pages(f"/api/contacts/{S}", 1, q=q)]

    assert await ids("MÜLLER") == sorted([ANA, GROUP])
    assert await ids("captain") == [ANA]
    assert await ids("hidden") == [ANA], "a name told of the hidden id is found at the number"
    assert await ids("0% b") == [BOB]
    assert await ids("%") == [BOB]
    assert await ids("+55 (11) 98888-7777") == [ANA]
    assert await ids("7700900") == [BOB]
    assert await ids("99887766") == [ANA]
    assert await ids("nobody") == []
    await told.tell(same(LID, ANA, AT_S + 50, holds=False))
    assert await ids("hidden") == [LID]
    cursor = (await told.get(f"/api/contacts/{S}", q="müller", limit=1))["next"]
    for query in ({"q": "bob"}, {}):
        answer = await told.http.get(f"/api/contacts/{S}", params={"before": cursor, **query})
        assert answer.status_code == 422


def member(person: str, role: str, at_s: int, *, by: str | None = None) -> Fact:
    return MemberFact(S, GROUP, person, role, by, at_s * 1000, f"m{at_s}")


async def test_a_group_and_who_was_in_it_when(told: Telling) -> None:
    facts = [
        GroupFact(S, GROUP, "subject", '"Sailing"', AT_S * 1000, "e1"),
        GroupFact(S, GROUP, "subject", '"Rowing"', (AT_S + 1000) * 1000, "e2"),
        GroupFact(S, GROUP, "members_can_send", "false", AT_S * 1000, "e1"),
        GroupFact(S, GROUP, "owner", f'"{ANA}"', AT_S * 1000, "e1"),
        GroupFact(S, GROUP, "member_list", "2", AT_S * 1000, "e1"), member(ANA, "admin", AT_S),
        member(BOB, "participant", AT_S), member(BOB, "left", AT_S + 100), member(BOB, "participant", AT_S + 200, by=ANA),
        member(BOB, "participant", AT_S + 300), member(LID, "participant", AT_S + 300),
        member(ME, "participant", AT_S + 400), named(BOB, "push", "Bob"),
        *wrote(OTHER_GROUP, "G1", "hi", sender=BOB),
    ]  # fmt: skip
    random.Random(1).shuffle(facts)
    for fact in facts:
        await told.tell(fact)
    [rowing, other] = await told.pages(f"/api/groups/{S}", 1)
    assert (rowing["id"], rowing["subject"], rowing["members_can_send"], rowing["members_can_add"]) == (
        GROUP, "Rowing", False, None,
    )  # fmt: skip
    assert (rowing["owner"], rowing["members"]) == (ANA, 4)
    assert (other["id"], other["subject"], other["members"]) == (OTHER_GROUP, None, None)

    async def at(at_s: int) -> tuple[str, dict[str, tuple[str, str]]]:
        found = await told.get(f"/api/groups/{S}/{GROUP}", at=rfc(at_s))
        assert found["at"] == rfc(at_s)
        return found["subject"], {m["id"]: (m["role"], m["since"]) for m in found["members"]}

    assert await at(AT_S + 50) == ("Sailing", {ANA: ("admin", rfc(AT_S)), BOB: ("participant", rfc(AT_S))})
    assert await at(AT_S + 150) == ("Sailing", {ANA: ("admin", rfc(AT_S))})
    assert (await at(AT_S + 350))[1] == {
        ANA: ("admin", rfc(AT_S)), BOB: ("participant", rfc(AT_S + 200)), LID: ("participant", rfc(AT_S + 300)),
    }  # fmt: skip
    before = await told.get(f"/api/groups/{S}/{GROUP}", at=rfc(AT_S - 1))
    assert (before["subject"], before["members"]) == (None, None)
    await told.tell(same(LID, BOB, AT_S + 500))
    now = await told.get(f"/api/groups/{S}/{GROUP}")
    assert now["at"] is None
    assert [(m["id"], m["name"], m["by"]) for m in now["members"]] == [
        (BOB, "Bob", ANA), (ME, None, None), (ANA, None, None),
    ]  # fmt: skip
    assert (await told.get(f"/api/groups/{S}"))["items"][0]["members"] == 3
    for path, status in (("120363040000000009@g.us", 404), (ANA, 422)):
        assert (await told.http.get(f"/api/groups/{S}/{path}")).status_code == status
    for at_text in ("yesterday", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"):
        assert (await told.http.get(f"/api/groups/{S}/{GROUP}", params={"at": at_text})).status_code == 422


async def test_a_member_who_was_missing_in_a_list_began_anew(told: Telling) -> None:
    def listed(at_s: int) -> Fact:
        return GroupFact(S, GROUP, "member_list", "1", at_s * 1000, "e")

    await told.tell(
        listed(AT_S), member(ANA, "participant", AT_S), member(BOB, "participant", AT_S),
        listed(AT_S + 10), member(ANA, "participant", AT_S + 10),
        listed(AT_S + 20), member(ANA, "participant", AT_S + 20), member(BOB, "participant", AT_S + 20),
    )  # fmt: skip
    found = await told.get(f"/api/groups/{S}/{GROUP}")
    assert {m["id"]: m["since"] for m in found["members"]} == {ANA: rfc(AT_S), BOB: rfc(AT_S + 20)}


def call(call_id: str, caller: str | None, state: str, at_s: int, detail: str | None = None, session: str = S) -> Fact:
    return CallFact(session, call_id, caller, state, detail, None, False, False, at_s * 1000)


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_calls_newest_first_each_once(told: Telling, limit: int) -> None:
    await told.tell(
        call("C1", ANA, "received", AT_S), call("C1", ANA, "rejected", AT_S + 9, "timeout"),
        call("C2", LID, "received", AT_S + 60), call("C2", ANA, "accepted", AT_S + 62), same(LID, ANA, AT_S),
        call("C3", BOB, "received", AT_S + 30), call("C3", None, "rejected", AT_S + 33, "terminate"),
        call("C4", None, "received", AT_S + 20), call("C4", BOB, "received", AT_S + 25),
        call("C4", ANA, "received", AT_S + 27), call("C5", None, "received", AT_S + 30),
        call("C1", BOB, "accepted", AT_S + 5), call("C6", BOB, "received", AT_S, session="other"),
    )  # fmt: skip
    found = [(c["id"], c["caller"], c["state"], c["detail"]) for c in await told.pages(f"/api/calls/{S}", limit)]
    assert found == [
        ("C2", ANA, "accepted", None), ("C5", None, "received", None), ("C3", BOB, "rejected", "terminate"),
        ("C4", ANA, "received", None), ("C4", BOB, "received", None), ("C1", BOB, "accepted", None),
        ("C1", ANA, "rejected", "timeout"),
    ]  # fmt: skip
    c2 = (await told.get(f"/api/calls/{S}"))["items"][0]
    assert (c2["received_at"], c2["accepted_at"], c2["rejected_at"]) == (rfc(AT_S + 60), rfc(AT_S + 62), None)


DAY = 86_400


async def test_chats_by_their_newest_message(told: Telling) -> None:
    """In any order of facts; a chat under two ids once, where the newer one stands."""
    facts: list[Fact] = [
        *wrote(ANA, "A1", "first", AT_S), *wrote(ANA, "A2", "mine", AT_S + 60, own=True),
        *wrote(ANA, "A3", "new", AT_S + 120), *wrote(ANA, "A4", "newer", AT_S + 180),
        *wrote(BOB, "B1", "old", AT_S - 400 * DAY), *wrote(GROUP, "G1", "hello", AT_S + 600, sender=BOB),
        *wrote(GROUP, "G2", "again", AT_S + 660, sender=BOB), *wrote(LID, "A4", "newer", AT_S + 180),
        *wrote(LID, "L1", "hidden", AT_S + 240), *wrote(ANA, "X1", "elsewhere", AT_S + 9000, session="other"),
        GroupFact(S, GROUP, "subject", '"Sailing"', AT_S * 1000, "e1"), named(BOB, "push", "Bob"),
        ArchiveFact(S, BOB, True, AT_S * 1000, "e1"), ArchiveFact(S, GROUP, True, AT_S * 1000, "e1"),
        ArchiveFact(S, GROUP, False, (AT_S + 5) * 1000, "e2"),
        LabelFact(S, "1", False, "Family", 3, None, AT_S * 1000, "e1"),
        LabelFact(S, "2", True, None, None, None, AT_S * 1000, "e1"),
        *(ChatLabelFact(S, BOB, label, True, AT_S * 1000, "e1") for label in ("1", "2", "3")),
        ChatLabelFact(S, GROUP, "1", True, AT_S * 1000, "e1"), ChatLabelFact(S, GROUP, "1", False, (AT_S + 1) * 1000, "e2"),
        AckFact(S, GROUP, "G1", BOB, None, 3, (AT_S + 700) * 1000),
    ]  # fmt: skip
    random.Random(3).shuffle(facts)
    for n in range(0, len(facts), 4):
        await told.tell(*facts[n : n + 4])
    for limit in (1, 2, 50):
        found = await told.pages(f"/api/chats/{S}", limit)
        assert [(c["id"], _text(c), c["unread"]) for c in found] == [
            (GROUP, "again", 1), (LID, "hidden", 2), (ANA, "newer", 2), (BOB, "old", 1),
        ]  # fmt: skip
    group, _, _, bob = found
    assert (group["name"], group["archived"], group["labels"]) == ("Sailing", False, [])
    labels = [{"id": "1", "name": "Family"}, {"id": "3", "name": None}]
    assert (bob["name"], bob["archived"], bob["labels"]) == ("Bob", True, labels)
    await told.tell(same(LID, ANA, AT_S))
    for limit in (1, 2, 50):
        found = await told.pages(f"/api/chats/{S}", limit)
        assert [(c["id"], _text(c), c["unread"]) for c in found] == [
            (GROUP, "again", 1), (ANA, "hidden", 3), (BOB, "old", 1),
        ]  # fmt: skip
    await told.tell(AckFact(S, ANA, "A4", PEER, None, 3, (AT_S + 300) * 1000))
    assert (await told.get(f"/api/chats/{S}"))["items"][1]["unread"] == 1
    await told.tell(AckFact(S, ANA, "A2", OWN, None, 3, (AT_S + 300) * 1000))
    assert (await told.get(f"/api/chats/{S}"))["items"][1]["last_message"]["ack"] is None


def _text(chat: dict[str, Any]) -> str | None:
    assert chat["last_message"]["chat"] == chat["id"]
    text: str | None = chat["last_message"]["text"]
    return text


async def test_unread_is_bounded_and_a_mended_time_is_found(told: Telling) -> None:
    """More than a hundred are a hundred; a message whose better content says an earlier time is shown all the same."""
    await told.tell(*(fact for n in range(120) for fact in wrote(ANA, f"A{n}", "hi", AT_S + n)))
    await told.tell(*wrote(BOB, "B1", "wrong clock", AT_S + 50 * DAY))
    await told.tell(*wrote(BOB, "B1", "right clock", AT_S - 50 * DAY))  # heard earlier, so it is what is shown
    found = await told.pages(f"/api/chats/{S}", 1)
    assert [(c["id"], _text(c), c["unread"]) for c in found] == [(BOB, "right clock", 0), (ANA, "hi", 100)]


@pytest.mark.parametrize("what", ["groups", "calls", "chats", "contacts"])
async def test_lists_of_nobody_and_cursors_of_others(told: Telling, what: str) -> None:
    await told.tell(
        *wrote(GROUP, "G1", "hi", sender=BOB), *wrote(OTHER_GROUP, "G2", "hi", AT_S + 60, sender=BOB),
        call("C1", ANA, "received", AT_S), call("C2", ANA, "received", AT_S),
        *wrote(ANA, "A", "x", session="other"),
    )  # fmt: skip
    cursor = (await told.get(f"/api/{what}/{S}", limit=1))["next"]
    for path, query, status in (
        (f"/api/{what}/nobody", {}, 404), (f"/api/{what}/a%00b", {}, 404),
        (f"/api/{what}/other", {"before": cursor}, 422), (f"/api/{what}/{S}", {"before": cursor + "A"}, 422),
        (f"/api/{what}/{S}", {"before": cursor}, 200), (f"/api/{what}/{S}", {"limit": 501}, 422),
    ):  # fmt: skip
        assert (await told.http.get(path, params=query)).status_code == status, (path, query)


async def test_a_busy_chat_writes_its_place_once_a_minute(told: Telling) -> None:
    versions = set[Any]()
    minute = AT_S - AT_S % 60
    for n in (*range(12), 3):
        await told.tell(*wrote(ANA, f"A{n}", "hi", minute + 15 * n))
        versions.add(await told.pool.fetchrow("SELECT xmin::text, minute_at FROM whatsapp_gateway.chat_latest"))
    assert len(versions) == 3
