"""What only `_data` tells of a message: mentions, forwarding, expiry, view-once, album, media measures, link, event, poll.

One dict of JSON values, only what the message has. NOWEB and GOWS say it in WhatsApp's message object (`contextInfo` and the
content's own fields; Go spells mentionedJID, stanzaID, fileSHA256), WEBJS and WPP in flat fields of `_data`.

view_once true · forwarded true · forward_score n · mentions [id] · expires_s n · link {url, title, description} ·
album {images, videos} of the parent, album_of raw id in a child · event {name, description, start_ms, end_ms, place,
link, canceled} · media {bytes, width, height, seconds, sha256, waveform} · poll, quoted: see content.py
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from schemas.ids import MAX_JID_CHARS, normalize_jid
from schemas.normalize.engine import Info, Key
from schemas.normalize.head import Number
from schemas.normalize.values import count, number, obj, text, time_ms
from schemas.reading import Reader, UnreadableError
from schemas.webhook import EngineMessage

Amount = int | float | str | dict[str, Any] | None  # a number, its text, or the Long of protobufjs
_MAX_MENTIONS = 2048  # WhatsApp's largest group has half as many
_SHA256_BYTES = 32
_MAX_WAVEFORM = 256  # WhatsApp's own have 64 heights
_HEIGHTS = bytes(min(height, 100) for height in range(256))
_NO_CONTENT = frozenset({"messageContextInfo", "senderKeyDistributionMessage"})


class _Context(Struct, gc=False, rename={"mentioned_gows": "mentionedJID", "stanza_gows": "stanzaID"}):
    mentionedJid: list[Any] | None = None
    mentioned_gows: list[Any] | None = None
    isForwarded: bool | None = None
    forwardingScore: Amount = None
    expiration: Amount = None
    stanzaId: str | None = None
    stanza_gows: str | None = None
    participant: str | None = None


class Part(Struct, gc=False, rename={"sha_gows": "fileSHA256"}):
    """A content object (imageMessage, extendedTextMessage, eventMessage, …): the union of what is read of them."""

    contextInfo: _Context | None = None
    viewOnce: bool | None = None
    fileLength: Amount = None
    fileSha256: str | dict[str, Any] | None = None
    sha_gows: str | dict[str, Any] | None = None
    width: Amount = None
    height: Amount = None
    seconds: Amount = None
    waveform: str | dict[str, Any] | None = None  # of a voice note
    matchedText: str | None = None
    canonicalUrl: str | None = None
    title: str | None = None
    name: str | None = None
    description: str | None = None
    startTime: Amount = None
    endTime: Amount = None
    location: dict[str, Any] | None = None
    joinLink: str | None = None
    isCanceled: bool | None = None
    expectedImageCount: Amount = None
    expectedVideoCount: Amount = None


class _Association(Struct, gc=False):
    parentMessageKey: Key | None = None


class _MessageContext(Struct, gc=False):
    messageAssociation: _Association | None = None


class Data(EngineMessage, rename={"is_view_once": "IsViewOnce", "info": "Info"}, gc=False):
    """`_data` of a message, as far as it is not read for every message."""

    key: Key | None = None  # NOWEB
    info: Info | None = None  # GOWS
    verifiedBizName: str | None = None  # NOWEB
    reactions: list[Any] | None = None  # NOWEB, in fetched history: see stored_reactions.py
    is_view_once: bool | None = None  # GOWS
    ephemeralDuration: Amount = None  # NOWEB, WEBJS, WPP
    # from here on WEBJS and WPP
    latestEditMsgKey: dict[str, Any] | str | None = (
        None  # of an edited message, in fetched history: see stored_edits.py
    )
    latestEditSenderTimestampMs: Number = None
    isViewOnce: bool | None = None
    isForwarded: bool | None = None
    forwardingScore: Amount = None
    mentionedJidList: list[Any] | None = None
    size: Amount = None
    width: Amount = None
    height: Amount = None
    duration: Amount = None
    filehash: str | None = None
    waveform: str | dict[str, Any] | None = None
    matchedText: str | None = None
    canonicalUrl: str | None = None
    title: str | None = None
    description: str | None = None
    pollName: str | None = None
    pollOptions: list[Any] | None = None
    pollSelectableOptionsCount: Amount = None
    eventName: str | None = None
    eventDescription: str | None = None
    eventStartTime: Amount = None
    eventEndTime: Amount = None
    isEventCanceled: bool | None = None


_read_part = Reader(Part)
_read_context = Reader(_MessageContext)
_NO_PART, _NO_CONTEXT = Part(), _Context()


def more_details(kind: str, data: Data, part: Part) -> dict[str, Any]:
    """Everything of this file's list. `part` is the content object of NOWEB and GOWS, an empty one on WEBJS and WPP."""
    outer = data.proto_noweb or data.proto_gows
    extra: dict[str, Any] = {}
    if _is_view_once(data, outer, part):
        extra["view_once"] = True
    if part.contextInfo is not None:
        _add_context(extra, part.contextInfo)
    elif not outer:
        _add_flat(extra, data)
    if data.ephemeralDuration is not None and "expires_s" not in extra:
        _put(extra, "expires_s", _amount(data.ephemeralDuration))
    if outer and "messageContextInfo" in outer:
        _put(extra, "album_of", _album_of(outer["messageContextInfo"]))
    if kind in _OF_KIND:
        name, make = _OF_KIND[kind]
        _put(extra, name, make(data, part))
    return extra


def _add_context(extra: dict[str, Any], context: _Context) -> None:
    _put(extra, "forwarded", context.isForwarded)
    _put(extra, "forward_score", _amount(context.forwardingScore))
    _put(extra, "mentions", _mentions(context.mentionedJid or context.mentioned_gows))
    _put(extra, "expires_s", _amount(context.expiration))


def _add_flat(extra: dict[str, Any], data: Data) -> None:
    _put(extra, "forwarded", data.isForwarded)
    _put(extra, "forward_score", _amount(data.forwardingScore))
    _put(extra, "mentions", _mentions(data.mentionedJidList))


def is_plain(kind: str, data: Data, outer: dict[str, Raw] | None) -> bool:
    """True for a text of which more_details has nothing to tell: nearly all messages."""
    if kind != "text" or data.ephemeralDuration or data.is_view_once:
        return False
    if outer:
        return len(outer) == 1 and "conversation" in outer
    return not (data.isForwarded or data.mentionedJidList or data.matchedText)


def quoted_id(part: Part) -> str | None:
    """The raw id of the quoted message, also where WAHA gives no `replyTo`."""
    context = part.contextInfo or _NO_CONTEXT
    return context.stanzaId or context.stanza_gows


def content_part(proto: dict[str, Raw]) -> Part:
    """The content object in a message object out of its wrappers: the first that does not describe the message itself."""
    for key, raw in proto.items():
        part = bytes(raw)
        if key not in _NO_CONTENT and part.startswith(b"{"):  # `conversation` is a text
            try:
                return _read_part(part)
            except UnreadableError:
                continue
    return _NO_PART


def _is_view_once(data: Data, outer: dict[str, Raw] | None, part: Part) -> bool:
    if part.viewOnce or data.is_view_once or data.isViewOnce or (data.key is not None and data.key.isViewOnce):
        return True
    return bool(outer) and any(key.startswith("viewOnce") for key in outer or ())


def _mentions(found: list[Any] | None) -> list[str]:
    ids = [text(m) or text(obj(m).get("_serialized")) for m in found[:_MAX_MENTIONS]] if found else []
    return [normalize_jid(i) for i in ids if i is not None and "@" in i and len(i) <= MAX_JID_CHARS]


def _album_of(raw: Raw) -> str | None:
    try:
        association = _read_context(bytes(raw)).messageAssociation
    except UnreadableError:
        return None
    key = association.parentMessageKey if association is not None else None
    return key.raw_id if key is not None else None


def _media(data: Data, part: Part) -> dict[str, Any]:
    flat = part is _NO_PART
    digest = data.filehash if flat else part.fileSha256 or part.sha_gows
    measured: Data | Part = data if flat else part
    return _some(
        bytes=_amount(data.size if flat else part.fileLength),
        width=_amount(measured.width),
        height=_amount(measured.height),
        seconds=_amount(data.duration if flat else part.seconds),
        sha256=_hex(digest) if digest else None,
        waveform=_heights(measured.waveform) if measured.waveform else None,
    )


def _heights(waveform: str | dict[str, Any]) -> list[int]:
    return list(_buffer(waveform)[:_MAX_WAVEFORM].translate(_HEIGHTS))


def _album(_data: Data, part: Part) -> dict[str, Any]:
    return _some(images=_amount(part.expectedImageCount), videos=_amount(part.expectedVideoCount))


def _link(data: Data, part: Part) -> dict[str, Any]:
    url = part.matchedText or part.canonicalUrl or data.matchedText or data.canonicalUrl
    title, description = part.title or data.title, part.description or data.description
    return _some(url=url, title=title, description=description) if url else {}


def _event(data: Data, part: Part) -> dict[str, Any]:
    place = obj(part.location)
    return _some(
        name=part.name or data.eventName,
        description=part.description or data.eventDescription,
        start_ms=time_ms(_amount(part.startTime) or _amount(data.eventStartTime)),
        end_ms=time_ms(_amount(part.endTime) or _amount(data.eventEndTime)),
        place=text(place.get("name")) or text(place.get("address")),
        link=part.joinLink,
        canceled=part.isCanceled or data.isEventCanceled,
    )


def _web_poll(data: Data, _part: Part) -> dict[str, Any]:
    """WEBJS and WPP; the others' is in content.py."""
    if not data.pollName:
        return {}
    names = [text(obj(o).get("name")) for o in data.pollOptions or []]
    return {
        "name": data.pollName,
        "options": [n for n in names if n],
        "selectable": _amount(data.pollSelectableOptionsCount),
    }


def _amount(value: Amount) -> int | None:
    """A whole number from 0, also the Long of protobufjs: {low, high, unsigned}."""
    if value is None:
        return None
    if type(value) is not dict:
        return count(value)
    low, high = number(value.get("low")), number(value.get("high"))
    if low is None or high is None:
        return None
    return count(int(high) * 2**32 + int(low) % 2**32)


def _hex(value: str | dict[str, Any]) -> str | None:
    """A SHA-256 as lower-case hex."""
    data = _buffer(value)
    return data.hex() if len(data) == _SHA256_BYTES else None


def _buffer(value: str | dict[str, Any]) -> bytes:
    """Bytes in base64 (GOWS, WEBJS), in a Node Buffer (NOWEB), or in a browser's array by index (WEBJS: {"0": 7}); none
    when they are none of these."""
    try:
        if type(value) is str:
            return base64.b64decode(value, validate=True)
        items = obj(value)
        data = items["data"] if "data" in items else [items[str(n)] for n in range(len(items))]
        return bytes(data) if type(data) is list else b""
    except (binascii.Error, LookupError, TypeError, ValueError):
        return b""


def _some(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _put(extra: dict[str, Any], key: str, value: Any) -> None:
    if value:
        extra[key] = value


_OF_KIND: dict[str, tuple[str, Callable[[Data, Part], dict[str, Any]]]] = {
    **dict.fromkeys(("image", "video", "video_note", "audio", "voice", "document", "sticker"), ("media", _media)),
    "text": ("link", _link),
    "album": ("album", _album),
    "event": ("event", _event),
    "poll": ("poll", _web_poll),
}
