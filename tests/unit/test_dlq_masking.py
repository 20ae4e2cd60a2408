"""Masked payloads: no text and no number of anybody, whatever the body looks like; the shape of the event stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dlq.describe import describe_payload
from pipeline.dlq.masking import mask_detail, mask_digits, mask_json, mask_slug
from tests.site import fixture_lines

PHONE = "4915112345678"


def test_the_shape_stays_and_the_person_goes() -> None:
    event = {
        "event": "message", "session": "default", "engine": "NOWEB", "timestamp": 1795317142109,
        "me": {"id": f"{PHONE}@c.us", "pushName": "Ana"},
        "payload": {
            "id": f"false_{PHONE}@c.us_3EB0A1", "timestamp": 1795317142, "from": f"{PHONE}@c.us", "body": "hello Ana",
            "fromMe": False, "location": {"latitude": 52.51}, "number": int(PHONE), "vCards": ["BEGIN:VCARD"],
            "_data": {f"{PHONE}@c.us": 3}, "media": {"mimetype": "image/jpeg", "filename": "ana.jpg"}, "empty": "",
        },
    }  # fmt: skip
    assert mask_json(event) == {
        "event": "message", "session": "default", "engine": "NOWEB", "timestamp": 1795317142109,
        "me": {"id": "•••78@c.us", "pushName": "‹text of 3›"},
        "payload": {
            "id": "false_•••78@c.us_3EB0A1", "timestamp": 1795317142, "from": "•••78@c.us", "body": "‹text of 9›",
            "fromMe": False, "location": {"latitude": "‹number›"}, "number": "‹number›", "vCards": ["‹text of 11›"],
            "_data": {"‹name 0›": 3}, "media": {"mimetype": "image/jpeg", "filename": "‹text of 7›"}, "empty": "",
        },
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(f"tell {PHONE} the secret word"),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(
        st.sampled_from(["id", "event", "body", "key", "from", "timestamp", "session", PHONE, "the secret word"]), inner
    ),
    max_leaves=60,
)  # fmt: skip


@given(JSON)
def test_neither_texts_nor_numbers_come_through(value: object) -> None:
    shown = json.dumps(mask_json(value))
    assert "secret word" not in shown
    assert PHONE not in shown


def test_recordings_show_none_of_their_texts() -> None:
    for line in fixture_lines("waha_observed"):
        body = json.loads(line["body"])
        shown = json.dumps(describe_payload(line["body"].encode()), ensure_ascii=False)
        payload = body.get("payload") if isinstance(body.get("payload"), dict) else {}
        for text in (payload.get("body"), (body.get("me") or {}).get("pushName")):
            if isinstance(text, str) and len(text) > 3:
                assert text not in shown
        chat = str(payload.get("from") or "")
        digits = chat.partition("@")[0]
        if len(digits) > 6 and digits.isdigit():
            assert digits not in shown
        assert f'"event": "{body["event"]}"' in shown


def test_long_and_deep_values_are_cut() -> None:
    assert mask_json(list(range(25)))[-1] == "‹5 more›"
    assert mask_json({f"k{n}": n for n in range(120)})["…"] == "‹20 more›"
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    assert "‹list of 1›" in json.dumps(mask_json(deep), ensure_ascii=False)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("22P02 invalid input syntax for type bigint: \"4915112345678\"", "22P02 invalid input syntax for type bigint: ‹…›"),
        ("DataError: invalid input for query argument $3: 'it''s \"hers\"' (expected str)",
         "DataError: invalid input for query argument $3: ‹…› (expected str)"),
        ("23505 duplicate key\nDETAIL:  Key (jid)=(4915112345678@c.us) already exists.", "23505 duplicate key"),
        ("call +49 151 234-5678 now", "call ••• now"),
        ("54000 index row requires 8200 bytes", "54000 index row requires 8200 bytes"),
        ("", ""),
    ],
)  # fmt: skip
def test_complaints_do_not_quote_values(said: str, shown: str) -> None:
    assert mask_detail(said) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("message.any", "message.any"),
        ("", ""),
        ("hello Ana", "‹text of 9›"),
        (PHONE, "•••78"),
        ("x" * 200, "‹text of 200›"),
    ],
)
def test_names_that_a_sender_may_have_chosen(name: str, shown: str) -> None:
    assert mask_slug(name) == shown


def test_short_numbers_stay() -> None:
    assert mask_digits("waha.message/3/1042 12345") == "waha.message/3/1042 •••45"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"{", {"unreadable": "not_json", "not_json": "breaks at character 1"}),
        (b"", {"unreadable": "not_json", "not_json": "breaks at character 0"}),
        (b"[1]", {"unreadable": "not_an_object", "json": [1]}),
        (b'{"event":"message"}', {"unreadable": "no_session", "json": {"event": "message"}}),
        (
            b'{"event":"message","session":"\\ud83d","n":NaN}',
            {"json": {"event": "message", "session": "‹text of 1›", "n": "‹text of 3›"}},
        ),
        (b'{"event":"message","session":"s"}', {"json": {"event": "message", "session": "s"}}),
    ],
)
def test_a_body_is_decoded_as_far_as_possible(value: bytes, found: dict[str, object]) -> None:
    assert describe_payload(value) == found


def test_what_is_no_json_is_shown_when_asked() -> None:
    found = describe_payload(b'{"a": \xff secret', masked=False)
    assert found["text"] == '{"a": \\xff secret'
    assert "secret" not in str(describe_payload(b'{"a": \xff secret'))


def test_a_body_nested_too_deeply_is_no_json() -> None:
    assert describe_payload(b"[" * 100_000)["unreadable"] == "not_json"
    assert "not_json" in describe_payload(b"[" * 100_000 + b"]" * 100_000)
