"""Ids: jids, WAHA's serialized message ids, chats as people write them, the key of a message."""

from __future__ import annotations

import pytest

from schemas.ids import (
    MAX_JID_CHARS,
    MessageId,
    is_group_like,
    normalize_jid,
    parse_message_id,
    qualify_session,
    raw_message_id,
    to_chat,
)

ANA = "5511988887777@c.us"
LID = "123456789012345@lid"
GROUP = "120363040000000001@g.us"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("5511988887777@s.whatsapp.net", ANA, id="the protocol's own host"),
        pytest.param("5511988887777:12@s.whatsapp.net", ANA, id="with a device"),
        pytest.param("5511988887777:12@c.us", ANA, id="device on c.us"),
        pytest.param("123456789012345:3@lid", LID, id="device on lid"),
        pytest.param(ANA, ANA, id="already normal"),
        pytest.param(LID, LID, id="lid"),
        pytest.param(GROUP, GROUP, id="group"),
        pytest.param("4915112345678-1600000000@g.us", "4915112345678-1600000000@g.us", id="old group"),
        pytest.param("120363111111111111@newsletter", "120363111111111111@newsletter", id="channel"),
        pytest.param("status@broadcast", "status@broadcast", id="status"),
        pytest.param("a:b@c.us", "a:b@c.us", id="a colon that is no device"),
        pytest.param("", "", id="empty"),
    ],
)
def test_normalize_jid(given: str, expected: str) -> None:
    assert normalize_jid(given) == expected
    assert normalize_jid(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"false_{ANA}_3EB0A1", MessageId(False, ANA, "3EB0A1", None), id="direct, in"),
        pytest.param(f"true_{ANA}_3EB0A1", MessageId(True, ANA, "3EB0A1", None), id="direct, out"),
        pytest.param(f"false_{GROUP}_3EB0A1_{LID}", MessageId(False, GROUP, "3EB0A1", LID), id="group"),
        pytest.param(
            "false_status@broadcast_AC1_5511988887777:7@s.whatsapp.net",
            MessageId(False, "status@broadcast", "AC1", ANA),
            id="status, participant with device",
        ),
        pytest.param(
            "false_5511988887777:2@s.whatsapp.net_aBc",
            MessageId(False, ANA, "aBc", None),
            id="chat with device; raw ids keep their case",
        ),
        pytest.param(f"true_{GROUP}_3EB0A1", MessageId(True, GROUP, "3EB0A1", None), id="WEBJS send response"),
        pytest.param(f"false_{ANA}_A_1", MessageId(False, ANA, "A_1", None), id="underscore in the raw id"),
        pytest.param(f"false_{GROUP}_A_1_{LID}", MessageId(False, GROUP, "A_1", LID), id="and with a participant"),
        pytest.param(f"false_{ANA}_A_", MessageId(False, ANA, "A_", None), id="underscore at the end"),
    ],
)
def test_parse_message_id(text: str, expected: MessageId) -> None:
    assert parse_message_id(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("3EB0A1", id="raw id"),
        pytest.param("_", id="underscore"),
        pytest.param("true", id="direction alone"),
        pytest.param("true_", id="no chat"),
        pytest.param(f"true_{ANA}", id="no raw id"),
        pytest.param(f"true_{ANA}_", id="empty raw id"),
        pytest.param(f"false_{GROUP}__{LID}", id="empty raw id before a participant"),
        pytest.param("true_5511988887777_3EB0A1", id="chat without host"),
        pytest.param(f"True_{ANA}_3EB0A1", id="direction in capitals"),
        pytest.param(f"1_{ANA}_3EB0A1", id="direction as a number"),
        pytest.param(f" true_{ANA}_3EB0A1", id="leading space"),
    ],
)
def test_what_is_no_serialized_id(text: str) -> None:
    assert parse_message_id(text) is None
    assert raw_message_id(text) == text


def test_different_raw_ids_stay_different() -> None:
    """Cutting at every underscore would make one message of these two, and lose the second."""
    first, second = parse_message_id(f"false_{ANA}_X_1"), parse_message_id(f"false_{ANA}_X_2")
    assert first is not None
    assert second is not None
    assert first.raw != second.raw


def test_raw_message_id_of_both_spellings() -> None:
    assert raw_message_id(f"false_{GROUP}_3EB0A1_{LID}") == raw_message_id("3EB0A1") == "3EB0A1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(ANA, ANA, id="as stored"),
        pytest.param("5511988887777@s.whatsapp.net", ANA, id="the protocol's own host"),
        pytest.param("5511988887777", ANA, id="bare number"),
        pytest.param("+55 (11) 98888-7777", ANA, id="as printed on a card"),
        pytest.param(" 5511988887777 ", ANA, id="spaces around"),
        pytest.param("5511988887777:3@s.whatsapp.net", ANA, id="with device"),
        pytest.param(GROUP, GROUP, id="group"),
        pytest.param(LID, LID, id="lid"),
        pytest.param("status@broadcast", "status@broadcast", id="status"),
        pytest.param("", None, id="empty"),
        pytest.param("ana", None, id="a name"),
        pytest.param("1234", None, id="too short for a number"),
        pytest.param("1" * 26, None, id="too long for a number"),
        pytest.param("-----", None, id="no digit"),
        pytest.param("@c.us", None, id="nobody"),
        pytest.param("5511@", None, id="nowhere"),
        pytest.param("1" * MAX_JID_CHARS + "@c.us", None, id="longer than an index can take"),
    ],
)
def test_to_chat(text: str, expected: str | None) -> None:
    assert to_chat(text) == expected


@pytest.mark.parametrize(
    ("chat", "expected"),
    [(GROUP, True), ("status@broadcast", True), ("77@broadcast", True), (ANA, False), (LID, False),
     ("120363111111111111@newsletter", False)],
)  # fmt: skip
def test_where_the_sender_belongs_to_the_key(chat: str, expected: bool) -> None:
    assert is_group_like(chat) is expected


def test_session_names_of_several_servers() -> None:
    assert qualify_session("default", "acme") == "acme"
    assert qualify_session("berlin", "acme") == "berlin:acme"
