"""Facts for the tests of docs/merge-law.md, with everything that a case does not care about filled in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any, TypeVar

from schemas.facts import (
    AckFact,
    EditFact,
    Fact,
    IdentityFact,
    MemberFact,
    RankedContent,
    ReactionFact,
    RevokeFact,
    VoteFact,
)
from schemas.keys import ME, PEER
from schemas.law import State, merge, read
from schemas.law.view import Message
from schemas.rows import ContentFact, content_rank

S = "default"
ANA, ANA_LID, BOB = "5511988887777@c.us", "123456789012345@lid", "447700900123@c.us"
MY_NUMBER, MY_LID = "4915112345678@c.us", "99887766554433@lid"
GROUP = "120363040000000001@g.us"
T = 1_784_973_600_000
HOUR = 3_600_000

SECTIONS: set[str] = set()
F = TypeVar("F", bound=Callable[..., None])


def section(name: str) -> Callable[[F], F]:
    """Names the heading that a test belongs to."""
    SECTIONS.add(name)
    return lambda test: test


def content(raw_id: str = "A1", **changes: Any) -> RankedContent:
    """A text of Ana's in the direct chat with her, unless `changes` say otherwise."""
    author, chat = changes.pop("author", PEER), changes.pop("chat", ANA)
    received, lane, poverty = changes.pop("received", T), changes.pop("lane", 0), changes.pop("poverty", 0)
    from_me = author == ME
    fields: dict[str, Any] = {
        "session": S, "chat": chat, "sender": MY_NUMBER if from_me else author or chat, "participant": None,
        "key_sender": "" if from_me else author, "ts_ms": T, "from_me": from_me, "has_media": False, "raw_id": raw_id,
        "type": "text", "body": "hi", "reply_to": None, "source": None, "push_name": None, "mimetype": None,
        "filename": None, "event_id": "evt_1", "extra": None, "poverty": poverty,
    }  # fmt: skip
    fact = ContentFact(**{**fields, **changes})
    apart = f"{fact.event_id}{fact.body}".encode()
    return RankedContent(fact, content_rank(poverty, lane, received, apart), received, lane)


def ack(
    level: int, at_ms: int | None = T, recipient: str | None = None, chat: str = ANA, raw_id: str = "A1"
) -> AckFact:
    return AckFact(S, chat, raw_id, ME, recipient, level, at_ms)


def edit(text: str | None, at_ms: int = T, event_id: str = "evt_2", author: str = PEER, **changes: Any) -> EditFact:
    chat, raw_id = changes.get("chat", ANA), changes.get("raw_id", "A1")
    return EditFact(S, chat, raw_id, author, changes.get("edit_id", f"E-{event_id}"), text, at_ms, event_id, None)


def revoke(by: str = ANA, author: str | None = PEER, chat: str = ANA, at_ms: int = T, **changes: Any) -> RevokeFact:
    return RevokeFact(S, chat, changes.get("raw_id", "A1"), author, by, at_ms, "evt_3", None, changes.get("before"))


def react(emoji: str, at_ms: int = T, by: str = ANA, author: str | None = ME, **changes: Any) -> ReactionFact:
    event_id, chat = changes.get("event_id", "evt_4"), changes.get("chat", ANA)
    return ReactionFact(S, chat, changes.get("raw_id", "A1"), author, by, emoji, at_ms, event_id)


def vote(*options: str, voter: str = ANA, at_ms: int = T, failed: bool = False, **changes: Any) -> VoteFact:
    return VoteFact(
        S, changes.get("chat", GROUP), "A1", ME, voter, options, failed, at_ms, changes.get("event_id", "e")
    )


def same(lid: str = ANA_LID, phone: str = ANA, at_ms: int = T, holds: bool = True, session: str = S) -> IdentityFact:
    return IdentityFact(session, lid, phone, holds, "message", at_ms)


def member(person: str, role: str, at_ms: int = T) -> MemberFact:
    return MemberFact(S, GROUP, person, role, None, at_ms, "evt_5")


def state_of(*facts: Fact) -> State:
    """What is read of the facts; they are merged in several orders, which must say the same."""
    state = read(merge(facts))
    orders = list(permutations(facts)) if len(facts) <= 4 else [facts[::-1], facts[1:] + facts[:1]]
    for order in orders:
        assert read(merge([*order, *order[:2]])) == state
    return state


def only(state: State) -> Message:
    (message,) = state.messages.values()
    return message


def reasons(state: State) -> list[str]:
    return sorted(flag.reason for flag in state.flagged)
