"""WAHA's REST answers as plain records, the same for all engines. Pure.

What differs: NOWEB lists chats with @s.whatsapp.net ids and groups as an object keyed by id; WEBJS wraps chat ids;
GOWS lists groups as whatsmeow's structs; unknown contacts are an empty 200. A field of the wrong type reads as missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

from pipeline.waha.errors import WahaAwayError
from schemas.ids import normalize_jid


class Version(NamedTuple):
    """A WAHA server."""

    version: str
    engine: str
    tier: str


class SessionInfo(NamedTuple):
    """A session of a WAHA server. `me` is None before pairing."""

    name: str
    status: str
    engine: str
    me: str | None
    me_lid: str | None
    push_name: str | None
    config: dict[str, Any]


class ChatInfo(NamedTuple):
    """A chat. `at_s` is the time of its last message, where the engine says it."""

    id: str
    name: str | None
    at_s: int | None


class Row(NamedTuple):
    """A message of a page: its id, its time in seconds, and its JSON as WAHA wrote it."""

    id: str
    at_s: int | None
    body: bytes


class MediaAnswer(NamedTuple):
    """`media` of a message asked for by id. `error` is true when WAHA could not fetch the file."""

    url: str | None
    mimetype: str | None
    filename: str | None
    bucket: str | None
    key: str | None
    error: bool


class MessageAnswer(NamedTuple):
    """A message asked for by id; `media` is None when it has no file."""

    id: str
    at_s: int | None
    has_media: bool
    media: MediaAnswer | None
    body: bytes


class ContactInfo(NamedTuple):
    """A person in the account's address book or met by it."""

    id: str
    name: str | None
    push_name: str | None
    lid: str | None


class GroupInfo(NamedTuple):
    """A group; its members are asked for apart."""

    id: str
    subject: str | None
    description: str | None
    owner: str | None


class Member(NamedTuple):
    """A member of a group. `role`: participant, admin, superadmin, left."""

    id: str
    phone: str | None
    role: str


class LidInfo(NamedTuple):
    """A hidden id and the number behind it, where WhatsApp tells it."""

    lid: str
    phone: str | None


class LabelInfo(NamedTuple):
    """A label."""

    id: str
    name: str | None
    color: int | None
    color_hex: str | None


class _Head(msgspec.Struct, gc=False):
    id: Any = None
    timestamp: Any = None


_read_raws = msgspec.json.Decoder(list[msgspec.Raw])
_read_heads = msgspec.json.Decoder(list[_Head])


def read_json(body: bytes) -> Any:
    """The value; None for an empty answer. Raises WahaAwayError when it is no JSON: cut off, or not WAHA's."""
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise WahaAwayError("an answer that is not JSON") from exc


def read_page(body: bytes) -> list[Row]:
    """The messages of a page, each with its own bytes. Raises WahaAwayError."""
    try:
        raws, heads = _read_raws.decode(body or b"[]"), _read_heads.decode(body or b"[]")
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise WahaAwayError("a page of messages that is not a JSON list") from exc
    return [
        Row(h.id if isinstance(h.id, str) else "", _seconds(h.timestamp), bytes(r))
        for r, h in zip(raws, heads, strict=True)
    ]


def read_message(body: bytes) -> MessageAnswer | None:
    """None for an empty answer."""
    value = _object(read_json(body))
    if not value:
        return None
    has_media = value.get("hasMedia") is True
    media = _object(value.get("media"))
    s3 = _object(media.get("s3"))
    answer = MediaAnswer(
        _text(media, "url"), _text(media, "mimetype"), _text(media, "filename"),
        _text(s3, "Bucket"), _text(s3, "Key"), bool(media.get("error")),
    )  # fmt: skip
    id_, at_s = _text(value, "id") or "", _seconds(value.get("timestamp"))
    return MessageAnswer(id_, at_s, has_media, answer if has_media or media else None, body)


def read_version(body: bytes) -> Version:
    """Version, engine, tier."""
    value = _object(read_json(body))
    return Version(_text(value, "version") or "", _text(value, "engine") or "", _text(value, "tier") or "")


def read_one_session(body: bytes) -> SessionInfo | None:
    """None for what names no session."""
    return _session(read_json(body))


def _session(value: Any) -> SessionInfo | None:
    value = _object(value)
    if not (name := _text(value, "name")):
        return None
    me, engine = _object(value.get("me")), value.get("engine")
    engine_name = engine if isinstance(engine, str) else _text(_object(engine), "engine")
    return SessionInfo(
        name, _text(value, "status") or "", engine_name or "", _jid(me, "id"), _jid(me, "lid"), _text(me, "pushName"),
        _object(value.get("config")),
    )  # fmt: skip


def read_sessions(body: bytes) -> list[SessionInfo]:
    """All that the server told of."""
    return [s for v in _objects(read_json(body)) if (s := _session(v))]


def read_chats(body: bytes) -> list[ChatInfo]:
    """Chats of any engine, in the order of the answer."""
    found = []
    for value in _objects(read_json(body)):
        if id_ := _id_of(value.get("id")):
            at = value.get("conversationTimestamp", value.get("timestamp"))
            found.append(ChatInfo(id_, _text(value, "name"), _seconds(at)))
    return found


def read_overview(body: bytes) -> list[ChatInfo]:
    """Chats with the time of their last message."""
    return [
        ChatInfo(id_, _text(v, "name"), _seconds(_object(v.get("lastMessage")).get("timestamp")))
        for v in _objects(read_json(body))
        if (id_ := _id_of(v.get("id")))
    ]


def read_picture(body: bytes) -> str | None:
    """The URL of a profile picture."""
    return _text(_object(read_json(body)), "url")


def read_contacts(body: bytes) -> list[ContactInfo]:
    """People; groups that WEBJS lists among them are left out."""
    return [
        ContactInfo(id_, _text(v, "name"), _text(v, "pushname") or _text(v, "pushName"), _jid(v, "lid"))
        for v in _objects(read_json(body))
        if (id_ := _id_of(v.get("id"))) and not id_.endswith("@g.us")
    ]


def read_groups(body: bytes) -> list[GroupInfo]:
    """Groups of any engine."""
    return [g for v in _objects(read_json(body)) if (g := _group(v))]


def read_members(body: bytes) -> list[Member]:
    """Members as `participants/v2` lists them."""
    return [
        Member(id_, _jid(v, "pn"), _text(v, "role") or "participant")
        for v in _objects(read_json(body))
        if (id_ := _id_of(v.get("id")))
    ]


def read_lids(body: bytes) -> list[LidInfo]:
    """Hidden ids with their numbers."""
    return [LidInfo(lid, _jid(v, "pn")) for v in _objects(read_json(body)) if (lid := _jid(v, "lid"))]


def read_labels(body: bytes) -> list[LabelInfo]:
    """Labels."""
    return [
        LabelInfo(str(v["id"]), _text(v, "name"), _whole(v.get("color")), _text(v, "colorHex"))
        for v in _objects(read_json(body))
        if v.get("id")
    ]


def _group(value: dict[str, Any]) -> GroupInfo | None:
    """whatsmeow writes JID, Name, Topic, OwnerJID; NOWEB subject, desc; WEBJS wraps the id and the rest in groupMetadata."""
    id_ = _id_of(value.get("id")) or _jid(value, "JID")
    if not id_:
        return None
    meta = value | _object(value.get("groupMetadata"))
    subject = _text(meta, "subject") or _text(meta, "Name") or _text(meta, "name")
    description = _text(meta, "description") or _text(meta, "desc") or _text(meta, "Topic")
    owner = _id_of(meta.get("owner")) or _jid(meta, "OwnerJID")
    return GroupInfo(id_, subject, description, owner)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of a list, or the values of an object that is keyed by id."""
    if isinstance(value, dict):
        value = list(value.values())
    for one in value if isinstance(value, list) else []:
        if isinstance(one, dict):
            yield one


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found else None


def _jid(value: dict[str, Any], name: str) -> str | None:
    found = _text(value, name)
    return normalize_jid(found) if found and "@" in found else None


def _id_of(value: Any) -> str | None:
    """An id, written as a text or as WhatsApp Web's object."""
    if isinstance(value, dict):
        value = value.get("_serialized") or value.get("$1") or (
            f"{value['user']}@{value['server']}" if "user" in value and "server" in value else None
        )  # fmt: skip
    return normalize_jid(value) if isinstance(value, str) and "@" in value else None


def _seconds(value: Any) -> int | None:
    """Whole seconds; NOWEB also writes 64-bit numbers as {low, high}."""
    if isinstance(value, dict):
        value = value.get("low")
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**53:
        return None
    return int(value if value < 10**11 else value // 1000)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
