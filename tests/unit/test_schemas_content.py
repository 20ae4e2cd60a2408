"""One message into one fact: who is who by engine, what it shows, how rich it is."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS
from schemas.normalize.message import to_content
from schemas.webhook import parse_body
from tests.unit.contents import ANA, AT_MS, AT_S, GROUP, LID, ME, RECEIVED_AT_MS, content, envelope, message, noweb


# ---------------------------------------------------------------- who is who
@pytest.mark.parametrize(
    ("engine", "payload", "chat", "sender"),
    [
        pytest.param("WEBJS", {"id": f"false_{ANA}_A", "from": ANA, "to": ME}, ANA, ANA, id="WEBJS direct in"),
        pytest.param("WPP", {"id": f"true_{ANA}_A", "from": ME, "to": ANA}, ANA, ME, id="WPP direct out"),
        pytest.param("NOWEB", {"id": f"false_{ANA}_A", "from": ANA}, ANA, ANA, id="NOWEB direct in"),
        pytest.param("NOWEB", {"id": f"true_{ANA}_A", "fromMe": True, "from": ANA}, ANA, ME, id="NOWEB direct out"),
        pytest.param(
            "GOWS", {"id": f"true_{ANA}_A", "from": ANA, "to": None, "participant": None}, ANA, ME, id="GOWS direct out"
        ),
        pytest.param(
            "WEBJS", {"id": f"false_{GROUP}_A_{LID}", "from": GROUP, "to": ME, "participant": LID}, GROUP, LID,
            id="WEBJS group in",
        ),
        pytest.param(
            "NOWEB", {"id": f"false_{GROUP}_A_{LID}", "from": GROUP, "to": GROUP, "participant": LID}, GROUP, LID,
            id="NOWEB group in",
        ),
        pytest.param(
            "GOWS", {"id": f"false_{GROUP}_A_{LID}", "from": GROUP, "to": LID, "participant": LID}, GROUP, LID,
            id="GOWS group in",
        ),
        pytest.param(
            "NOWEB", {"id": f"true_{GROUP}_A_{ME}", "from": GROUP, "to": GROUP, "participant": ME}, GROUP, ME,
            id="NOWEB group out",
        ),
        pytest.param("WEBJS", {"id": f"true_{GROUP}_A_{ME}", "from": ME, "to": GROUP}, GROUP, ME, id="WEBJS group out"),
        pytest.param("WEBJS", {"id": f"false_{GROUP}_A_{LID}"}, GROUP, LID, id="participant from the id alone"),
        pytest.param("NOWEB", {"id": "false_120363111111111111@newsletter_A"}, *["120363111111111111@newsletter"] * 2,
                     id="channel"),
    ],
)  # fmt: skip
def test_chat_and_sender(engine: str, payload: dict[str, Any], chat: str, sender: str) -> None:
    fact = content(payload, engine=engine)
    assert (fact.chat, fact.sender, fact.from_me) == (chat, sender, payload["id"].startswith("true"))


@pytest.mark.parametrize(
    ("engine", "payload", "chat"),
    [
        pytest.param("NOWEB", {"id": "A1", "fromMe": True, "from": ANA}, ANA, id="NOWEB names the chat in from"),
        pytest.param("GOWS", {"id": "A1", "from": ANA, "to": None}, ANA, id="GOWS too"),
        pytest.param("WEBJS", {"id": "A1", "fromMe": True, "from": ME, "to": ANA}, ANA, id="WEBJS out: to"),
        pytest.param("WEBJS", {"id": "A1", "fromMe": False, "from": ANA, "to": ME}, ANA, id="WEBJS in: from"),
    ],
)
def test_a_raw_id_is_completed_from_the_other_fields(engine: str, payload: dict[str, Any], chat: str) -> None:
    fact = content(payload, engine=engine)
    assert (fact.chat, fact.raw_id, fact.from_me) == (chat, "A1", payload.get("fromMe", False))


def test_the_sender_is_part_of_the_key_where_members_choose_ids() -> None:
    """A member of a group who reuses another's raw id must not be able to hide that message."""
    ana, eve = (content(message(id=f"false_{GROUP}_A1_{who}", participant=who)) for who in (ANA, LID))
    assert ana.raw_id == eve.raw_id
    assert (ana.key_sender, eve.key_sender) == (ANA, LID)


@pytest.mark.parametrize(
    "payload",
    [{"id": f"false_{ANA}_A1"}, {"id": f"true_{ANA}_A1"}, {"id": f"true_{GROUP}_A1_{ME}", "participant": ME}],
    ids=["direct in", "direct out", "group out"],
)
def test_elsewhere_chat_and_direction_say_who_it_is(payload: dict[str, Any]) -> None:
    assert content(payload).key_sender == ""


def test_an_own_message_before_pairing_has_no_sender() -> None:
    assert content({"id": f"true_{ANA}_A1"}, me=None).sender is None


def test_an_own_group_message_before_pairing_has_its_participant() -> None:
    assert content({"id": f"true_{GROUP}_A1_{LID}"}, me=None).sender == LID


def test_device_parts_and_hosts_are_normalised_everywhere() -> None:
    odd = "5511988887777:12@s.whatsapp.net"
    fact = content(message(id=f"false_{GROUP}_A1_{odd}", participant=odd))
    assert (fact.sender, fact.participant, fact.key_sender) == (ANA, ANA, ANA)
    own = content({"id": f"true_{odd}_A1"}, me={"id": "4915112345678:3@s.whatsapp.net"})
    assert (own.chat, own.sender) == (ANA, ME)


# ---------------------------------------------------------------- when
@pytest.mark.parametrize(
    ("payload_time", "envelope_time", "expected"),
    [
        pytest.param(AT_S, 5, AT_MS, id="the message's own time, in seconds"),
        pytest.param(AT_MS, 5, AT_MS, id="in milliseconds"),
        pytest.param(None, AT_MS, AT_MS, id="null: the envelope's (GOWS without a time)"),
        pytest.param(0, AT_MS, AT_MS, id="zero: the envelope's"),
        pytest.param(-5, AT_MS, AT_MS, id="negative: the envelope's"),
        pytest.param(10**30, AT_MS, AT_MS, id="absurd: the envelope's"),
        pytest.param("x", None, RECEIVED_AT_MS, id="neither: when it was received (before 2025-02)"),
        pytest.param({"low": 1}, [AT_MS], RECEIVED_AT_MS, id="wrong types"),
    ],
)
def test_time(payload_time: Any, envelope_time: Any, expected: int) -> None:
    assert content(message(timestamp=payload_time), timestamp=envelope_time).ts_ms == expected


# ---------------------------------------------------------------- what it shows
WRAPPERS = [
    "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
    "documentWithCaptionMessage", "associatedChildMessage", "deviceSentMessage",
]  # fmt: skip


@pytest.mark.parametrize(
    ("proto", "kind"),
    [
        ("conversation", "text"), ("extendedTextMessage", "text"), ("imageMessage", "image"), ("videoMessage", "video"),
        ("ptvMessage", "video_note"), ("audioMessage", "audio"), ("documentMessage", "document"),
        ("stickerMessage", "sticker"), ("lottieStickerMessage", "sticker"), ("locationMessage", "location"),
        ("liveLocationMessage", "live_location"), ("contactMessage", "contact"), ("contactsArrayMessage", "contact"),
        ("pollCreationMessage", "poll"), ("pollCreationMessageV3", "poll"), ("eventMessage", "event"),
        ("albumMessage", "album"), ("somethingNewMessage", "unknown"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["message", "Message"], ids=["NOWEB", "GOWS"])
def test_type_from_whatsapps_message_object(proto: str, kind: str, key: str) -> None:
    assert content(message(_data={key: {"messageContextInfo": {}, proto: {}}})).type == kind


@pytest.mark.parametrize(
    ("web", "kind"),
    [
        ("chat", "text"), ("image", "image"), ("ptv", "video_note"), ("audio", "audio"), ("ptt", "voice"),
        ("document", "document"), ("sticker", "sticker"), ("location", "location"), ("vcard", "contact"),
        ("multi_vcard", "contact"), ("poll_creation", "poll"), ("album", "album"), ("ciphertext", "waiting"),
        ("e2e_notification", "system"), ("gp2", "system"), ("something_new", "unknown"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ["WEBJS", "WPP"])
def test_type_from_whatsapp_web(web: str, kind: str, engine: str) -> None:
    assert content(message(_data={"type": web}), engine=engine).type == kind


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        pytest.param({"body": "hi"}, "text", id="text"),
        pytest.param({"body": ""}, "unknown", id="nothing"),
        pytest.param({"hasMedia": True, "media": {"mimetype": "image/png"}}, "image", id="image"),
        pytest.param({"hasMedia": True, "media": {"mimetype": "audio/ogg; codecs=opus"}}, "audio", id="audio"),
        pytest.param({"hasMedia": True, "media": {"mimetype": "application/pdf"}}, "document", id="any other file"),
        pytest.param({"hasMedia": True, "media": None}, "document", id="media not described"),
        pytest.param({"hasMedia": "yes", "body": "x"}, "text", id="hasMedia of a wrong type"),
        pytest.param({"media": {"mimetype": "video/mp4"}}, "video", id="media without hasMedia"),
        pytest.param({"location": {"latitude": 1, "longitude": 2}}, "location", id="location"),
        pytest.param({"location": {"live": True}}, "live_location", id="live location"),
        pytest.param({"vCards": ["BEGIN:VCARD"]}, "contact", id="contact"),
        pytest.param({"vCards": [], "body": "x"}, "text", id="WEBJS has [] when there is none"),
    ],
)
def test_type_without_an_engines_message(fields: dict[str, Any], kind: str) -> None:
    """`_data` is not stable: the common body must do."""
    assert content(message(**fields)).type == kind


@pytest.mark.parametrize(("seen", "kind"), [({"ptt": True}, "voice"), ({"PTT": True}, "voice"), ({"ptt": 1}, "audio")])
def test_voice_is_an_audio_that_says_so(seen: dict[str, Any], kind: str) -> None:
    assert content(message(hasMedia=True, _data=noweb(audioMessage=seen))).type == kind


def test_media_under_a_caption_is_media() -> None:
    fact = content(message(body="cap", hasMedia=True, media={"mimetype": "image/png"}, _data=noweb(conversation="cap")))
    assert (fact.type, fact.body) == ("image", "cap")


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("inner", ["message", "Message"], ids=["NOWEB", "GOWS"])
def test_wrappers_are_opened(wrapper: str, inner: str) -> None:
    assert content(message(_data=noweb(**{wrapper: {inner: {"imageMessage": {}}}}))).type == "image"


def test_wrappers_around_wrappers() -> None:
    proto: dict[str, Any] = {"pollCreationMessageV3": {"name": "Lunch?"}}
    for wrapper in WRAPPERS[:4]:
        proto = {wrapper: {"message": proto}}
    assert content(message(_data=noweb(**proto))).type == "poll"


@pytest.mark.parametrize(("first", "second"), list(permutations(WRAPPERS, 2)))
def test_of_two_wrappers_the_first_counts(first: str, second: str) -> None:
    """In every process alike: a set's order would differ from one Python to the next."""
    proto: dict[str, Any] = {first: {"message": {"imageMessage": {}}}, second: {"message": {"videoMessage": {}}}}
    assert content(message(_data=noweb(**proto))).type == "image"


@pytest.mark.parametrize("inner", [None, 1, "x", [], {"message": None}, {"message": []}], ids=repr)
def test_wrappers_around_nothing(inner: Any) -> None:
    assert content(message(_data=noweb(ephemeralMessage=inner), body="hi")).type == "text"


@pytest.mark.parametrize("key", ["pollCreationMessage", "audioMessage", "ephemeralMessage"])
def test_broken_bytes_inside_the_engines_message_are_nothing(key: str) -> None:
    """The fast decoder does not check UTF-8 where it skips; what was skipped is read later."""
    raw = json.dumps(envelope(message(body="hi", _data=noweb(**{key: {"name": "X", "message": {"y": "X"}}})))).encode()
    fact = to_content(parse_body(raw.replace(b"X", b"\xff")), "default", RECEIVED_AT_MS)
    assert (fact.body, fact.extra) == ("hi", None)


@pytest.mark.parametrize("engine", ["WEBJS", "WPP"])
@pytest.mark.parametrize("kind", ["location", "vcard"])
def test_thumbnails_and_cards_are_no_text(engine: str, kind: str) -> None:
    assert content(message(body="/9j/4AAQ", _data={"type": kind}), engine=engine).body is None


@pytest.mark.parametrize("engine", ["NOWEB", "GOWS"])
def test_the_other_engines_put_text_there(engine: str) -> None:
    assert content(message(body="here", location={"latitude": 1, "longitude": 2}), engine=engine).body == "here"


# ---------------------------------------------------------------- refused
LONG = "1" * MAX_JID_CHARS + "@c.us"


@pytest.mark.parametrize(
    ("payload", "over", "reason"),
    [
        pytest.param(None, {}, "payload_missing", id="no payload"),
        pytest.param([], {}, "payload_missing", id="payload of a wrong type"),
        pytest.param({}, {}, "message_id_missing", id="no id"),
        pytest.param({"id": ""}, {}, "message_id_missing", id="empty id"),
        pytest.param({"id": 5}, {}, "message_id_missing", id="id of a wrong type"),
        pytest.param({"id": {"_serialized": f"false_{ANA}_A"}}, {}, "message_id_missing", id="raw WEBJS id"),
        pytest.param({"id": "A1"}, {}, "chat_missing", id="raw id, no chat"),
        pytest.param({"id": "A1", "from": "me"}, {}, "chat_missing", id="raw id, chat without host"),
        pytest.param({"id": f"false_{LONG}_A1"}, {}, "jid_too_long", id="chat beyond an index"),
        pytest.param({"id": f"false_{GROUP}_A1_{LONG}"}, {}, "jid_too_long", id="participant in the id"),
        pytest.param({"id": f"false_{GROUP}_A1_{LID}", "participant": LONG}, {}, "jid_too_long", id="participant"),
        pytest.param({"id": f"true_{ANA}_A1"}, {"me": {"id": LONG}}, "jid_too_long", id="me"),
        pytest.param({"id": f"false_{ANA}_" + "A" * 4097}, {}, "message_id_too_long", id="raw id"),
        pytest.param({"id": f"false_{ANA}_A1"}, {"session": "s" * 257}, "session_too_long", id="session"),
        pytest.param({"id": f"false_{ANA}_A1"}, {"session": None}, "session_missing", id="no session"),
    ],
)
def test_what_cannot_be_told_from_other_messages(payload: Any, over: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedError) as caught:
        content(payload, **over)
    assert caught.value.reason == reason
    assert caught.value.field
