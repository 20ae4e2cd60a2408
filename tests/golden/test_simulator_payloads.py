"""Every recorded and sample envelope is built again by the simulator and held against the original.

Compared through envelope, payload, media, replyTo, location and the top level of `_data`: the same keys in
the same order and the same JSON types, so that null and absent differ; an empty `_data` of a sample was
shortened and says nothing. Recorded envelopes without a file must come out byte for byte. What the simulator
leaves out is listed in LEFT_OUT with the reason; nothing else is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from producers.simulator import payloads_events as events
from producers.simulator import payloads_gows, payloads_webjs
from producers.simulator import payloads_groups as groups
from producers.simulator.envelopes import envelope, to_json
from producers.simulator.facts import (
    Account,
    Ack,
    Call,
    Chat,
    Content,
    Edit,
    Json,
    Kind,
    Message,
    Person,
    Reaction,
    Response,
    Revoke,
    Vote,
)
from producers.simulator.payloads import PAYLOADS

FIXTURES = Path(__file__).parent.parent / "fixtures"
ANA = Person("5511988887777", "123456789012345", "Ana 🦊")
BOB = Person("447700900123", "223456789012346", "Bob")

LEFT_OUT = {
    "session.status pre-2026.7 (no data)": "its envelope says 2026.7.1; the recorded one covers it",
    "session.status WORKING re-issued with reachoutTimelock": "a restricted account; data is null otherwise",
    "no content NOWEB (view once, opened on the phone only)": "no content to show in traffic",
    "view once image NOWEB": "a wrapper inside _data only",
    "media download failed GOWS": "media.error: files of the simulated WAHA are always there",
    "media not requested (REST downloadMedia=false, or download crashed)": "not an event of a healthy WAHA",
    "media skipped by mimetype config": "files of the simulated WAHA are always there",
    "media in WAHA's own S3, presigned": "the simulated WAHA stores locally",
    "media in WAHA's own S3, proxied": "the simulated WAHA stores locally",
    "channel post NOWEB": "no channels in the simulator",
    "status text NOWEB": "no status in the simulator",
    "ack ERROR GOWS": "acks of traffic go up",
    "ack before message": "its _data is abbreviated to {}",
    "group.join (old) NOWEB": "has fewer keys than the recorded one",
    "group.leave (old) WEBJS": "its id is abbreviated",
    "call.received group, no from": "no group calls in the simulator",
    "unknown future event": "unknown",
    "old envelope 2024 (no id, no timestamp)": "older than the simulated version",
    "old environment without worker": "older than the simulated version",
    "observed group.v2.join": "the recorded group has fewer fields",
}

# The `_data` of these samples was abbreviated to the keys that matter; the built one has more.
ABBREVIATED = {
    "ack.group GOWS",
    "call.accepted NOWEB",
    "call.rejected NOWEB float",
    "call.rejected WEBJS by API",
}

KINDS: dict[str, Kind] = {
    "image/jpeg": "image",
    "video/mp4": "video",
    "audio/ogg; codecs=opus": "voice",
    "audio/mp4": "audio",
    "application/pdf": "document",
}


def _load() -> list[tuple[str, bytes]]:
    out = []
    for line in (FIXTURES / "waha_observed.jsonl").read_bytes().splitlines():
        body = orjson.loads(line)["body"].encode()
        out.append((f"observed {orjson.loads(body)['event']}", body))
    for line in (FIXTURES / "waha_samples.jsonl").read_bytes().splitlines():
        record = orjson.loads(line)
        out.append((record["name"], record["body"].encode()))
    return out


ALL = _load()
COMPARED: list[Any] = [
    pytest.param(name, body, id=f"{n}-{name}") for n, (name, body) in enumerate(ALL) if name not in LEFT_OUT
]


# Recorded, without a file: the keys of files are random.
RECORDED: list[Any] = [
    pytest.param(name, body, id=f"{n}-{name}")
    for n, (name, body) in enumerate(ALL)
    if name.startswith("observed") and name not in LEFT_OUT and b'"hasMedia":true' not in body
]


def _account(e: Json) -> Account:
    me = e["me"] or {"id": "0@c.us", "lid": "0@lid", "pushName": ""}
    url = _find_media_url(e["payload"])
    return Account(
        e["session"],
        e["engine"],
        Person(me["id"].split("@")[0], me["lid"].split("@")[0], me["pushName"]),
        23,
        e.get("metadata"),
        e["environment"]["version"],
        e["environment"]["worker"]["id"],
        url.split("/api/")[0] if url else "http://localhost:3000",
        e["environment"]["tier"],
        e["environment"]["platform"],
    )


def _find_media_url(payload: Json) -> str | None:
    media = payload.get("media")
    return media["url"] if isinstance(media, dict) else None


def _chat(chat_id: str, participant: str | None = None) -> Chat:
    if chat_id.endswith("@g.us"):
        return Chat(lid=(participant or "").endswith("@lid"), group=chat_id.split("@", maxsplit=1)[0], members=(ANA,))
    return Chat(lid=chat_id.endswith("@lid"), peer=ANA)


def _stamp(e: Json, message_id: str, timestamp: float) -> tuple[Account, Chat, Person | None, str, int]:
    from_me, chat_id, raw_id, *rest = message_id.split("_")
    chat = _chat(chat_id, rest[0] if rest else None)
    return _account(e), chat, None if from_me == "true" else ANA, raw_id, round(timestamp * 1000)


def _content(p: Json) -> Content:
    if p["media"]:
        return Content(KINDS[p["media"]["mimetype"]], p["body"] or None, p["media"]["filename"])
    if p["location"]:
        spot = p["location"]
        return Content("location", latitude=float(spot["latitude"]), longitude=float(spot["longitude"]), place="Praça")
    if p["vCards"]:
        return Content("vcard", vcards=tuple(p["vCards"]))
    poll = p["_data"].get("message", {}).get("pollCreationMessageV3") if isinstance(p["_data"], dict) else None
    if poll:
        return Content("poll", poll["name"], options=tuple(o["optionName"] for o in poll["options"]))
    return Content(text=p["body"])


def _message(e: Json, p: Json) -> Message:
    stamp = _stamp(e, p["id"], p["timestamp"])
    quoted = None
    if p.get("replyTo"):
        raw = p["replyTo"]["id"].split("_")[2] if "_" in p["replyTo"]["id"] else p["replyTo"]["id"]
        quoted = Message(stamp[0], stamp[1], ANA, raw, 0, Content(text=p["replyTo"]["body"]))
    return Message(*stamp, _content(p), p["ack"], p["source"], quoted)


def _target(e: Json, raw_id: str, chat: Chat, *, from_me: bool = False, text: str = "old body") -> Message:
    return Message(_account(e), chat, None if from_me else ANA, raw_id, 0, Content(text=text))


def _build_message_event(e: Json, p: Json) -> Json:
    build = PAYLOADS[e["engine"]]
    match e["event"]:
        case "message" | "message.any":
            return build.message(_message(e, p))
        case "message.waiting":
            return payloads_webjs.waiting(_message(e, p))
        case "message.reaction":
            from_me, _, raw_id, *_ = p["reaction"]["messageId"].split("_")
            stamp = _stamp(e, p["id"], p["timestamp"])
            target = _target(e, raw_id, stamp[1], from_me=from_me == "true")
            return build.reaction(Reaction(*stamp, target, p["reaction"]["text"]))
        case "message.edited":
            stamp = _stamp(e, p["id"], p["timestamp"])
            target = _target(e, p["editedMessageId"], stamp[1])
            return build.edited(Edit(*stamp, target, p["body"]))
        case "message.revoked":
            after = p["after"]
            id_ = after["id"] if "_" in after["id"] else f"false_5511988887777@c.us_{after['id']}"
            stamp = _stamp(e, id_, after.get("timestamp", 0))
            return build.revoked(Revoke(*stamp, _target(e, p["revokedMessageId"], stamp[1])))
    raise AssertionError(e["event"])


def _build_receipt(e: Json, p: Json) -> Json:
    """Acks; WEBJS sends the whole message."""
    if "timestamp" in p:
        message = _message(e, p)
    else:
        account, chat, _, raw_id, _ = _stamp(e, p["id"], 0)
        lid = (p.get("participant") or "").endswith("@lid")
        chat = Chat(lid=lid, group=chat.group, members=(ANA,)) if chat.group else chat
        message = Message(account, chat, None, raw_id, 0)
    receipt = p["_data"].get("receipt", {}) if isinstance(p.get("_data"), dict) else {}
    at_s = next((v for k, v in receipt.items() if k.endswith("Timestamp")), 0)
    return PAYLOADS[e["engine"]].ack(Ack(message, p["ack"], at_s * 1000, ANA))


def _build_vote(e: Json, p: Json) -> Json:
    _, chat_id, raw_id, *_ = p["poll"]["id"].split("_")
    lid = e["engine"] != "WEBJS"
    chat = Chat(lid=lid, group=chat_id.split("@")[0], members=(ANA,)) if "g.us" in chat_id else Chat(peer=ANA)
    target = Message(_account(e), chat, None, raw_id, 0)
    vote = Vote(
        target,
        ANA,
        p["vote"]["id"].split("_")[2],
        p["vote"]["timestamp"] * (1 if p["vote"]["timestamp"] > 10**12 else 1000),
        tuple(p["vote"]["selectedOptions"] or ()),
        e["event"] == "poll.vote.failed",
    )
    return PAYLOADS[e["engine"]].vote(vote)


def _build_response(e: Json, p: Json) -> Json:
    stamp = _stamp(e, p["id"], p["timestamp"])
    target = _target(e, p["eventCreationKey"]["id"].split("_")[2], stamp[1], from_me=True)
    answer = p["eventResponse"] or {}
    response = Response(*stamp, target, answer.get("response"), answer.get("extraGuestCount", 0))
    return payloads_gows.response(response)


def _build_other(e: Json, p: Json) -> Json:
    account, name = _account(e), e["event"]
    group = Chat(lid=True, group="120363040000000001", subject="Team 🚀", members=(ANA,))
    at_ms = round(p.get("timestamp", 0) * (1 if p.get("timestamp", 0) > 10**12 else 1000))
    match name:
        case "session.status":
            return events.session_status(account, [(s["status"], s["timestamp"]) for s in p["statuses"]])
        case "presence.update":
            who = p["presences"][0]
            chat = _chat(p["id"], who["participant"])
            return events.presence(chat, ANA, who["lastKnownPresence"], who["lastSeen"])
        case "call.received" | "call.accepted" | "call.rejected":
            status = p["_data"].get("status", "offer")
            return events.call(account, Call(p["id"], ANA, p["isVideo"]), status, at_ms)
        case "state.change":
            return events.state_change(account)
        case "engine.event":
            return events.engine_event(account, "3EB0")
        case "group.v2.participants.join-request":
            return groups.asked(group, BOB, p["action"], at_ms)
        case "group.join" if account.engine == "NOWEB":
            return groups.metadata(account, group, p["desc"])
        case "group.join":
            return groups.notification(_chat(p["chatId"]), ANA, BOB, "join", raw_id=p["id"]["id"], at_ms=at_ms)
        case "group.v2.join":
            return groups.joined(account, group, at_ms)
        case "group.v2.leave":
            return groups.left(account, group, ANA, at_ms)
        case "group.v2.update":
            return groups.updated(account, group, p["group"]["subject"], at_ms)
        case "group.v2.participants":
            return groups.participants(account, group, ANA, p["type"], at_ms)
        case "label.upsert" | "label.deleted":
            return events.label(int(p["id"]), p["name"], p["color"])
        case "label.chat.added" | "label.chat.deleted":
            return events.label_chat(account, _chat(p["chatId"]), int(p["labelId"]), "Lead", 3)
        case "chat.archive":
            return events.archive(group, p["archived"], at_ms)
    raise AssertionError(name)


def _rebuilt(e: Json) -> Json:
    p, name = e["payload"], e["event"]
    if name.startswith("event.response"):
        payload = _build_response(e, p)
    elif name.startswith("poll.vote"):
        payload = _build_vote(e, p)
    elif name in ("message.ack", "message.ack.group"):
        payload = _build_receipt(e, p)
    elif name.startswith("message"):
        payload = _build_message_event(e, p)
    else:
        payload = _build_other(e, p)
    return envelope(_account(e), name, payload, id_=e["id"], at_ms=e["timestamp"], paired=e["me"] is not None)


def _type(value: Any) -> str:
    names = {dict: "object", list: "array", bool: "boolean", str: "string", int: "number", float: "number"}
    return names.get(type(value), "null")


def _shape(value: Any, *, data: bool, key: str = "") -> Any:
    """Keys in order and JSON types; of `_data` only its top level, or with `data` false only its type."""
    if isinstance(value, dict):
        if key == "_data":
            return [(k, _type(v)) for k, v in value.items()] if data else "object"
        return [(k, _shape(v, data=data, key=k)) for k, v in value.items()]
    if isinstance(value, list):
        return [_shape(v, data=data) for v in value[:1]]
    return _type(value)


def test_left_out_names_exist() -> None:
    assert set(LEFT_OUT) <= {name for name, _ in ALL}


@pytest.mark.parametrize(("name", "body"), COMPARED)
def test_same_structure(name: str, body: bytes) -> None:
    original = orjson.loads(body)
    data = name not in ABBREVIATED and original["payload"].get("_data") != {}
    assert _shape(_rebuilt(original), data=data) == _shape(original, data=data)


@pytest.mark.parametrize(("name", "body"), RECORDED)
def test_recorded_bytes(name: str, body: bytes) -> None:
    assert to_json(_rebuilt(orjson.loads(body))) == body, name


def test_most_samples_come_out_byte_for_byte() -> None:
    """The rest differ in what was abbreviated in the sample, in file keys and in the target of an act."""
    compared = [body for name, body in ALL if name not in LEFT_OUT]
    exact = [body for body in compared if to_json(_rebuilt(orjson.loads(body))) == body]
    assert len(exact) >= 90
