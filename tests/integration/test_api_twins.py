"""A chat under a hidden id and its number is one chat, whenever that is learnt; and who may take back a message in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.facts import Fact, GroupFact, MemberFact, RevokeFact
from tests.integration.telling import AT_S, Telling, facts_of, same, telling, wrote
from tests.integration.written import ANA

LID, BOB, EVE = "99887766554433@lid", "447700900123@c.us", "447700900666@c.us"
GROUP, S = "120363040000000001@g.us", "default"


@pytest.fixture
async def told(settings_env: dict[str, str]) -> AsyncIterator[Telling]:
    async with telling(settings_env) as made:
        yield made


def reacted(chat: str, raw_id: str, emoji: str, at_s: int) -> list[Fact]:
    payload = {
        "id": f"false_{chat}_R{at_s}", "timestamp": at_s, "from": chat, "fromMe": False,
        "reaction": {"text": emoji, "messageId": f"false_{chat}_{raw_id}"},
    }  # fmt: skip
    return facts_of("message.reaction", payload, at_s)


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["text"] for item in items]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_both_histories_in_one_order_whenever_it_is_learnt(told: Telling, place: int) -> None:
    """A2 came under both ids; a reaction told of the hidden id stands at the message that is shown."""
    steps: list[list[Fact]] = [
        [*wrote(ANA, "A1", "one", AT_S), *wrote(LID, "A2", "two", AT_S + 10)],
        [*wrote(ANA, "A2", "two", AT_S + 10), *reacted(LID, "A2", "👍", AT_S + 20), *reacted(ANA, "A2", "❤", AT_S + 19)],
        [*wrote(LID, "A3", "three", AT_S + 30), *wrote(ANA, "A4", "four", AT_S + 40)],
    ]  # fmt: skip
    steps.insert(place, [same(LID, ANA, AT_S)])
    for step in steps:
        await told.tell(*step)
    for chat in (ANA, LID):
        for limit in (1, 2, 3, 50):
            found = await told.pages(f"/api/messages/{S}/{chat}", limit)
            assert texts(found) == ["four", "three", "two", "one"], (chat, limit)
            assert {m["chat"] for m in found} == {ANA}
            assert [m["reactions"] for m in found] == [[], [], [{"by": ANA, "emoji": "👍"}], []]
            assert [m["flags"] for m in found] == [[]] * 4


async def test_unlearnt_they_are_two_chats_again(told: Telling) -> None:
    await told.tell(*wrote(ANA, "A1", "one", AT_S), *wrote(LID, "A2", "two", AT_S + 10), same(LID, ANA, AT_S))
    assert texts(await told.pages(f"/api/messages/{S}/{ANA}", 50)) == ["two", "one"]
    await told.tell(same(LID, ANA, AT_S + 100, holds=False))
    assert texts(await told.pages(f"/api/messages/{S}/{ANA}", 50)) == ["one"]
    assert texts(await told.pages(f"/api/messages/{S}/{LID}", 50)) == ["two"]
    await told.tell(same(LID, BOB, AT_S + 200), *wrote(BOB, "B1", "bob", AT_S + 20))
    assert texts(await told.pages(f"/api/messages/{S}/{BOB}", 50)) == ["bob", "two"]
    assert texts(await told.pages(f"/api/messages/{S}/{ANA}", 50)) == ["one"]


async def test_what_one_session_learns_the_other_does_not_know(told: Telling) -> None:
    for session in (S, "other"):
        await told.tell(
            *wrote(ANA, "A1", f"one {session}", AT_S, session=session),
            *wrote(LID, "A2", f"two {session}", AT_S + 10, session=session),
        )
    await told.tell(same(LID, ANA, AT_S))
    assert texts(await told.pages(f"/api/messages/{S}/{LID}", 50)) == ["two default", "one default"]
    assert texts(await told.pages(f"/api/messages/other/{LID}", 50)) == ["two other"]
    assert texts(await told.pages(f"/api/messages/other/{ANA}", 50)) == ["one other"]


async def test_a_message_is_read_by_its_id_under_either_id_of_its_chat(told: Telling) -> None:
    await told.tell(*wrote(LID, "A2", "two", AT_S), same(LID, ANA, AT_S))
    for chat in (ANA, LID):
        assert (await told.get(f"/api/messages/{S}/{chat}/A2"))["text"] == "two"


async def test_who_may_take_back_in_a_group(told: Telling) -> None:
    """A member may (whether he is an admin is not told everywhere), who is known to be outside may not."""
    at_ms = AT_S * 1000
    await told.tell(
        *(fact for n in range(4) for fact in wrote(GROUP, f"G{n}", f"text {n}", AT_S + n, sender=ANA)),
        GroupFact(S, GROUP, "member_list", "2", at_ms, "e1"),
        MemberFact(S, GROUP, ANA, "participant", None, at_ms, "e1"),
        MemberFact(S, GROUP, BOB, "admin", None, at_ms, "e1"),
        MemberFact(S, GROUP, BOB, "left", None, at_ms + 100_000, "e2"),
        RevokeFact(S, GROUP, "G0", ANA, ANA, at_ms + 50_000, "r0", None, None),
        RevokeFact(S, GROUP, "G1", None, BOB, at_ms + 50_000, "r1", None, None),
        RevokeFact(S, GROUP, "G2", None, EVE, at_ms + 50_000, "r2", None, None),
        RevokeFact(S, GROUP, "G3", None, BOB, at_ms + 200_000, "r3", None, None),
    )  # fmt: skip
    found = {m["id"].split("_")[2]: m for m in await told.pages(f"/api/messages/{S}/{GROUP}", 50)}
    by = {raw: m["revoked"] and m["revoked"]["by"] for raw, m in found.items()}
    assert by == {"G0": ANA, "G1": BOB, "G2": None, "G3": None}
    assert [found[raw]["text"] for raw in ("G0", "G1", "G2", "G3")] == [None, None, "text 2", "text 3"]
    await told.tell(
        MemberFact(S, GROUP, EVE, "participant", None, at_ms + 10_000, "e3"), same(LID, EVE, AT_S),
    )  # fmt: skip
    [late] = [m for m in await told.pages(f"/api/messages/{S}/{GROUP}", 50) if "_G2_" in m["id"]]
    assert late["revoked"]["by"] == EVE, "it was told later that she was in"
