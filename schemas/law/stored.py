"""What is stored: one table a kind of fact, one row a key, and how each column of a row joins what another fact says.

RULES is the law. Every column is joined by least, greatest or one of the two over an order, so joining is commutative,
associative and idempotent: whatever the order, the doubles and the batches, the same facts give the same rows. A value that
a fact does not state is None and counts for nothing, as in SQL's least() and greatest().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, NamedTuple

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
    Fact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    StatusFact,
    VersionFact,
    VoteFact,
    ack_rank,
)
from schemas.keys import ME
from schemas.normalize.session import account_order, state_order
from schemas.rows import SessionFact

Key = tuple[Any, ...]
Row = dict[str, Any]
Stored = dict[str, dict[Key, Row]]  # table -> key -> columns
Get = Callable[[Any], Any]  # of a fact
Join = Callable[[Any, Any], Any]


class Rule(NamedTuple):
    """Where a kind of fact is stored, under which key, and for each column how it joins and what the fact says of it."""

    table: str
    key: Get
    columns: dict[str, tuple[Join, Get]]


def merge(facts: Iterable[Fact]) -> Stored:
    """The rows of a set of facts."""
    stored: Stored = {rule.table: {} for rule in RULES.values()}
    for fact in facts:
        rule = RULES[type(fact)]
        row = {column: says(fact) for column, (_, says) in rule.columns.items()}
        _put(stored[rule.table], rule, rule.key(fact), row)
    return stored


def join(one: Stored, other: Stored) -> Stored:
    """The rows of both sets of facts: merge(a + b) == join(merge(a), merge(b))."""
    both: Stored = {rule.table: dict(one[rule.table]) for rule in RULES.values()}
    for rule in RULES.values():
        for key, row in other[rule.table].items():
            _put(both[rule.table], rule, key, row)
    return both


def joined(table: str, one: Row, other: Row) -> Row:
    """Two rows of a table as one: of one key when writing, of one person or message when reading."""
    return {column: how(one[column], other[column]) for column, (how, _) in _BY_TABLE[table].columns.items()}


def _put(rows: dict[Key, Row], rule: Rule, key: Key, row: Row) -> None:
    rows[key] = joined(rule.table, rows[key], row) if key in rows else row


# ---------------------------------------------------------------- how two values become one
def least(one: Any, other: Any) -> Any:
    """The lesser; None counts for nothing."""
    return one if other is None else other if one is None else min(one, other)


def greatest(one: Any, other: Any) -> Any:
    """The greater; None counts for nothing."""
    return one if other is None else other if one is None else max(one, other)


def _least_each(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(least(a, b) for a, b in zip(one, other, strict=True))


def _lowest_rank(one: RankedContent, other: RankedContent) -> RankedContent:
    return min(one, other, key=attrgetter("rank"))


def _better_edit(one: EditFact, other: EditFact) -> EditFact:
    """Of one edit told twice: readable before not, then the earlier telling."""
    return min(one, other, key=lambda e: (e.text is None, e.at_ms, e.event_id, e.text or "", e.text_before or ""))


# ---------------------------------------------------------------- what a fact says of a column
def author_of(fact: RankedContent) -> str:
    """The author as keys have him."""
    return ME if fact.content.from_me else fact.content.key_sender


def of(*names: str) -> Get:
    """Those fields of the fact, as a tuple."""
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda fact: (get(fact),)


def only(name: str, when: Callable[[Any], bool] = lambda _: True) -> Get:
    """One field, where the fact states it."""
    get = attrgetter(name)
    return lambda fact: get(fact) if when(fact) else None


def newest(*names: str, when: Callable[[Any], bool] = lambda _: True) -> tuple[Join, Get]:
    """What is said last, by time, then envelope id, then the values themselves: (at_ms, event_id, values…)."""
    get = of("at_ms", "event_id", *names)
    return greatest, lambda fact: get(fact) if when(fact) else None


def _times(fact: AckFact) -> tuple[int | None, ...]:
    rank = ack_rank(fact.level)
    return tuple(fact.at_ms if n == rank else None for n in range(6))


def _look(fact: LabelFact) -> Any:
    if fact.deleted or (fact.name is None and fact.color is None):
        return None
    return fact.at_ms, fact.event_id, fact.name or "", -1 if fact.color is None else fact.color, fact.color_hex or ""


def _is(state: str) -> Callable[[Any], bool]:
    return lambda fact: bool(fact.state == state)


def _answered(fact: Any) -> bool:
    return not fact.failed


def _failed(fact: Any) -> bool:
    return bool(fact.failed)


MESSAGE = ("session", "chat", "raw_id", "author")
ANSWER = {"answer": newest("options", when=_answered), "failed_ms": (greatest, only("at_ms", _failed))}

RULES: dict[type, Rule] = {
    RankedContent: Rule(
        "contents",
        lambda f: (f.content.session, f.content.chat, f.content.raw_id, author_of(f)),
        {"shown": (_lowest_rank, lambda f: f), "first_ms": (least, only("received_at_ms"))},
    ),
    AckFact: Rule(
        "acks",
        of(*MESSAGE, "recipient"),
        {"rank": (greatest, lambda f: ack_rank(f.level)), "times": (_least_each, _times)},  # times by rank
    ),
    EditFact: Rule("edits", of(*MESSAGE, "edit_id"), {"edit": (_better_edit, lambda f: f)}),
    RevokeFact: Rule(
        "revokes",
        of(*MESSAGE, "by"),
        {"said": (least, of("at_ms", "event_id")), "text_before": (greatest, only("text_before"))},
    ),
    ReactionFact: Rule("reactions", of(*MESSAGE, "by"), {"said": newest("emoji")}),
    VoteFact: Rule("votes", of(*MESSAGE, "voter"), ANSWER),
    ResponseFact: Rule(
        "responses", of(*MESSAGE, "by"), ANSWER | {"answer": newest("response", "guests", when=_answered)}
    ),
    CallFact: Rule(
        "calls",
        of("session", "call_id", "caller"),
        {
            "received_ms": (least, only("at_ms", _is("received"))),
            "accepted_ms": (least, only("at_ms", _is("accepted"))),
            "rejected_ms": (least, only("at_ms", _is("rejected"))),
            "detail": (greatest, only("detail", _is("rejected"))),
            "group": (greatest, only("group")),
            "is_video": (greatest, only("is_video")),
            "is_group": (greatest, only("is_group")),
        },
    ),
    GroupFact: Rule(
        "group_settings", of("session", "group", "setting", "at_ms"), {"said": (greatest, of("event_id", "value"))}
    ),
    MemberFact: Rule(
        "group_members",
        of("session", "group", "person", "at_ms"),
        {"said": (greatest, of("event_id", "role")), "by": (greatest, only("by"))},
    ),
    JoinRequestFact: Rule(
        "join_requests", of("session", "group", "person", "at_ms", "action"), {"method": (greatest, only("method"))}
    ),
    LabelFact: Rule("labels", of("session", "label_id"), {"look": (greatest, _look), "state": newest("deleted")}),
    ChatLabelFact: Rule("chat_labels", of("session", "chat", "label_id"), {"said": newest("carried")}),
    ArchiveFact: Rule("chats_archived", of("session", "chat"), {"said": newest("archived")}),
    PresenceFact: Rule(
        "presence",
        of("session", "chat", "person"),
        {"said": newest("state"), "last_seen_ms": (greatest, only("last_seen_ms"))},
    ),
    SessionFact: Rule(
        "sessions",
        of("name"),
        {"state": (greatest, state_order), "account": (greatest, lambda f: account_order(f) if f.me else None)},
    ),
    StatusFact: Rule("session_status", of("session", "status", "at_ms"), {}),
    VersionFact: Rule(
        "session_versions",
        of("session", "engine", "version"),
        {"first_ms": (least, only("at_ms")), "last_ms": (greatest, only("at_ms"))},
    ),
    IdentityFact: Rule(
        "identities",
        of("session", "lid", "phone"),
        # Of one hour "no longer" wins: what every message says again would bring the mapping back at once.
        {"said": (greatest, lambda f: (f.at_ms, not f.holds, f.source))},
    ),
    NameFact: Rule(
        "names",
        of("session", "person", "source", "name"),
        {"first_ms": (least, only("at_ms")), "last_ms": (greatest, only("at_ms"))},
    ),
    OtherFact: Rule(
        "other_events",
        lambda f: (f.session, f.event, f.event_id or f.body),
        {"said": (least, lambda f: (f.at_ms, f.body, f.chat or "", f.engine or ""))},
    ),
}
_BY_TABLE = {rule.table: rule for rule in RULES.values()}
