"""Whatever an event holds: it states facts that can be stored, or is refused with the path of the field.

Each field of each recorded and sample event takes each odd value in turn; hypothesis changes several at once.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MalformedError
from schemas.facts import EditFact, Fact, GroupFact, LabelFact, OtherFact, RankedContent
from schemas.ids import MAX_JID_CHARS, MAX_RAW_ID_CHARS
from schemas.keys import message_key
from schemas.law import merge, read
from schemas.normalize.events import NORMALISERS, to_facts
from schemas.normalize.head import Record
from schemas.reading import UnreadableError
from schemas.rows import SessionFact
from tests.golden.messages import Delivery, deliveries
from tests.properties.test_content_fuzz import REMOVED, assert_text, changes, fuzz, paths_of, put, received_at, to_bytes

DELIVERIES = deliveries()
ODD: list[Any] = [
    REMOVED, None, True, 0, -1, 2**31, 2**63, -(10**30), 1e308, float("nan"), float("inf"), "", "x", "a\x00b", "\ud83d",
    "x@" + "y" * 300, "true_x@c.us_" + "A" * 5000, "9" * 400, [], [None, 7, "x", {}], {}, {"id": "x", "data": 10**12},
]  # fmt: skip
# The texts that become parts of keys, and how long they may be.
LONG = {"raw_id": MAX_RAW_ID_CHARS, "edit_id": MAX_RAW_ID_CHARS, "revoke_id": MAX_RAW_ID_CHARS}
SHORT = (
    "session", "chat", "author", "recipient", "by", "voter", "caller", "group", "person", "lid", "phone", "label_id",
    "call_id", "name", "status", "state", "detail", "method", "setting", "action", "role",
)  # fmt: skip
FREE = {OtherFact, RankedContent, LabelFact, SessionFact}  # texts of these are no keys
# One delivery a shape: which engine names which fields of which event.
SHAPES = list({(d.event, d.engine, repr(paths_of(json.loads(d.body)["payload"]))): d for d in DELIVERIES}.values())
UNKNOWN = [Delivery("unknown", "message.starred", "GOWS", b'{"event":"message.starred","session":"s","payload":7}')]


def facts_of(body: bytes, event: str, received_at_ms: int = 1_784_973_600_000) -> list[Fact] | str:
    """The facts of a body, or why it states none. Any other exception is a bug."""
    try:
        found = to_facts(body, Record(event, "default", received_at_ms))
    except (UnreadableError, MalformedError) as exc:
        refused = exc
    else:
        return checked(found, received_at_ms)
    if isinstance(refused, MalformedError):
        assert refused.field.startswith(("payload", "session")), refused
    assert refused.reason.replace("_", "").isalpha()
    return refused.reason


def checked(found: list[Fact], received_at_ms: int) -> list[Fact]:
    assert found, "an event that states nothing is lost"
    for fact in found:
        assert_storable(fact, received_at_ms)
    return found


HINTS: dict[str, dict[str, Any]] = {}


def hints_of(fact: Fact) -> dict[str, Any]:
    name = type(fact).__name__
    if name not in HINTS:
        HINTS[name] = get_type_hints(type(fact))
    return HINTS[name]


def assert_storable(fact: Fact, received_at_ms: int) -> None:
    """A time that says nothing is the one of receipt, or its hour, whatever that is."""
    for name, hint in hints_of(fact).items():
        value = getattr(fact, name)
        assert isinstance(value, tuple if name == "options" else hint), (name, value)
        assert type(value) is not bool or bool in (hint, *get_args(hint)), name
        if isinstance(value, str):
            assert_text(value)
            if type(fact) not in FREE and name in SHORT:
                assert len(value) <= MAX_JID_CHARS, name
            assert len(value) <= LONG.get(name, 10**9)
        if type(value) is int:
            assert -(2**63) <= value < 2**63
        if name.endswith("_ms") and value is not None and name != "received_at_ms":
            assert 0 <= value <= max(32_503_680_000_000, received_at_ms)
    if isinstance(fact, RankedContent):
        assert_storable(fact.content, received_at_ms)  # type: ignore[arg-type]
        if fact.content.extra is not None:
            orjson.loads(fact.content.extra)
    if isinstance(fact, GroupFact):
        json.loads(fact.value)
    if isinstance(fact, OtherFact):
        assert type(json.loads(fact.body, parse_constant=pytest.fail)) is dict
    if isinstance(fact, EditFact):
        assert len(message_key(b"k", fact.author, fact.raw_id)) == 16


@pytest.mark.parametrize("delivery", [*SHAPES, *UNKNOWN], ids=str)
def test_each_field_takes_each_odd_value(delivery: Delivery) -> None:
    body = json.loads(delivery.body)
    told = facts_of(delivery.body, delivery.event)
    for path in paths_of(body):
        for value in ODD:
            odd = json.loads(delivery.body)
            put(odd, path, value)
            found = facts_of(to_bytes(odd, escaped=True), delivery.event)
            if isinstance(found, list) and found != told:
                read(merge([*found, *told] if isinstance(told, list) else found))


@pytest.mark.parametrize("delivery", SHAPES, ids=str)
def test_of_doubled_keys_the_last_counts(delivery: Delivery) -> None:
    """As JavaScript reads it, and whether the first is of a wrong type or not."""
    body = json.loads(delivery.body)
    told = facts_of(delivery.body, delivery.event)
    assert isinstance(told, list)
    if any(isinstance(fact, OtherFact | RankedContent) for fact in told):
        told = [fact for fact in told if not isinstance(fact, OtherFact | RankedContent)]  # they hold or rank the bytes
    for path in (p for p in paths_of(body) if isinstance(p[-1], str)):
        for value in (None, 7, "x@c.us", {"id": "false_x@c.us_A"}):
            found = facts_of(doubled(body, path, value), delivery.event)
            assert isinstance(found, list)
            assert [fact for fact in found if not isinstance(fact, OtherFact | RankedContent)] == told


def doubled(body: Any, path: tuple[Any, ...], value: Any) -> bytes:
    """The body with the key at `path` twice: first with `value`, then as it is."""
    marked = json.loads(json.dumps(body))
    *way, last = path
    inner = marked
    for key in way:
        inner = inner[key]
    mark = "\ue000"
    items = [(mark if key == last else key, v) for key, v in inner.items()]
    inner.clear()
    inner.update(items)
    both = f"{json.dumps(last)}: {json.dumps(value)}, {json.dumps(last)}"
    return json.dumps(marked).replace(json.dumps(mark), both).encode()


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """An event in which some places hold any value, or are missing; sometimes under another event's name."""
    delivery = draw(st.sampled_from(DELIVERIES))
    body = json.loads(delivery.body)
    for _ in range(draw(st.integers(1, 4))):
        put(body, draw(st.sampled_from(paths_of(body))), draw(changes))
    event = draw(st.sampled_from((*[delivery.event] * 6, *sorted(NORMALISERS), "message.starred")))
    return event, body


@fuzz
@given(mutated(), st.booleans(), received_at)
def test_any_values_in_any_places(event: tuple[str, Any], escaped: bool, received_at_ms: int) -> None:
    found = facts_of(to_bytes(event[1], escaped), event[0], max(received_at_ms, 0))
    if isinstance(found, list):
        read(merge(found))


@fuzz
@given(st.sampled_from(sorted(NORMALISERS)), st.binary(max_size=60))
def test_any_bytes(event: str, body: bytes) -> None:
    assert isinstance(facts_of(body, event), str)


@fuzz
@given(mutated(), st.booleans())
def test_ids_are_nobodys_invention(event: tuple[str, Any], escaped: bool) -> None:
    """A damaged event says nothing of a message or a person that it does not name."""
    body = to_bytes(event[1], escaped)
    found = facts_of(body, event[0])
    text = (
        json.dumps(json.loads(body.decode("utf-8", "replace")), ensure_ascii=False) if isinstance(found, list) else ""
    )
    for fact in found if isinstance(found, list) else []:
        for name in ("chat", "raw_id", "person", "lid", "phone", "by", "voter", "recipient"):
            value = getattr(fact, name, None)
            if value and value != "me" and "\\" not in json.dumps(value, ensure_ascii=False):
                assert value.partition("@")[0].partition(":")[0] in text.replace("\\u0000", ""), (name, value)
