"""People and groups as messages show them, and the law by which what several messages show is put together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.normalize.contact import merge_contacts, to_contacts
from schemas.rows import ContactFact, ContentFact

ME = "4915112345678@c.us"
ANA = "5511988887777@c.us"
GROUP = "120363040000000001@g.us"
AT_MS = 1_784_973_600_750
AT = datetime(2026, 7, 25, 10, 0, 0, 750_000, tzinfo=UTC)
HOUR = AT.replace(minute=0, second=0, microsecond=0)
DAY = datetime(2026, 7, 25, tzinfo=UTC)


def content(chat: str, sender: str | None, *, from_me: bool = False, push_name: str | None = None) -> ContentFact:
    return ContentFact(
        "s", chat, sender, None, "", AT_MS, from_me, False, "A1", "text", "hi", None, "app", push_name, None, None,
        "evt_1", None, 0,
    )  # fmt: skip


# ---------------------------------------------------------------- what one message shows
def test_a_direct_message_shows_its_sender() -> None:
    assert to_contacts(content(ANA, ANA, push_name="Ana")) == [
        ContactFact("s", ANA, "Ana", HOUR, is_group=False, is_me=False, first_seen_at=AT, last_seen_at=DAY)
    ]


def test_a_group_message_shows_sender_and_group() -> None:
    assert to_contacts(content(GROUP, ANA, push_name="Ana")) == [
        ContactFact("s", ANA, "Ana", HOUR, is_group=False, is_me=False, first_seen_at=AT, last_seen_at=DAY),
        ContactFact("s", GROUP, None, None, is_group=True, is_me=False, first_seen_at=AT, last_seen_at=DAY),
    ]


def test_an_own_message_shows_me_and_names_nobody() -> None:
    """Engines put all sorts of names beside own messages, the peer's among them."""
    assert to_contacts(content(ANA, ME, from_me=True, push_name="Ana")) == [
        ContactFact("s", ME, None, None, is_group=False, is_me=True, first_seen_at=AT, last_seen_at=DAY),
        ContactFact("s", ANA, None, None, is_group=False, is_me=False, first_seen_at=AT, last_seen_at=DAY),
    ]


def test_an_own_message_before_pairing_shows_its_chat_only() -> None:
    assert [c.jid for c in to_contacts(content(ANA, None, from_me=True))] == [ANA]


def test_a_note_to_myself_shows_me_once() -> None:
    assert [(c.jid, c.is_me) for c in to_contacts(content(ME, ME, from_me=True))] == [(ME, True)]


# ---------------------------------------------------------------- what several messages show
def seen(name: str | None = None, *, day: int = 1, is_me: bool = False) -> ContactFact:
    """Ana as seen on a day of July 2026."""
    at = datetime(2026, 7, day, 10, tzinfo=UTC)
    return ContactFact("s", ANA, name, at if name else None, False, is_me, at, at.replace(hour=0))


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        pytest.param(seen("Ana", day=1), seen("Ana B.", day=2), "Ana B.", id="the newer name"),
        pytest.param(seen("Ana", day=1), seen(None, day=2), "Ana", id="no name changes nothing"),
        pytest.param(seen("Ana", day=1), seen("Bea", day=1), "Bea", id="of two names at one time the greater"),
        pytest.param(seen(None), seen(None), None, id="no name at all"),
    ],
)
def test_name(a: ContactFact, b: ContactFact, name: str | None) -> None:
    assert merge_contacts(a, b).push_name == merge_contacts(b, a).push_name == name


def test_first_and_last_seen() -> None:
    merged = merge_contacts(seen(day=5), merge_contacts(seen(day=2, is_me=True), seen(day=9)))
    assert merged.first_seen_at == datetime(2026, 7, 2, 10, tzinfo=UTC)
    assert merged.last_seen_at == datetime(2026, 7, 9, tzinfo=UTC)
    assert merged.is_me


@st.composite
def facts(draw: st.DrawFn) -> ContactFact:
    """What one message may show of one person: few values, so that ties are common."""
    at = AT + timedelta(hours=draw(st.integers(-3, 3)))
    name = draw(st.sampled_from([None, "Ana", "ana", "Ána", "Ana 🦊"]))
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return ContactFact("s", ANA, name, at if name else None, False, draw(st.booleans()), at, day)


merged_facts = st.lists(facts(), min_size=1, max_size=3).map(lambda many: reduce(merge_contacts, many))


@given(merged_facts, merged_facts)
def test_merge_is_commutative(a: ContactFact, b: ContactFact) -> None:
    assert merge_contacts(a, b) == merge_contacts(b, a)


@given(merged_facts, merged_facts, merged_facts)
def test_merge_is_associative(a: ContactFact, b: ContactFact, c: ContactFact) -> None:
    assert merge_contacts(merge_contacts(a, b), c) == merge_contacts(a, merge_contacts(b, c))


@given(merged_facts)
def test_merge_is_idempotent(a: ContactFact) -> None:
    assert merge_contacts(a, a) == a


@given(st.lists(facts(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_history_gives_the_same_contact(history: list[ContactFact], random: Random) -> None:
    """Order, repetition and grouping do not matter."""
    shuffled = [*history, history[0]]
    random.shuffle(shuffled)
    middle = len(shuffled) // 2 or 1
    parts = [reduce(merge_contacts, part) for part in (shuffled[:middle], shuffled[middle:]) if part]
    assert reduce(merge_contacts, parts) == reduce(merge_contacts, history)
