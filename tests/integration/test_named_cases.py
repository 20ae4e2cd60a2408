"""The cases in which other gateways go wrong, on a real database: every order of the facts ends in the same, right rows.

Each order has a session of its own and each fact comes in a batch of its own, so that the tables decide and not the batch.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from consumers.contacts import Contacts
from consumers.messages import Messages
from pipeline.batch import Place
from pipeline.facts import Placed
from pipeline.postgres import Pool, transaction
from schemas.facts import (
    AckFact,
    EditFact,
    Fact,
    IdentityFact,
    NameFact,
    RankedContent,
    ReactionFact,
    RevokeFact,
    VoteFact,
    ack_rank,
)
from schemas.keys import ME, PEER
from schemas.rows import ContentFact, content_rank
from tests.properties.tables import Rows, fetch_tables

ANA, ANA_LID = "5511988887777@c.us", "123456789012345@lid"
GROUP = "120363040000000001@g.us"
T = 1_784_973_600_000


def content(body: str | None, *, received: int = T, chat: str = ANA, **changes: Any) -> RankedContent:
    """Message A1 of Ana's; without a body a placeholder."""
    poverty = 2 if body is None else 0
    apart = changes.pop("apart", body or "")
    fields: dict[str, Any] = {
        "session": "", "chat": chat, "sender": chat, "participant": None, "key_sender": "", "ts_ms": T,
        "from_me": False, "has_media": False, "raw_id": "A1", "type": "text" if body else "waiting", "body": body,
        "reply_to": None, "source": None, "push_name": None, "mimetype": None, "filename": None, "event_id": "evt_1",
        "extra": None, "poverty": poverty,
    }  # fmt: skip
    return RankedContent(
        ContentFact(**fields | changes), content_rank(poverty, 0, received, apart.encode()), received, 0
    )


def ack(level: int, at_ms: int) -> AckFact:
    return AckFact("", ANA, "A1", ME, None, level, at_ms)


def edit(text: str, at_ms: int, event_id: str) -> EditFact:
    return EditFact("", ANA, "A1", PEER, f"E-{event_id}", text, at_ms, event_id, None)


def reaction(emoji: str, at_ms: int) -> ReactionFact:
    return ReactionFact("", ANA, "A1", PEER, ME, emoji, at_ms, "evt_4")


def vote(*options: str, at_ms: int) -> VoteFact:
    return VoteFact("", GROUP, "A1", ME, ANA, options, False, at_ms, "evt_5")


def same(at_ms: int, *, holds: bool = True) -> IdentityFact:
    return IdentityFact("", ANA_LID, ANA, holds, "message", at_ms)


REVOKE = RevokeFact("", ANA, "A1", PEER, ANA, T, "evt_3", None, "hi")


def bodies(rows: Rows) -> list[Any]:
    return [row[4] for row in rows["contents"].values()]


def values(table: str) -> Callable[[Rows], list[Any]]:
    return lambda rows: sorted(rows[table].values())


READ, DEVICE, SERVER = (ack_rank(level) for level in (3, 2, 1))

CASES: dict[str, tuple[list[Fact], Callable[[Rows], Any], Any]] = {
    "a later duplicate with other content": ([content("hi"), content("bye", received=T + 5)], bodies, ["hi"]),
    "a placeholder is filled, and remembers when it came": (
        [content(None), content("hi", received=T + 5000)],
        lambda rows: [(row[4], row[-1]) for row in rows["contents"].values()],
        [("hi", T)],
    ),
    "the message again with another time": (
        [content("hi"), content("hi", received=T + 5, ts_ms=T + 90 * 86_400_000)],
        lambda rows: [row[6] for row in rows["contents"].values()],
        [T],
    ),
    "message and message.any with one envelope id": (
        [content("hi", apart="message|evt_1"), content("hi", apart="message.any|evt_1")], bodies, ["hi"],
    ),
    "two edits of one second": (
        [content("hi"), edit("one", T, "evt_2"), edit("two", T, "evt_3")],
        values("edits"),
        [(False, T, "evt_2", "one", None), (False, T, "evt_3", "two", None)],
    ),
    "edit, ack, reaction and revoke before their message": (
        [edit("bye", T, "evt_2"), ack(3, T), reaction("👍", T), REVOKE, content("hi")],
        lambda rows: [len(rows[t]) for t in ("contents", "edits", "acks", "reactions", "revokes")],
        [1, 1, 1, 1, 1],
    ),
    "the revoke before the edit": (
        [content("hi"), REVOKE, edit("bye", T + 1, "evt_2")],
        lambda rows: (values("revokes")(rows), len(rows["edits"]), bodies(rows)),
        ([(T, "evt_3", "hi")], 1, ["hi"]),
    ),
    "an ack that goes backwards": (
        [ack(3, T + 3), ack(2, T + 2), ack(1, T + 1), ack(2, T + 9)], values("acks"),
        [(READ, T + 1, T + 2, T + 3, None)],
    ),
    "twins, and the mapping before, between and after": (
        [content("hi"), content("hi", chat=ANA_LID), same(T)],
        lambda rows: (len(rows["contents"]), values("identities")(rows)),
        (2, [(T, False, "message")]),
    ),
    "of one hour a mapping that holds no longer": (
        [same(T), same(T, holds=False), same(T - 3_600_000)], values("identities"), [(T, True, "message")],
    ),
    "a reaction that is taken away": ([reaction("👍", T), reaction("", T + 1)], values("reactions"), [(T + 1, "evt_4", "")]),
    "a reaction that is taken away and set again": (
        [reaction("👍", T), reaction("", T + 1), reaction("👍", T + 2)], values("reactions"), [(T + 2, "evt_4", "👍")],
    ),
    "a vote that is cleared": (
        [vote("Pizza", at_ms=T), vote(at_ms=T + 1)], values("votes"), [(T + 1, "evt_5", (), None)],
    ),
    "a name that comes again": (
        [NameFact("", ANA, "push", "Ana", T), NameFact("", ANA, "push", "Bea", T + 1), NameFact("", ANA, "push", "Ana", T + 2)],
        lambda rows: sorted((key[3], row) for key, row in rows["names"].items()),
        [("Ana", (T, T + 2)), ("Bea", (T + 1, T + 1))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_every_order_gives_the_same_rows(pool: Pool, name: str) -> None:
    facts, look, expected = CASES[name]
    orders = list(itertools.permutations([*facts, facts[0]] if len(facts) < 4 else facts))
    prefix = secrets.token_hex(3)
    consumers: list[Any] = [Messages(pool), Contacts(pool)]
    for step in range(len(orders[0])):
        place = Place("waha.message", 0, step)
        batch = [Placed([in_session(order[step], f"{prefix}{n}")], place) for n, order in enumerate(orders)]
        for consumer in consumers:
            rows = await consumer.prepare(batch)
            async with transaction(pool) as connection:
                await consumer.stage(connection, rows)
                await consumer.write(connection, rows)
    for n, order in enumerate(orders):
        assert look(await fetch_tables(pool, [f"{prefix}{n}"])) == expected, order


def in_session(fact: Any, session: str) -> Any:
    if isinstance(fact, RankedContent):
        return structs.replace(fact, content=structs.replace(fact.content, session=session))
    return structs.replace(fact, session=session)
