"""docs/merge-law.md, "The law": the rows depend on the set of facts alone, and nobody changes what is another's.

hypothesis prints what fails, with a blob to repeat it; WAPIPE_LAW_EXAMPLES makes a run longer.
"""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.facts import EditFact, Fact, RankedContent, ReactionFact, RevokeFact, VoteFact
from schemas.keys import ME, PEER
from schemas.law import State, join, merge, read
from schemas.law.view import Message, MessageId
from tests.properties.histories import ANA, BOB, GROUP, about, histories, reactions, revokes, votes

law = settings(max_examples=int(os.environ.get("WAPIPE_LAW_EXAMPLES", "300")), deadline=None, print_blob=True)
orders = st.randoms(use_true_random=False)


@law
@given(histories, orders)
def test_neither_order_nor_doubles_matter(facts: list[Fact], order: random.Random) -> None:
    doubled = facts + order.sample(facts, len(facts) // 2)
    order.shuffle(doubled)
    assert merge(doubled) == merge(facts)
    assert read(merge(doubled)) == read(merge(facts))


@law
@given(histories, histories, histories)
def test_neither_batches_nor_who_writes_them_matter(a: list[Fact], b: list[Fact], c: list[Fact]) -> None:
    whole = merge(a + b + c)
    one, two, three = merge(a), merge(b), merge(c)
    assert join(join(one, two), three) == join(one, join(two, three)) == whole
    assert join(one, two) == join(two, one)
    assert join(whole, whole) == join(whole, two) == whole


def by_bob(fact: Fact) -> bool:
    """Facts of which Bob is the only source: what he writes, edits, quotes, likes and votes in the group."""
    if isinstance(fact, RankedContent):
        return fact.content.chat == GROUP and fact.content.key_sender == BOB
    if isinstance(fact, EditFact):
        return fact.chat == GROUP and fact.author == BOB
    if isinstance(fact, ReactionFact):
        return fact.chat == GROUP and fact.by == BOB
    return isinstance(fact, VoteFact) and fact.chat == GROUP and fact.voter == BOB


def of_others(state: State) -> dict[MessageId, Message]:
    """Messages that are not Bob's, without what Bob says of them."""
    found = {key: message for key, message in state.messages.items() if key.author != BOB}
    for message in found.values():
        message.reply = None  # whether a quotation is right is Bob's business where Bob is quoted
        for said in (message.reactions, message.votes):
            said.pop(BOB, None)
        message.unreadable.discard(BOB)
    return found


def in_group_by_others(facts: list[Fact]) -> list[RankedContent]:
    return [f for f in facts if isinstance(f, RankedContent) and f.content.chat == GROUP and not by_bob(f)]


def copies(facts: list[Fact]) -> list[Fact]:
    """Messages of Bob's with the ids of others. He copies them from messages that are there, so his come later."""
    seen = [replace(f, received_at_ms=f.received_at_ms + 10**6) for f in in_group_by_others(facts)]
    return [about(f, f, key_sender=BOB, from_me=False, sender=BOB, body="forged") for f in seen]


def changes(facts: list[Fact]) -> list[Fact]:
    """Edits by Bob of others' messages."""
    found = [f.content for f in in_group_by_others(facts)]
    return [EditFact(c.session, GROUP, c.raw_id, BOB, "E9", "forged", c.ts_ms + 10**6, "", None) for c in found]


def liked(facts: list[Fact]) -> list[Fact]:
    """Reactions that do not say whose message they are about."""
    found = [f.content for f in in_group_by_others(facts)]
    return [ReactionFact(c.session, GROUP, c.raw_id, None, ME, "👍", c.ts_ms + 10**7, "") for c in found]


answers = st.lists(st.one_of(reactions(), votes()).filter(by_bob), max_size=4)


@law
@given(histories, answers)
def test_a_member_cannot_change_what_others_wrote(facts: list[Fact], answers: list[Fact]) -> None:
    """Whatever ids Bob's messages and edits carry, and whatever he reacts to: others' texts, tombstones, acks, reactions
    and votes stay. Only what names Bob as the author may go over to him."""
    facts = [f for f in facts if getattr(f, "author", ME) in (None, ME, PEER, ANA)]
    facts += liked(facts)
    untouched = of_others(read(merge(facts)))
    for forged in (copies(facts), changes(facts), copies(facts) + changes(facts)):
        assert of_others(read(merge([*facts, *forged, *answers]))) == untouched


@law
@given(histories, st.lists(revokes().filter(lambda f: f.chat != GROUP and f.by != ME), max_size=4))
def test_outside_groups_nobody_takes_back_what_is_not_his(facts: list[Fact], taken: list[RevokeFact]) -> None:
    before, after = read(merge(facts)), read(merge([*facts, *taken]))
    for key, message in after.messages.items():
        if key.author == ME:
            assert message.revoked_by == before.messages[key].revoked_by
        elif message.revoked_by != before.messages[key].revoked_by:
            assert message.revoked_by == (key.chat if key.author == PEER else key.author)


@law
@given(histories)
def test_nothing_is_lost(facts: list[Fact]) -> None:
    """Every row of what is said of messages is attached to one, or flagged."""
    stored = merge(facts)
    state = read(stored)
    flagged = {(flag.table, flag.key) for flag in state.flagged}
    attached = sum(len(message.edits) for message in state.messages.values())
    assert attached + sum(("edits", key) in flagged for key in stored.edits) == len(stored.edits)
    for table in ("acks", "reactions", "votes", "responses"):
        for key in getattr(stored, table):
            mine = [m for m in state.messages if m.session == key[0] and m.raw_id == key[2]]
            assert mine or (table, key) in flagged
