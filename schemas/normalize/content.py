"""What a message shows: its type, its text, and the details that only some types have.

There is no type field in WAHA's common body: it is derived from the engine's own message where there is one, else
from media, location and vCards.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from schemas.normalize.values import number, obj, text
from schemas.webhook import EngineMessage, Payload, ReplyTo

Proto = dict[str, Raw]

# NOWEB and GOWS: keys of WhatsApp's message object.
_PROTO_TYPES = {
    "conversation": "text", "extendedTextMessage": "text", "imageMessage": "image", "videoMessage": "video",
    "ptvMessage": "video_note", "audioMessage": "audio", "documentMessage": "document", "stickerMessage": "sticker",
    "lottieStickerMessage": "sticker", "locationMessage": "location", "liveLocationMessage": "live_location",
    "contactMessage": "contact", "contactsArrayMessage": "contact", "pollCreationMessage": "poll",
    "pollCreationMessageV2": "poll", "pollCreationMessageV3": "poll", "pollCreationMessageV5": "poll",
    "eventMessage": "event", "albumMessage": "album",
}  # fmt: skip
# Wrappers around another message object.
_WRAPPERS = frozenset(
    {
        "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
        "documentWithCaptionMessage", "associatedChildMessage", "deviceSentMessage", "editedMessage",
    }
)  # fmt: skip
# WEBJS and WPP: WhatsApp Web's own type names.
_WEB_TYPES = {
    "chat": "text", "image": "image", "video": "video", "ptv": "video_note", "audio": "audio", "ptt": "voice",
    "document": "document", "sticker": "sticker", "location": "location", "vcard": "contact", "multi_vcard": "contact",
    "poll_creation": "poll", "event_creation": "event", "album": "album", "ciphertext": "waiting",
    "e2e_notification": "system", "notification_template": "system", "gp2": "system", "call_log": "system",
}  # fmt: skip
_MIME_TYPES = {"image": "image", "video": "video", "audio": "audio"}
_BROWSER_ENGINES = ("WEBJS", "WPP")
_TEXTLESS = frozenset({"location", "live_location", "contact"})
_DETAILED = _TEXTLESS | {"poll"}
_MAX_COUNT = 2**31 - 1  # of a poll's choices: absurd numbers would not fit into anybody's integer


class _Wrapper(Struct, rename={"noweb": "message", "gows": "Message"}):
    """One of _WRAPPERS."""

    noweb: dict[str, Raw] | None = None
    gows: dict[str, Raw] | None = None


_wrapper = msgspec.json.Decoder(_Wrapper)
_any = msgspec.json.Decoder()
_NOTHING: Proto = {}


def proto_message(raw: EngineMessage | None) -> Proto:
    """WhatsApp's message object (NOWEB, GOWS) out of its wrappers; empty on WEBJS and WPP."""
    if raw is None:
        return _NOTHING
    proto = raw.proto_noweb or raw.proto_gows
    if not proto:
        return _NOTHING
    for _ in range(4):  # wrappers nest (ephemeral around view-once around …), but not for ever
        if _WRAPPERS.isdisjoint(proto):
            break
        inner = _decoded(_wrapper, next(proto[k] for k in proto if k in _WRAPPERS))
        proto = (inner.noweb or inner.gows or _NOTHING) if inner is not None else _NOTHING
    return proto


def _decoded(decoder: msgspec.json.Decoder[Any], part: Raw) -> Any:
    """A part that the body's decoder skipped over; None when it cannot be read (skipping does not check UTF-8)."""
    try:
        return decoder.decode(part)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return None


def message_type(payload: Payload, raw: EngineMessage | None, proto: Proto) -> str:
    """One of the words of this file's tables, `live_location`, `waiting`, `system` or `unknown`."""
    for key in proto:
        found = _PROTO_TYPES.get(key)
        if found is None:
            continue
        if found == "text" and payload.hasMedia:
            break  # a caption without its media object: the media says more
        if found == "audio" and _is_voice(obj(_decoded(_any, proto[key]))):
            return "voice"
        return found
    if raw is not None and raw.type is not None and raw.type in _WEB_TYPES:
        return _WEB_TYPES[raw.type]
    return _type_from_body(payload)


def _is_voice(audio: dict[str, Any]) -> bool:
    return audio.get("ptt") is True or audio.get("PTT") is True  # NOWEB spells it so, GOWS (Go's own JSON) so


def _type_from_body(payload: Payload) -> str:
    if payload.location is not None:
        return "live_location" if payload.location.get("live") is True else "location"
    if payload.vCards:
        return "contact"
    media = payload.media
    if payload.hasMedia or media is not None:
        mimetype = (media.mimetype if media is not None else None) or ""
        return _MIME_TYPES.get(mimetype.partition("/")[0], "document")
    return "text" if payload.body else "unknown"


def body_of(kind: str, payload: Payload, engine: str | None) -> str | None:
    """The text. WhatsApp Web puts a location's thumbnail (base64) and the first vCard there: those are no text."""
    if kind in _TEXTLESS and engine in _BROWSER_ENGINES:
        return None
    return payload.body or None


def details_of(kind: str, payload: Payload, proto: Proto) -> dict[str, Any] | None:
    """location, vcards, poll, quoted: JSON values, only what the message has; None when it has nothing."""
    if payload.replyTo is None and kind not in _DETAILED:
        return None
    extra: dict[str, Any] = {}
    if kind in ("location", "live_location"):
        _put(extra, "location", _location(payload.location or {}))
    elif kind == "contact" and payload.vCards is not None:
        _put(extra, "vcards", [c for c in payload.vCards if type(c) is str])
    elif kind == "poll":
        _put(extra, "poll", _poll(proto))
    if payload.replyTo is not None:
        _put(extra, "quoted", _quoted(payload.replyTo))
    return extra or None


def push_name(raw: EngineMessage | None) -> str | None:
    """The name the sender chose: NOWEB pushName, GOWS Info.PushName, WEBJS notifyName."""
    if raw is None:
        return None
    return raw.pushName or (raw.info.PushName if raw.info is not None else None) or raw.notifyName or None


def _put(extra: dict[str, Any], key: str, value: Any) -> None:
    if value:
        extra[key] = value


def _location(value: dict[str, Any]) -> dict[str, Any]:
    latitude, longitude = number(value.get("latitude")), number(value.get("longitude"))
    if latitude is None or longitude is None:
        return {}
    found: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    for name in ("name", "address", "url", "description"):
        _put(found, name, text(value.get(name)))
    return found


def _poll(proto: Proto) -> dict[str, Any]:
    """Question and options; the newer versions of the object differ in name only."""
    key = next((k for k in proto if k.startswith("pollCreationMessage")), None)
    poll = obj(_decoded(_any, proto[key])) if key else {}
    question = text(poll.get("name"))
    if question is None:
        return {}
    options = poll.get("options")
    names = [text(obj(o).get("optionName")) for o in options] if type(options) is list else []
    count = number(poll.get("selectableOptionsCount"))
    return {
        "name": question,
        "options": [n for n in names if n],
        "selectable": int(count) if count is not None and 0 <= count <= _MAX_COUNT else None,
    }


def _quoted(reply: ReplyTo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _put(found, "participant", reply.participant)
    _put(found, "text", reply.body)
    return found
