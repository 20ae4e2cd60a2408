"""`_data.reactions` of fetched messages: who reacted, when, and that it never undoes what a webhook said later."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from schemas.facts import Fact, RankedContent, ReactionFact
from schemas.law import merge, read
from tests.unit.told import ANA, ANA_LID, AT, BOB, GROUP, MY_LID, MY_NUMBER, jid, tell

SECOND = 1000
LONG = {"low": (AT + 7300) & 0xFFFFFFFF, "high": (AT + 7300) >> 32, "unsigned": True}
SIGNED_LONG = LONG | {"low": ((AT + 7300) & 0xFFFFFFFF) - 2**32, "unsigned": False}


def stored(text: Any = "👍", at_ms: Any = str(AT + 7300), **key: Any) -> dict[str, Any]:
    """An item of the store: the key is of the reaction's own message."""
    return {"key": {"id": "R1", "remoteJid": jid(ANA), "fromMe": False} | key, "text": text, "senderTimestampMs": at_ms}


def fetched(*reactions: Any, chat: str = ANA, **payload: Any) -> list[Fact]:
    """Facts of a message of `chat` with these reactions; in a group it is Ana's."""
    author = f"_{ANA}" if chat == GROUP else ""
    data = {"key": {"id": "A1"}, "message": {"conversation": "hi"}, "reactions": list(reactions)}
    body = {"id": f"false_{chat}_A1{author}", "timestamp": AT // 1000, "from": chat, "body": "hi", "_data": data}
    if chat == GROUP:
        body["participant"] = ANA
    return tell("message.any", body | payload)


def reactions(facts: list[Fact]) -> list[tuple[str, str, int]]:
    return [(f.by, f.emoji, f.at_ms - AT) for f in facts if isinstance(f, ReactionFact)]


def webhook(text: str, after_s: int, event_id: str = "evt_9", chat: str = ANA, by: str = ANA) -> list[Fact]:
    """message.reaction as NOWEB posts it."""
    group = {"to": GROUP, "participant": by} if chat == GROUP else {}
    target = f"false_{chat}_A1" + (f"_{ANA}" if chat == GROUP else "")
    payload = {"id": f"false_{chat}_R1" + (f"_{by}" if chat == GROUP else ""), "timestamp": AT // 1000 + after_s, "from": chat,
               "fromMe": False, "reaction": {"text": text, "messageId": target}}  # fmt: skip
    return tell("message.reaction", payload | group, id=event_id)


def shown(*parts: list[Fact]) -> set[tuple[tuple[str, str], ...]]:
    """What is shown, whatever the order."""
    found = set()
    for order in permutations(parts):
        (message,) = read(merge(fact for facts in (*order, order[0]) for fact in facts)).messages.values()
        found.add(tuple(sorted(message.reactions.items())))
    return found


def test_whose_it_is() -> None:
    assert reactions(fetched(stored(), stored("❤️", fromMe=True))) == [(ANA, "👍", 7000), ("me", "❤️", 7000)]
    in_group = fetched(
        stored(participant=jid(BOB)), stored("❤️", participant=ANA_LID), stored("😂", participant=jid(MY_NUMBER)),
        stored("🙏", participant=MY_LID), chat=GROUP,
    )  # fmt: skip
    assert reactions(in_group) == [(BOB, "👍", 7000), (ANA_LID, "❤️", 7000), ("me", "😂", 7000), ("me", "🙏", 7000)]
    assert {f.author for f in in_group if isinstance(f, ReactionFact)} == {ANA}


@pytest.mark.parametrize("at_ms", [str(AT + 7300), AT + 7300, float(AT + 7300), (AT + 7300) // 1000, LONG, SIGNED_LONG])
def test_a_time_in_every_spelling(at_ms: Any) -> None:
    assert reactions(fetched(stored(at_ms=at_ms))) == [(ANA, "👍", 7000)]


@pytest.mark.parametrize("at_ms", [None, "soon", {"low": 1}, {"low": True, "high": 1}, {"low": 0, "high": -1}, [], 0])
def test_without_a_time_it_is_as_old_as_the_message(at_ms: Any) -> None:
    assert reactions(fetched(stored(at_ms=at_ms))) == [(ANA, "👍", 0)]


def test_taken_back() -> None:
    assert reactions(fetched(stored(""), stored(None, fromMe=True))) == [(ANA, "", 7000), ("me", "", 7000)]


def test_one_that_cannot_be_read_costs_nothing_else() -> None:
    bad = [None, 7, "👍", {}, {"text": "👍"}, {"key": "R1", "text": "👍"}]
    nobody = [stored(), stored(participant=""), stored(participant="x"), stored(participant="9" * 900 + "@c.us")]
    assert reactions(fetched(*bad, stored("❤️"))) == [(ANA, "❤️", 7000)]
    found = fetched(*bad, *nobody, stored("❤️", participant=BOB), chat=GROUP)
    assert reactions(found) == [(BOB, "❤️", 7000)]
    assert isinstance(found[0], RankedContent)
    assert reactions(tell("message", {"id": f"false_{ANA}_A1", "from": ANA, "timestamp": AT // 1000,
                                      "_data": {"reactions": "none"}})) == []  # fmt: skip


def test_a_webhook_that_says_the_same_makes_it_no_other() -> None:
    for chat, by in ((ANA, ANA), (GROUP, BOB)):
        facts = fetched(stored(participant=jid(BOB)), chat=chat) + webhook("👍", 7, chat=chat, by=by)
        assert len(merge(facts).reactions) == 1
        assert shown(fetched(stored(participant=jid(BOB)), chat=chat), webhook("👍", 7, chat=chat, by=by)) == {
            ((by, "👍"),)
        }


def test_of_one_second_the_webhook_stays() -> None:
    assert shown(fetched(stored("👍")), webhook("❤️", 7)) == {((ANA, "❤️"),)}


def test_a_newer_webhook_stays() -> None:
    assert shown(fetched(stored("👍")), webhook("", 9)) == {()}
    assert shown(fetched(stored("👍")), webhook("❤️", 9)) == {((ANA, "❤️"),)}


def test_what_no_webhook_told_is_shown() -> None:
    assert shown(fetched(stored("👍")), webhook("❤️", 2)) == {((ANA, "👍"),)}
    assert shown(fetched(stored("")), webhook("❤️", 2)) == {()}
    assert shown(fetched(stored("👍"))) == {((ANA, "👍"),)}


def test_a_clock_that_is_ahead_undoes_nothing() -> None:
    """Nobody reacted after the message was fetched, so what a webhook says later is later."""
    facts = fetched(stored("👍", at_ms=AT * 2))
    [(_, _, after_ms)] = reactions(facts)
    received_ms = next(f.received_at_ms for f in facts if isinstance(f, RankedContent))
    assert AT + after_ms == received_ms // SECOND * SECOND
    assert shown(facts, webhook("", (received_ms - AT) // SECOND + 1)) == {()}
