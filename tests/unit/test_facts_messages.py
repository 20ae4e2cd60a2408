"""Content with what only `_data` tells, side facts of a message, and acts that come as messages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from producers.simulator.files import sound_of
from producers.simulator.rest import Past, SimulatedWaha
from schemas.facts import AckFact, EditFact, IdentityFact, NameFact, RankedContent, ReactionFact, RevokeFact, VoteFact
from schemas.normalize.head import Record
from schemas.normalize.messages import to_messages
from tests.unit.told import ANA, ANA_LID, AT, BOB, GROUP, HOUR, MY_NUMBER, RECEIVED, jid, one, tell

SHA = bytes(range(32))


def noweb(message: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A payload of NOWEB around WhatsApp's message object."""
    data = {"key": {"remoteJid": jid(ANA), "id": "A1"}, "message": message} | changes.pop("data", {})
    return {"id": f"false_{ANA}_A1", "timestamp": AT // 1000, "from": ANA, "_data": data} | changes


def gows(message: dict[str, Any], info: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    data = {"Info": {"Chat": jid(ANA), "Sender": jid(ANA), "SenderAlt": ""} | (info or {}), "Message": message}
    return {
        "id": f"false_{ANA}_A1",
        "timestamp": AT // 1000,
        "from": ANA,
        "_data": data | changes.pop("data", {}),
    } | changes


def web(**data: Any) -> dict[str, Any]:
    """A payload of WEBJS or WPP around flat `_data`."""
    return {
        "id": f"false_{ANA}_A1",
        "timestamp": AT // 1000,
        "from": ANA,
        "body": "hi",
        "_data": {"type": "chat"} | data,
    }


def extra(payload: dict[str, Any], engine: str) -> dict[str, Any]:
    found = one(RankedContent, "message", payload, engine).content.extra
    assert found is not None
    decoded: dict[str, Any] = json.loads(found)
    return decoded


def text(context: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"extendedTextMessage": {"text": "hi", "contextInfo": context} | more}


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb(text({"isForwarded": True, "forwardingScore": 5, "mentionedJid": [jid(BOB)], "expiration": 604800})), "NOWEB"),
        (gows(text({"isForwarded": True, "forwardingScore": 5, "mentionedJID": [jid(BOB)], "expiration": 604800})), "GOWS"),
        (web(isForwarded=True, forwardingScore=5, mentionedJidList=[BOB], ephemeralDuration=604800), "WEBJS"),
        (web(isForwarded=True, forwardingScore=5, mentionedJidList=[{"_serialized": BOB}], ephemeralDuration=604800), "WPP"),
    ],
)  # fmt: skip
def test_forwarding_mentions_and_expiry(payload: dict[str, Any], engine: str) -> None:
    assert extra(payload, engine) == {"forwarded": True, "forward_score": 5, "mentions": [BOB], "expires_s": 604800}


BUFFER = {"type": "Buffer", "data": list(SHA)}
BASE64 = base64.b64encode(SHA).decode()
IMAGE = {"width": 1200, "height": 1600}
LONG = {"low": 183422, "high": 0}
ONCE = {"viewOnceMessage": {"message": {"imageMessage": {"viewOnce": True}}}}


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb({"imageMessage": IMAGE | {"fileLength": "183422", "seconds": 3, "fileSha256": BUFFER}}), "NOWEB"),
        (noweb({"imageMessage": IMAGE | {"fileLength": LONG, "seconds": 3, "fileSha256": BUFFER}}), "NOWEB"),
        (gows({"imageMessage": IMAGE | {"fileLength": 183422, "seconds": 3, "fileSHA256": BASE64}}), "GOWS"),
        (web(type="image", size=183422, duration="3", filehash=BASE64, **IMAGE), "WEBJS"),
    ],
    ids=["NOWEB text and Buffer", "NOWEB Long", "GOWS", "WEBJS"],
)  # fmt: skip
def test_media_is_measured(payload: dict[str, Any], engine: str) -> None:
    measures = {"bytes": 183422, "width": 1200, "height": 1600, "seconds": 3, "sha256": SHA.hex()}
    assert extra(payload | {"hasMedia": True}, engine) == {"media": measures}


HEIGHTS = [0, 7, 99, 100] * 16
AS_BUFFER = {"type": "Buffer", "data": HEIGHTS}
AS_BASE64 = base64.b64encode(bytes(HEIGHTS)).decode()
BY_INDEX = {str(n): height for n, height in enumerate(HEIGHTS)}


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb({"audioMessage": {"ptt": True, "seconds": 3, "waveform": AS_BUFFER}}), "NOWEB"),
        (noweb({"audioMessage": {"ptt": True, "seconds": 3, "waveform": AS_BASE64}}), "NOWEB"),
        (gows({"audioMessage": {"PTT": True, "seconds": 3, "waveform": AS_BASE64}}), "GOWS"),
        (web(type="ptt", duration="3", waveform=BY_INDEX), "WEBJS"),
        (web(type="ptt", duration=3, waveform=BY_INDEX), "WPP"),
    ],
    ids=["NOWEB Buffer", "NOWEB base64", "GOWS", "WEBJS", "WPP"],
)
def test_a_voice_note_has_its_length_and_its_waveform(payload: dict[str, Any], engine: str) -> None:
    found = one(RankedContent, "message", payload | {"hasMedia": True}, engine).content
    assert found.type == "voice"
    assert json.loads(found.extra or "")["media"] == {"seconds": 3, "waveform": HEIGHTS}


def test_voice_notes_of_the_simulator_have_them_too() -> None:
    engines = set()
    for message, delivery in SimulatedWaha(Past(media=1.0)).webhooks():
        engine = message.account.engine
        if message.content.kind == "voice" and engine != "WPP":
            seconds, heights = sound_of(message.raw_id, "voice")
            facts = to_messages(delivery.body, Record("message.any", "default", RECEIVED))
            [found] = [fact.content for fact in facts if isinstance(fact, RankedContent)]
            media = json.loads(found.extra or "")["media"]
            assert (media["seconds"], media["waveform"]) == (seconds, list(heights))
            engines.add(engine)
    assert engines == {"NOWEB", "GOWS", "WEBJS"}


@pytest.mark.parametrize(
    ("waveform", "heights"),
    [
        ({"data": [255] * 300}, [100] * 256),
        ({"data": [256]}, None),
        ({"data": 10**12}, None),
        ({"1": 7}, None),
        ({"0": "x"}, None),
        ("no base64!", None),
        ({}, None),
        ([1, 2], None),
    ],
)
def test_a_waveform_is_bounded_and_an_odd_one_left_out(waveform: Any, heights: list[int] | None) -> None:
    voice = noweb({"audioMessage": {"ptt": True, "seconds": 3, "waveform": waveform}}, hasMedia=True)
    assert extra(voice, "NOWEB")["media"].get("waveform") == heights


def test_measures_that_are_none_are_left_out() -> None:
    odd = {
        "fileLength": {"low": -1, "high": -1},
        "width": -5,
        "height": 1e300,
        "seconds": "x",
        "fileSha256": {"data": 10**12},
    }
    assert one(RankedContent, "message", noweb({"imageMessage": odd}, hasMedia=True)).content.extra is None
    huge = {"fileLength": {"low": -1, "high": 1}}
    assert extra(noweb({"videoMessage": huge}), "NOWEB") == {"media": {"bytes": 2**33 - 1}}


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb({"viewOnceMessageV2": {"message": {"imageMessage": {}}}}), "NOWEB"),
        (noweb({"ephemeralMessage": {"message": ONCE}}), "NOWEB"),
        (noweb({}, data={"key": {"isViewOnce": True}}), "NOWEB"),
        (gows({"imageMessage": {}}, data={"IsViewOnce": True}), "GOWS"),
        (web(type="image", isViewOnce=True), "WEBJS"),
    ],
)  # fmt: skip
def test_view_once(payload: dict[str, Any], engine: str) -> None:
    assert extra(payload, engine) == {"view_once": True}


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb({"extendedTextMessage": {"text": "x", "matchedText": "https://x.y", "title": "T", "description": "D"}}), "NOWEB"),
        (gows({"extendedTextMessage": {"text": "x", "matchedText": "https://x.y", "title": "T", "description": "D"}}), "GOWS"),
        (web(matchedText="https://x.y", title="T", description="D"), "WEBJS"),
    ],
)  # fmt: skip
def test_link_preview(payload: dict[str, Any], engine: str) -> None:
    assert extra(payload | {"body": "x"}, engine) == {"link": {"url": "https://x.y", "title": "T", "description": "D"}}


def test_album_and_its_children() -> None:
    parent = noweb({"albumMessage": {"expectedImageCount": 2, "expectedVideoCount": 1}})
    assert extra(parent, "NOWEB") == {"album": {"images": 2, "videos": 1}}
    link = {"messageAssociation": {"parentMessageKey": {"ID": "PARENT"}}}
    child = gows({"imageMessage": {}, "messageContextInfo": link})
    assert extra(child, "GOWS") == {"album_of": "PARENT"}


def test_polls_and_events_of_web_engines() -> None:
    poll = web(type="poll_creation", pollName="Lunch?", pollOptions=[{"name": "Pizza"}, {"name": "Sushi"}, 7])
    assert extra(poll, "WEBJS") == {"poll": {"name": "Lunch?", "options": ["Pizza", "Sushi"], "selectable": None}}
    event = web(type="event_creation", eventName="Party", eventDescription="d", eventStartTime=AT // 1000)
    assert extra(event, "WEBJS") == {"event": {"name": "Party", "description": "d", "start_ms": AT}}


def test_event_messages_of_noweb_and_gows() -> None:
    party = {"name": "Party", "startTime": str(AT // 1000), "location": {"name": "Bar"}, "isCanceled": True}
    shown = {"name": "Party", "start_ms": AT, "place": "Bar", "canceled": True}
    for payload, engine in ((noweb({"eventMessage": party}), "NOWEB"), (gows({"eventMessage": party}), "GOWS")):
        assert extra(payload, engine) == {"event": shown}
        assert one(RankedContent, "message", payload, engine).content.type == "event"


def test_a_quotation_is_found_without_reply_to() -> None:
    for payload, engine in ((noweb(text({"stanzaId": "Q"})), "NOWEB"), (gows(text({"stanzaID": "Q"})), "GOWS")):
        assert one(RankedContent, "message", payload, engine).content.reply_to == "Q"


def test_details_stand_beside_what_content_has() -> None:
    payload = noweb(text({"isForwarded": True}), replyTo={"id": "Q", "body": "before"})
    assert extra(payload, "NOWEB") == {"quoted": {"text": "before"}, "forwarded": True}


# ---------------------------------------------------------------- side facts
def test_names_and_ids_beside_a_message() -> None:
    key = {"remoteJid": ANA_LID, "remoteJidAlt": jid(ANA), "id": "A1"}
    payload = noweb(
        {"conversation": "hi"},
        id=f"false_{ANA_LID}_A1",
        data={"key": key, "pushName": "Ana", "verifiedBizName": "Ana Ltd"},
    )
    hour = AT - AT % HOUR
    assert one(IdentityFact, "message", payload) == IdentityFact("default", ANA_LID, ANA, True, "message", hour)
    names = [f for f in tell("message", payload) if isinstance(f, NameFact)]
    assert [(n.person, n.source, n.name, n.at_ms) for n in names] == [
        (ANA_LID, "push", "Ana", hour), (ANA_LID, "verified", "Ana Ltd", hour),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "engine"),
    [
        (noweb({"conversation": "x"}, data={"key": {"participant": ANA_LID, "participantAlt": jid(ANA)}}), "NOWEB"),
        (noweb({"conversation": "x"}, data={"key": {"participant": jid(ANA), "participantAlt": ANA_LID}}), "NOWEB"),
        (gows({"conversation": "x"}, {"Sender": ANA_LID, "SenderAlt": jid(ANA)}), "GOWS"),
        (gows({"conversation": "x"}, {"Chat": ANA_LID, "RecipientAlt": "5511988887777:12@s.whatsapp.net"}), "GOWS"),
    ],
    ids=["participantAlt", "participantAlt of a number", "SenderAlt", "RecipientAlt with device"],
)  # fmt: skip
def test_every_place_of_an_identity(payload: dict[str, Any], engine: str) -> None:
    found = one(IdentityFact, "message", payload, engine)
    assert (found.lid, found.phone) == (ANA_LID, ANA)


def test_an_own_message_names_nobody_and_brings_its_ack() -> None:
    payload = noweb({"conversation": "hi"}, id=f"true_{ANA}_A1", fromMe=True, ack=3, data={"pushName": "Acme"})
    facts = tell("message.any", payload)
    assert [type(f) for f in facts] == [RankedContent, AckFact]
    assert one(AckFact, "message.any", payload) == AckFact("default", ANA, "A1", "me", None, 3, None)
    assert one(RankedContent, "message.any", payload).content.sender == MY_NUMBER


def test_acks_of_others_messages_and_absurd_ones_are_no_facts() -> None:
    assert [type(f) for f in tell("message", noweb({"conversation": "hi"}, ack=2))] == [RankedContent]
    own = noweb({"conversation": "hi"}, id=f"true_{ANA}_A1", ack=17)
    assert [type(f) for f in tell("message", own)] == [RankedContent]


def test_a_name_that_would_not_fit_is_cut() -> None:
    payload = noweb({"conversation": "hi"}, data={"pushName": "x" * 5000})
    assert len(one(NameFact, "message", payload).name) == 256
    assert one(RankedContent, "message", payload).content.push_name == "x" * 5000


def test_a_placeholder_and_what_was_never_decrypted() -> None:
    content = one(RankedContent, "message.waiting", web(type="ciphertext") | {"body": ""}, "WEBJS").content
    assert (content.type, content.poverty) == ("waiting", 2)
    assert one(RankedContent, "message.waiting", {"id": f"false_{ANA}_A1"}, "WEBJS").content.type == "waiting"


def test_twins_have_ranks_of_their_own() -> None:
    payload = noweb({"conversation": "hi"})
    ranks = {one(RankedContent, event, payload).rank for event in ("message", "message.any")}
    assert len(ranks) == 2
    assert one(RankedContent, "message", payload).received_at_ms == RECEIVED


# ---------------------------------------------------------------- acts that come as messages
def test_a_hidden_edit() -> None:
    change = {"key": {"id": "T"}, "type": 14, "editedMessage": {"conversation": "new"}, "timestampMs": str(AT + 7)}
    wanted = EditFact("default", ANA, "T", "", "A1", "new", AT + 7, "evt_1", None)
    assert tell("message", noweb({"protocolMessage": change})) == [wanted]
    assert tell("message", noweb({"editedMessage": {"message": {"protocolMessage": change}}})) == [wanted]
    go = {"key": {"ID": "T"}, "type": 14, "editedMessage": {"imageMessage": {"caption": "new"}}, "timestampMS": AT + 7}
    assert tell("message", gows({"protocolMessage": go}), "GOWS") == [wanted]


def test_a_hidden_revoke() -> None:
    gone = {"protocolMessage": {"key": {"id": "T", "fromMe": True}, "type": 0}}
    assert tell("message", noweb(gone)) == [RevokeFact("default", ANA, "T", "", ANA, AT, "evt_1", "A1", None)]
    named = {"protocolMessage": {"key": {"ID": "T", "participant": ANA_LID}, "type": "REVOKE"}}
    group = {"id": f"false_{GROUP}_A1_{BOB}", "participant": BOB, "from": GROUP}
    found = one(RevokeFact, "message", gows(named) | group, "GOWS")
    assert (found.author, found.by, found.chat) == (ANA_LID, BOB, GROUP)


def test_a_hidden_reaction_and_a_hidden_vote() -> None:
    like = {"reactionMessage": {"key": {"id": "T", "fromMe": True}, "text": "👍", "senderTimestampMs": str(AT + 7)}}
    assert tell("message", noweb(like)) == [ReactionFact("default", ANA, "T", None, ANA, "👍", AT + 7, "evt_1")]
    own = noweb(like, id=f"true_{ANA}_A1")
    assert one(ReactionFact, "message", own).author == "me"
    update = {"pollUpdateMessage": {"pollCreationMessageKey": {"id": "T"}, "vote": {"encPayload": "x"}}}
    assert tell("message", noweb(update)) == [VoteFact("default", ANA, "T", None, ANA, (), True, AT, "evt_1")]


def test_other_protocol_messages_stay_messages() -> None:
    payload = noweb({"protocolMessage": {"type": 3, "ephemeralExpiration": 86400}})
    assert [type(f) for f in tell("message", payload)] == [RankedContent]


def test_a_message_of_which_webjs_has_the_tombstone_only() -> None:
    facts = tell("message", web(type="revoked") | {"body": ""}, "WEBJS")
    assert [type(f) for f in facts] == [RankedContent, RevokeFact]
    content, gone = facts
    assert isinstance(content, RankedContent)
    assert (content.content.type, content.content.poverty) == ("revoked", 2)
    assert gone == RevokeFact("default", ANA, "A1", "", ANA, AT, "evt_1", None, None)
