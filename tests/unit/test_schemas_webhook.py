"""Bodies as they arrive: what is read, what is mended, what is refused, and under which chat an event is filed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.envelope import Envelope, read_envelope, to_header
from schemas.normalize.message import to_content
from schemas.reading import UnreadableError
from schemas.topics import MESSAGE, OTHER
from schemas.webhook import Payload, Webhook, parse_body

ANA = "5511988887777@c.us"
GROUP = "120363040000000001@g.us"


def body(payload: str = "{}", *, more: str = "") -> bytes:
    """A message envelope with `payload` as written (JSON text), so that broken JSON can be written too."""
    return f'{{"event":"message","session":"default","engine":"NOWEB","payload":{payload}{more}}}'.encode()


def payload_of(raw: bytes) -> Payload:
    payload = parse_body(raw).payload
    assert type(payload) is Payload
    return payload


# ---------------------------------------------------------------- mended
@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param(r'"a\u0000b"', "ab", id="NUL is dropped"),
        pytest.param(r'"\u0000"', "", id="only a NUL"),
        pytest.param(r'"a\ud83db"', "a?b", id="lone high surrogate"),
        pytest.param(r'"a\ude00b"', "a?b", id="lone low surrogate"),
        pytest.param(r'"\ude00\ud83d"', "??", id="surrogates the wrong way round"),
        pytest.param(r'"\ud83d\ude00"', "😀", id="a pair written with escapes"),
        pytest.param(r'"\\u0000"', r"\u0000", id="an escaped backslash is no NUL"),
        pytest.param(r'"\\\u0000"', "\\", id="a backslash, then a NUL"),
        pytest.param(r'"\ud83d\u0000\ude00"', "??", id="a NUL between two halves: no pair is made of them"),
        pytest.param('"Olá 👩‍💻 \u2028"', "Olá 👩‍💻 \u2028", id="raw UTF-8"),
        pytest.param('"\ufffe\uffff"', "\ufffe\uffff", id="non-characters are characters"),
    ],
)
def test_texts_lose_what_postgresql_cannot_store(written: str, read: str) -> None:
    assert payload_of(body(f'{{"body":{written}}}')).body == read


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(r'{"x\u0000":1,"body":"hi"}', id="NUL in a name that nobody reads"),
        pytest.param(r'{"x\ud83d":1,"body":"hi"}', id="lone surrogate in a name"),
        pytest.param(r'{"x":["\ud83d",{"y":"\u0000"}],"body":"hi"}', id="deep inside what nobody reads"),
        pytest.param('{"x":NaN,"body":"hi"}', id="NaN"),
        pytest.param('{"x":-Infinity,"body":"hi"}', id="Infinity"),
        pytest.param('{"x":1e999,"body":"hi"}', id="a float beyond floats"),
        pytest.param('{"x":' + "9" * 100 + ',"body":"hi"}', id="an integer of 100 digits"),
        pytest.param(r'{"x":' + "9" * 100 + r',"body":"h\u0000i"}', id="the same beside a NUL"),
        pytest.param(r'{"x":' + "9" * 100 + r',"y":"\ud83d","body":"hi"}', id="the same beside a lone surrogate"),
        pytest.param('{"body":"no","body":"hi"}', id="a name twice: the last counts, as in JavaScript"),
        pytest.param('{"x":' + "[" * 200 + "]" * 200 + ',"body":"hi"}', id="200 levels deep"),
    ],
)
def test_odd_but_readable(written: str) -> None:
    assert payload_of(body(written)).body == "hi"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_no_number_reads_as_missing(value: str) -> None:
    """Infinity and NaN are what a JavaScript that was asked to would write; they are no times."""
    fact = to_content(parse_body(body(f'{{"id":"false_{ANA}_A","timestamp":{value}}}')), "default", 7)
    assert fact.ts_ms == 7


def test_ten_megabytes_of_text() -> None:
    long = "x👩‍💻" * 700_000
    raw = json.dumps({"event": "message", "session": "s", "payload": {"body": long}}, ensure_ascii=False).encode()
    assert len(raw) > 7_000_000
    assert payload_of(raw).body == long


def test_ten_megabytes_that_must_be_scrubbed() -> None:
    long = "x\x00\ud83d" * 800_000
    raw = json.dumps({"event": "message", "session": "s", "payload": {"body": long}}).encode()
    assert len(raw) > 10_000_000
    assert payload_of(raw).body == "x?" * 800_000


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b" \n", "not_json", id="blank"),
        pytest.param(b"hello", "not_json", id="words"),
        pytest.param(b"a=1&b=2", "not_json", id="a form"),
        pytest.param(body()[:-1], "not_json", id="cut off"),
        pytest.param(body() + b"x", "not_json", id="something behind it"),
        pytest.param(body() + body(), "not_json", id="two bodies"),
        pytest.param(b"\xff\xfe", "not_json", id="no UTF-8"),
        pytest.param(body('{"body":"é"}').decode().encode("latin-1"), "not_json", id="latin-1"),
        pytest.param(body().decode().encode("utf-16"), "not_json", id="utf-16"),
        pytest.param(b"\xef\xbb\xbf" + body(), "not_json", id="byte order mark"),
        pytest.param(body('{"body":"X"}').replace(b"X", b"\xed\xa0\xbd"), "not_json", id="surrogate as raw bytes"),
        pytest.param(body('{"body":"X"}').replace(b"X", b"\xc0\x80"), "not_json", id="NUL in overlong UTF-8"),
        pytest.param(body('{"body":"X"}').replace(b"X", b"\x00"), "not_json", id="raw NUL in a text"),
        pytest.param(body('{"body":"X"}').replace(b"X", b"\n"), "not_json", id="raw line feed in a text"),
        pytest.param(body('{"body":"\\x41"}'), "not_json", id="an escape that JSON lacks"),
        pytest.param(b"{'event':'message'}", "not_json", id="single quotes"),
        pytest.param(body('{"timestamp":' + "9" * 5000 + "}"), "not_json", id="an integer of 5,000 digits"),
        pytest.param(body("[" * 100_000 + "]" * 100_000), "not_json", id="100,000 levels"),
        pytest.param(body('{"a":' * 100_000 + "1" + "}" * 100_000), "not_json", id="100,000 objects"),
        pytest.param(b"[" * 1_000_000, "not_json", id="a million levels that never close"),
        pytest.param(b"[]", "not_an_object", id="array"),
        pytest.param(b'[{"event":"message"}]', "not_an_object", id="array of events"),
        pytest.param(b'"message"', "not_an_object", id="text"),
        pytest.param(b"1", "not_an_object", id="number"),
        pytest.param(b"NaN", "not_an_object", id="NaN"),
        pytest.param(b"true", "not_an_object", id="true"),
        pytest.param(b"null", "not_an_object", id="null"),
    ],
)
def test_unreadable_bodies(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_body(raw)
    assert caught.value.reason == reason


@pytest.mark.parametrize("part", ["_data", "location", "x", "replyTo", "media"])
def test_depth_is_refused_wherever_it_is(part: str) -> None:
    with pytest.raises(UnreadableError, match="not_json"):
        parse_body(body(f'{{"{part}":' + '{"message":[' * 50_000 + "]}" * 50_000 + "}"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"{}", "no_event", id="nothing"),
        pytest.param(b'{"event":"","session":"s"}', "no_event", id="empty event"),
        pytest.param(b'{"event":null,"session":"s"}', "no_event", id="null event"),
        pytest.param(b'{"event":1,"session":"s"}', "no_event", id="event of a wrong type"),
        pytest.param(b'{"event":["message"],"session":"s"}', "no_event", id="several events"),
        pytest.param(b'{"event":"\\u0000","session":"s"}', "no_event", id="event of NUL"),
        pytest.param(b'{"event":"message"}', "no_session", id="no session"),
        pytest.param(b'{"event":"message","session":""}', "no_session", id="empty session"),
        pytest.param(b'{"event":"message","session":{}}', "no_session", id="session of a wrong type"),
    ],
)
def test_envelopes_that_cannot_be_filed(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_envelope(raw)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "worst",
    [
        pytest.param(b"[" * 2**24, id="arrays"),
        pytest.param(b'{"a":' * 2**21, id="objects"),
        pytest.param(b'"' + b"\\" * 2**23, id="a text of backslashes"),
        pytest.param(b"9" * 2**24, id="one number"),
        pytest.param(b'{"event":"\\ud83d' * 2**20, id="lone surrogates"),
    ],
)
def test_16_mebibytes_of_the_worst_are_refused_in_passing(worst: bytes) -> None:
    """Nothing quadratic in them: this test would not end otherwise."""
    with pytest.raises(UnreadableError):
        parse_body(worst)


# ---------------------------------------------------------------- filed
@pytest.mark.parametrize(
    ("payload", "chat"),
    [
        pytest.param({"id": f"false_{ANA}_A", "from": GROUP}, ANA, id="the serialized id comes first"),
        pytest.param({"id": "false_5511988887777:3@s.whatsapp.net_A"}, ANA, id="normalised"),
        pytest.param({"id": f"true_{GROUP}_A_4915112345678@c.us"}, GROUP, id="group"),
        pytest.param({"after": {"id": f"false_{ANA}_A"}, "before": None}, ANA, id="revoke"),
        pytest.param({"after": {"id": "A", "remoteJid": "5511988887777@s.whatsapp.net"}}, ANA, id="revoke of WPP"),
        pytest.param({"after": {"from": ANA}}, ANA, id="revoke without an id"),
        pytest.param({"poll": {"id": f"true_{ANA}_P"}, "vote": {"id": f"false_{GROUP}_V"}}, ANA, id="vote: its poll"),
        pytest.param({"poll": {"id": "P", "from": "me"}, "vote": {"id": f"false_{ANA}_V"}}, ANA, id="poll unknown"),
        pytest.param({"group": {"id": GROUP}}, GROUP, id="group event"),
        pytest.param({"id": "6", "chatId": ANA}, ANA, id="label of a chat"),
        pytest.param({"id": ANA, "presences": []}, ANA, id="presence"),
        pytest.param({"id": "CALL1", "from": ANA}, ANA, id="call"),
        pytest.param({"id": "CALL1"}, "", id="group call without from"),
        pytest.param({"id": "6", "name": "x"}, "", id="label"),
        pytest.param({}, "", id="nothing"),
        pytest.param({"id": 5, "from": [ANA], "chatId": {}, "after": 1, "group": [ANA]}, "", id="wrong types"),
        pytest.param({"chatId": "x@" + "y" * 1000}, ("x@" + "y" * 1000)[:200], id="cut to what a key can take"),
    ],
)
def test_chat_of_an_event(payload: dict[str, Any], chat: str) -> None:
    raw = json.dumps({"event": "whatever", "session": "s", "payload": payload}).encode()
    assert read_envelope(raw).chat == chat


def test_envelope_of_a_whole_event() -> None:
    raw = body(f'{{"id":"false_{ANA}_A"}}', more=',"id":"evt_1","timestamp":1784973602750')
    envelope = read_envelope(raw)
    assert envelope == Envelope("message", "evt_1", "default", "NOWEB", ANA, MESSAGE)


@pytest.mark.parametrize("value", [None, 1, [], {}, True], ids=repr)
def test_what_is_optional_reads_as_empty(value: Any) -> None:
    raw = json.dumps({"event": "new.event", "session": "s", "id": value, "engine": value, "payload": value}).encode()
    assert read_envelope(raw) == Envelope("new.event", "", "s", "", "", OTHER)


# ---------------------------------------------------------------- headers
@pytest.mark.parametrize(
    ("text", "header"),
    [
        pytest.param("message.any", b"message.any", id="plain"),
        pytest.param("", b"", id="empty"),
        pytest.param("héllo", rb"h\xe9llo", id="latin"),
        pytest.param("日", rb"\u65e5", id="beyond latin"),
        pytest.param("😀", rb"\U0001f600", id="beyond the first plane"),
        pytest.param("\ud83d", rb"\ud83d", id="lone surrogate"),
        pytest.param("x" * 1000, b"x" * 200, id="cut"),
    ],
)
def test_headers_are_short_ascii(text: str, header: bytes) -> None:
    assert to_header(text) == header


def test_webhook_without_anything_is_legal() -> None:
    assert parse_body(b"{}") == Webhook()
