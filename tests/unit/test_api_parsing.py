"""Chats as people write them, and cursors: what goes in comes out, what was tampered with is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api import cursor
from pipeline.api.chats import parse_chat

TIMES = st.datetimes(timezones=st.just(UTC))
POSITIONS = st.builds(cursor.Position, TIMES, TIMES, st.uuids(), st.integers(0, 2**31 - 1))
PLACE = cursor.Position(datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 22, 1, tzinfo=UTC), UUID(int=7), 7)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("4915123456789@c.us", "4915123456789@c.us"),
        ("4915123456789@s.whatsapp.net", "4915123456789@c.us"),
        ("4915123456789:12@s.whatsapp.net", "4915123456789@c.us"),
        ("+4915123456789@s.whatsapp.net", "4915123456789@c.us"),
        ("4915123456789", "4915123456789@c.us"),
        ("+49 151 23456789", "4915123456789@c.us"),
        (" 49-151-2345-6789 ", "4915123456789@c.us"),
        ("+1 (555) 010.9999", "15550109999@c.us"),
        ("120363012345678901@g.us", "120363012345678901@g.us"),
        ("4915123456789-1612345678@g.us", "4915123456789-1612345678@g.us"),
        ("98765432109876@lid", "98765432109876@lid"),
        ("status@broadcast", "status@broadcast"),
        ("1612345678@broadcast", "1612345678@broadcast"),
        ("120363012345678901@newsletter", "120363012345678901@newsletter"),
    ],
)
def test_a_chat_is_read_in_every_form(written: str, stored: str) -> None:
    assert parse_chat(written) == stored


@pytest.mark.parametrize(
    "written",
    ["", " ", "maria", "12", "@c.us", "maria@c.us", "+49 151@", "4915123456789@", "a@b@c",
     "4915\x003456@c.us", "491512 3456@g.us", "٤٩١٥١٢٣٤٥٦٧٨٩", "1" * 300 + "@c.us"],
)  # fmt: skip
def test_what_is_no_chat_is_refused_with_the_way_to_write_one(written: str) -> None:
    with pytest.raises(ValueError, match="phone number with its country code"):
        parse_chat(written)


@given(POSITIONS)
def test_a_position_survives_its_cursor(position: cursor.Position) -> None:
    text = cursor.encode_position(position, "messages", "default", "1@c.us")
    assert text.isascii()
    assert not set(text) & set("+/=%?&#")
    assert cursor.decode_position(text, "messages", "default", "1@c.us") == position


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=256), st.text(max_size=20))
def test_a_name_survives_its_cursor(name: str, session: str) -> None:
    assert cursor.decode_text(cursor.encode_text(name, "contacts", session), "contacts", session) == name


@pytest.mark.parametrize("place", [b"\xff", b"a\0b", b"\xed\xa0\x80"])
def test_a_forged_name_that_no_database_holds_is_refused(place: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a cursor|decode"):
        cursor.decode_text(cursor.encode(place, "sessions"), "sessions")


@given(POSITIONS, st.data())
def test_a_changed_character_is_noticed(position: cursor.Position, data: st.DataObject) -> None:
    text = cursor.encode_position(position, "messages")
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != text[at]))
    with pytest.raises(ValueError, match="not a"):
        cursor.decode_position(text[:at] + other + text[at + 1 :], "messages")


@given(st.text(max_size=80))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        cursor.decode_position(text, "messages", "default", "1@c.us")


def test_a_cursor_belongs_to_its_list() -> None:
    text = cursor.encode_position(PLACE, "messages", "default", "1@c.us")
    for scope in (
        ("messages", "default", "2@c.us"),
        ("messages", "other", "1@c.us"),
        ("contacts", "default"),
    ):
        with pytest.raises(ValueError, match="not a cursor of this list"):
            cursor.decode_position(text, *scope)


def test_a_cursor_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not a cursor of messages"):
        cursor.decode_position(cursor.encode(b"short", "x"), "x")
    with pytest.raises(ValueError, match="not a time"):
        cursor.decode_position(cursor.encode(b"\x7f" + b"\xff" * 31 + bytes(4), "x"), "x")


@given(TIMES, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=256), st.integers(0, 2**31 - 1))
def test_values_survive_their_cursor(at: datetime, name: str, number: int) -> None:
    text = cursor.encode_values([cursor.to_us(at), name, number], "calls")
    assert cursor.decode_values(text, (datetime, str, int), "calls") == [at, name, number]


@pytest.mark.parametrize(
    "forged", [b"{", b"5", b"[1,2]", b'["x","x",1]', b'[1,"a\\u0000",1]', b'[1,"x",-1]', b'[1,"x",2147483648]',
               b'[9e18,"x",1]', b'[9000000000000000000,"x",1]', b'[1,"x",1.5]', b"\xff"],
)  # fmt: skip
def test_values_of_other_types_are_refused(forged: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        cursor.decode_values(cursor.encode(forged, "calls"), (datetime, str, int), "calls")


def test_padding_and_line_breaks_are_not_part_of_a_cursor() -> None:
    text = cursor.encode_position(PLACE, "x")
    for changed in (text + "=", text + "\n", " " + text, text + "A", text[:-1]):
        with pytest.raises(ValueError, match="not a"):
            cursor.decode_position(changed, "x")
