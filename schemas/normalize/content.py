"""What a message shows: its type, its text, and the details that only some types have.

There is no type field in WAHA's common body: it is derived from the engine's own message where there is one, else
from media, location and vCards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from schemas.normalize.values import number, obj, text

# NOWEB and GOWS: keys of WhatsApp's message object, in the order in which they are looked for.
_PROTO_TYPES = {
    "conversation": "text",
    "extendedTextMessage": "text",
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video_note",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
    "lottieStickerMessage": "sticker",
    "locationMessage": "location",
    "liveLocationMessage": "live_location",
    "contactMessage": "contact",
    "contactsArrayMessage": "contact",
    "pollCreationMessage": "poll",
    "pollCreationMessageV2": "poll",
    "pollCreationMessageV3": "poll",
    "pollCreationMessageV5": "poll",
    "eventMessage": "event",
    "albumMessage": "album",
}
# Wrappers around another message object.
_WRAPPERS = (
    "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
    "documentWithCaptionMessage", "associatedChildMessage", "deviceSentMessage",
)  # fmt: skip
# WEBJS and WPP: WhatsApp Web's own type names.
_WEB_TYPES = {
    "chat": "text", "image": "image", "video": "video", "ptv": "video_note", "audio": "audio", "ptt": "voice",
    "document": "document", "sticker": "sticker", "location": "location", "vcard": "contact", "multi_vcard": "contact",
    "poll_creation": "poll", "event_creation": "event", "album": "album", "ciphertext": "waiting",
    "e2e_notification": "system", "notification_template": "system", "gp2": "system", "call_log": "system",
}  # fmt: skip
_MIME_TYPES = {"image": "image", "video": "video", "audio": "audio"}


class Content(NamedTuple):
    """What `content_of` found. `extra` holds only JSON values."""

    body: str | None
    push_name: str | None
    extra: dict[str, Any]


def message_type(payload: dict[str, Any], raw: dict[str, Any]) -> str:
    """text, image, video, video_note, audio, voice, document, sticker, location, live_location, contact, poll, event,
    album, waiting, system or unknown."""  # noqa: D205
    proto = proto_message(raw)
    for key in proto:
        found = _PROTO_TYPES.get(key)
        if found == "text" and payload.get("hasMedia") is True:
            break  # a caption without its media object: the media says more
        if found is not None:
            return "voice" if found == "audio" and obj(proto[key]).get("ptt") is True else found
    web_type = raw.get("type")
    if type(web_type) is str and web_type in _WEB_TYPES:
        return _WEB_TYPES[web_type]
    return _type_from_body(payload)


def _type_from_body(payload: dict[str, Any]) -> str:
    location = payload.get("location")
    if type(location) is dict:
        return "live_location" if location.get("live") is True else "location"
    if type(payload.get("vCards")) is list and payload["vCards"]:
        return "contact"
    media = obj(payload.get("media"))
    if payload.get("hasMedia") is True or media:
        mimetype = text(media.get("mimetype")) or ""
        return _MIME_TYPES.get(mimetype.partition("/")[0], "document")
    return "text" if text(payload.get("body")) else "unknown"


def proto_message(raw: dict[str, Any]) -> dict[str, Any]:
    """WhatsApp's message object (NOWEB `message`, GOWS `Message`) out of its wrappers; empty on WEBJS and WPP."""
    proto = obj(raw.get("message")) or obj(raw.get("Message"))
    for _ in range(4):  # wrappers nest (ephemeral around view-once around …), but not for ever
        inner = next((obj(proto[w]) for w in _WRAPPERS if w in proto), None)
        if inner is None:
            break
        proto = obj(inner.get("message")) or obj(inner.get("Message"))
    return proto


def content_of(kind: str, payload: dict[str, Any], raw: dict[str, Any], engine: str) -> Content:
    """Text and details of a message of type `kind`."""
    extra: dict[str, Any] = {}
    body = text(payload.get("body"))
    if kind in ("location", "live_location"):
        if engine in ("WEBJS", "WPP"):
            body = None  # WhatsApp Web puts the map's thumbnail there, base64
        _put(extra, "location", _location(obj(payload.get("location"))))
    elif kind == "contact":
        cards = [c for c in payload.get("vCards") or () if type(c) is str] if type(payload.get("vCards")) is list else []
        if engine in ("WEBJS", "WPP"):
            body = None  # the first vCard once more
        _put(extra, "vcards", cards)
    elif kind == "poll":
        _put(extra, "poll", _poll(proto_message(raw)))
    _put(extra, "quoted", _quoted(obj(payload.get("replyTo"))))
    return Content(body, _push_name(raw), extra)


def _put(extra: dict[str, Any], key: str, value: Any) -> None:
    if value:
        extra[key] = value


def _location(value: dict[str, Any]) -> dict[str, Any]:
    latitude, longitude = number(value.get("latitude")), number(value.get("longitude"))
    if latitude is None or longitude is None:
        return {}
    found: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    for field in ("name", "address", "url", "description"):
        _put(found, field, text(value.get(field)))
    return found


def _poll(proto: dict[str, Any]) -> dict[str, Any]:
    """Question and options; the newer versions of the object differ in name only."""
    poll = next((obj(v) for k, v in proto.items() if k.startswith("pollCreationMessage")), {})
    question = text(poll.get("name"))
    if question is None:
        return {}
    options = poll.get("options")
    names = [text(obj(o).get("optionName")) for o in options] if type(options) is list else []
    count = number(poll.get("selectableOptionsCount"))
    return {
        "name": question,
        "options": [n for n in names if n],
        "selectable": int(count) if count is not None else None,
    }


def _quoted(reply: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _put(found, "participant", text(reply.get("participant")))
    _put(found, "text", text(reply.get("body")))
    return found if reply else {}


def _push_name(raw: dict[str, Any]) -> str | None:
    """The name the sender chose: NOWEB pushName, GOWS Info.PushName, WEBJS notifyName."""
    return text(raw.get("pushName")) or text(obj(raw.get("Info")).get("PushName")) or text(raw.get("notifyName"))
