"""Whatever a body holds, it is read, or refused by one of two errors; and what is read can be stored.

Three ways to a body: an envelope with every field that wapipe reads of which some hold any JSON value, a recorded or
sample body of which one place does, and one whose bytes were damaged. hypothesis prints what fails, with a blob to
repeat it.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_type_hints

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.envelope import Envelope, read_envelope, to_header
from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS
from schemas.keys import ME, message_key
from schemas.normalize.message import to_content
from schemas.normalize.session import to_session
from schemas.reading import UnreadableError
from schemas.rows import ContentFact, SessionFact, content_rank
from schemas.webhook import parse_body
from tests.golden.messages import deliveries

T = TypeVar("T")

fuzz = settings(
    max_examples=400, deadline=None, print_blob=True, derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

# ---------------------------------------------------------------- values
ODD_TEXTS = [
    "", "\x00", "a\x00b", "\ud83d", "x\ude00", "\ud83d\x00\ude00", "@", "_", "true_", "false_@_", "me",
    "status@broadcast", "false_5511988887777@c.us_A1", "true_120363040000000001@g.us_A1_123456789012345@lid",
    "5511988887777@c.us",
    "x@" + "y" * 300, "false_" + "1" * 300 + "@c.us_A", "false_1@c.us_" + "A" * 5000, "1784973600", "1e999", "NaN",
    "image/png", "audio/", "ptt", "chat", "\u2028", "\uffff", "😀" * 100,
]  # fmt: skip
texts = st.deferred(lambda: st.sampled_from(ODD_TEXTS) | st.text(st.characters(), max_size=20))  # surrogates included
numbers = (
    st.integers()
    | st.sampled_from([0, -1, 1_784_973_600, 1_784_973_600_000, 2**31, 2**63, 2**64, 10**100, -(10**100)])
    | st.floats(allow_nan=True, allow_infinity=True)
)
scalars = st.none() | st.booleans() | numbers | texts
values: st.SearchStrategy[Any] = st.deferred(
    lambda: st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
    )
)
received_at = st.integers(-1, 10**14 - 1)  # what read_headers of pipeline.batch can answer


# Between them these have every field that wapipe reads.
RICH: list[dict[str, Any]] = [
    {
        "id": "evt_1", "timestamp": 1_784_973_600_750, "event": "message", "session": "default", "engine": "NOWEB",
        "me": {"id": "4915112345678@c.us", "lid": "99887766554433@lid", "pushName": "Acme"},
        "payload": {
            "id": "false_120363040000000001@g.us_A1_123456789012345@lid", "timestamp": 1_784_973_600,
            "from": "120363040000000001@g.us", "fromMe": False, "to": "120363040000000001@g.us", "source": "app",
            "participant": "123456789012345@lid", "body": "hi", "hasMedia": True,
            "media": {"url": "http://waha/x", "mimetype": "image/png", "filename": "x.png"},
            "replyTo": {"id": "A0", "participant": "5511988887777@c.us", "body": "Shall we?"},
            "_data": {"pushName": "Ana", "message": {"ephemeralMessage": {"message": {"pollCreationMessageV3": {
                "name": "Lunch?", "options": [{"optionName": "Pizza"}], "selectableOptionsCount": 1}}}}},
        },
    },
    {
        "event": "message.any", "session": "default", "engine": "GOWS",
        "payload": {
            "id": "A1", "from": "5511988887777@c.us", "location": {"latitude": "1", "longitude": "2", "name": "Praça"},
            "_data": {"Info": {"PushName": "Ana"}, "Message": {"audioMessage": {"PTT": True}}},
        },
    },
    {
        "event": "message", "session": "default", "engine": "WEBJS",
        "payload": {
            "id": "true_5511988887777@c.us_A1", "from": "4915112345678@c.us", "to": "5511988887777@c.us",
            "fromMe": True,
            "location": {"live": True, "latitude": 1.5, "longitude": 2, "address": "a", "url": "u", "description": "d"},
            "vCards": ["BEGIN:VCARD"], "_data": {"type": "location", "notifyName": "Ana"},
        },
    },
    {
        "event": "session.status", "session": "default", "engine": "WPP", "timestamp": 1_784_973_600_750,
        "me": {"id": "4915112345678@c.us"}, "environment": {"version": "2026.7.1"}, "payload": {"status": "WORKING"},
    },
    {
        "event": "poll.vote", "session": "default",
        "payload": {
            "after": {"id": "x", "remoteJid": "5511988887777@c.us"}, "poll": {"id": "p"}, "vote": {"from": "me"},
            "group": {"id": "120363040000000001@g.us"}, "eventCreationKey": {"id": "x"}, "chatId": "5511988887777@c.us",
        },
    },
]  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, the outer ones first."""
    items = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    return [p for key, inner in items for p in ((*path, key), *paths_of(inner, (*path, key)))]


def put(body: Any, path: tuple[Any, ...], value: Any) -> None:
    """Puts `value` at `path`; REMOVED takes the place out."""
    *way, last = path
    for key in way:
        body = body[key]
    if value is REMOVED:
        del body[last]
    else:
        body[last] = value


REMOVED = object()
changes = st.one_of(values, values, st.just(REMOVED))


@st.composite
def odd_envelopes(draw: st.DrawFn) -> Any:
    """A rich envelope in which some places hold any value, or are missing."""
    body = copy.deepcopy(draw(st.sampled_from(RICH)))
    for _ in range(draw(st.integers(0, 4))):
        if paths := paths_of(body):
            put(body, draw(st.sampled_from(paths)), draw(changes))
    return body


def to_bytes(value: Any, escaped: bool) -> bytes:
    """JSON as JavaScript would write it (lone surrogates as escapes), or raw, with bytes that are no UTF-8."""
    return json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------- what must hold
def assert_text(text: str) -> None:
    assert "\x00" not in text
    text.encode("utf-8")  # raises on a surrogate


def assert_storable_json(value: Any) -> None:
    if type(value) is str:
        assert_text(value)
    elif type(value) is dict:
        for key, inner in value.items():
            assert_text(key)
            assert_storable_json(inner)
    elif type(value) is list:
        for inner in value:
            assert_storable_json(inner)
    elif type(value) is float:
        assert math.isfinite(value)


def assert_fact(fact: ContentFact | SessionFact) -> None:
    """Every field has the type it says, and every text is one that PostgreSQL takes."""
    for field, hint in get_type_hints(type(fact)).items():
        value = getattr(fact, field)
        assert isinstance(value, hint), (field, value)
        assert type(value) is not bool or hint is bool, field
        if type(value) is str:
            assert_text(value)


def assert_content(fact: ContentFact, received_at_ms: int) -> None:
    """The columns of sql/queries/messages.sql, and what else becomes of a content fact."""
    assert_fact(fact)
    assert 0 <= fact.ts_ms < 32_503_680_000_000 or fact.ts_ms == received_at_ms
    assert fact.poverty in (0, 1, 2)
    assert fact.raw_id
    assert fact.chat
    for jid in (fact.session, fact.chat, fact.sender, fact.participant, fact.key_sender):
        assert jid is None or len(jid) <= MAX_JID_CHARS
    if fact.extra is not None:
        assert_storable_json(json.loads(fact.extra, parse_constant=float))
        assert orjson.loads(fact.extra)  # the API reads it
    assert len(message_key(b"k", ME if fact.from_me else fact.key_sender, fact.raw_id)) == 16
    assert len(content_rank(fact.poverty, 0, received_at_ms, b"")) == 16


REASONS = {
    "not_json", "not_an_object", "no_event", "no_session", "payload_missing", "message_id_missing", "chat_missing",
    "jid_too_long", "message_id_too_long", "session_missing", "session_too_long", "status_missing",
}  # fmt: skip


def attempt(work: Callable[[], T]) -> T | str:
    """What `work` returns, or the reason for which it refuses. Any other exception is a bug."""
    try:
        return work()
    except (UnreadableError, MalformedError) as exc:
        return exc.reason


def check(body: bytes, received_at_ms: int) -> None:
    """What ingress and consumers do with one body."""
    webhook = attempt(lambda: parse_body(body))
    envelope = attempt(lambda: read_envelope(body))
    if isinstance(webhook, str):
        assert webhook in {"not_json", "not_an_object"}
        return  # the ingress skips most of a body, so it may file what a consumer cannot read
    content = attempt(lambda: to_content(webhook, "default", received_at_ms))
    session = attempt(lambda: to_session(webhook, "default", received_at_ms))
    assert {found for found in (envelope, content, session) if isinstance(found, str)} <= REASONS
    if isinstance(envelope, Envelope):
        assert_envelope(envelope)
    if isinstance(content, ContentFact):
        assert_content(content, received_at_ms)
    if isinstance(session, SessionFact):
        assert_fact(session)
        assert datetime(1969, 12, 31, tzinfo=UTC) < session.at < datetime(5200, 1, 1, tzinfo=UTC)


def assert_envelope(envelope: Envelope) -> None:
    for text in (envelope.event, envelope.event_id, envelope.session, envelope.engine, envelope.chat):
        assert_text(text)
        assert to_header(text).isascii()


# ---------------------------------------------------------------- the three ways
@fuzz
@given(odd_envelopes(), st.booleans(), received_at)
def test_any_value_in_any_field(envelope: Any, escaped: bool, received_at_ms: int) -> None:
    check(to_bytes(envelope, escaped), received_at_ms)


BODIES = [d.body for d in deliveries()]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A recorded or sample body in which one place holds any value, or is missing."""
    body = orjson.loads(draw(st.sampled_from(BODIES)))
    put(body, draw(st.sampled_from(paths_of(body))), draw(changes))
    return body


@fuzz
@given(mutated(), st.booleans(), received_at)
def test_any_value_in_any_place_of_a_real_body(body: Any, escaped: bool, received_at_ms: int) -> None:
    check(to_bytes(body, escaped), received_at_ms)


DAMAGE = [b"\xff", b"\xed\xa0\xbd", b"\\u0000", b"\\ud83d", b'"', b"{", b"]", b"NaN", b"\x00", b""]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body with some of its bytes cut out, replaced or put twice."""
    body = draw(st.sampled_from([to_bytes(envelope, escaped=True) for envelope in RICH]) | st.sampled_from(BODIES))
    start = draw(st.integers(0, len(body)))
    end = draw(st.just(start) | st.integers(start, min(len(body), start + 40)))
    inserted = draw(st.sampled_from(DAMAGE) | st.binary(max_size=8) | st.just(body[start:end] * 2))
    return body[:start] + inserted + body[end:]


@fuzz
@given(damaged(), received_at)
def test_damaged_bytes(body: bytes, received_at_ms: int) -> None:
    check(body, received_at_ms)


@fuzz
@given(st.binary(max_size=100), received_at)
def test_any_bytes(body: bytes, received_at_ms: int) -> None:
    check(body, received_at_ms)


@settings(fuzz, max_examples=100)
@given(odd_envelopes())
def test_reading_is_pure(body: Any) -> None:
    """The same bytes give the same fact, whoever reads them and whenever."""
    raw = to_bytes(body, escaped=True)
    once, again = (attempt(lambda: to_content(parse_body(raw), "default", 0)) for _ in range(2))
    assert repr(once) == repr(again)  # NaN is not equal to itself
