"""The engine's own message inside `_data` for NOWEB and GOWS: WhatsApp's protobuf message as JSON.

The two libraries spell some fields differently (stanzaId and stanzaID) and write bytes differently: Node
Buffers as a list of numbers, Go bytes as base64.
"""

from __future__ import annotations

import base64

from producers.simulator.facts import MEDIA_TYPES, Content, Engine, Json, Kind, Message, jid
from producers.simulator.files import digest_of, sound_of

_FIELDS: dict[Kind, str] = {
    "image": "imageMessage",
    "video": "videoMessage",
    "voice": "audioMessage",
    "audio": "audioMessage",
    "document": "documentMessage",
    "sticker": "stickerMessage",
}

# A JPEG's first bytes: enough of a thumbnail for a payload.
THUMBNAIL = "/9j/4AAQ"


def proto(message: Message) -> Json:
    """The content of `message` as a protobuf message in the spelling of its engine."""
    content, engine = message.content, message.account.engine
    if content.has_media:
        return {_FIELDS[content.kind]: _file(message)}
    if content.kind in ("location", "live_location"):
        return _location(content)
    if content.kind == "vcard":
        return _contacts(content)
    if content.kind in ("poll", "event"):
        return _asking(content)
    if message.reply_to is None:
        return {"conversation": content.text}
    return {"extendedTextMessage": {"text": content.text, "contextInfo": _quote(message.reply_to, engine)}}


def _asking(content: Content) -> Json:
    """A poll, or an invitation to an event."""
    if content.kind == "event":
        return {"eventMessage": {"isCanceled": False, "name": content.text, "startTime": content.start_s}}
    options = [{"optionName": name} for name in content.options]
    return {"pollCreationMessageV3": {"name": content.text, "options": options, "selectableOptionsCount": 1}}


def protocol(target: Message, type_: int) -> Json:
    """A protocol message on `target`: 0 revokes, 14 edits."""
    key: Json = {"remoteJid": jid(target.chat.id), "fromMe": target.from_me, "id": target.raw_id}
    if target.account.engine == "GOWS":
        key = {"remoteJID": key["remoteJid"], "fromMe": key["fromMe"], "ID": key["id"]}
    return {"key": key, "type": type_}


def vcard_name(vcard: str) -> str:
    """The FN line of a vCard."""
    return next((line[3:] for line in vcard.splitlines() if line.startswith("FN:")), "")


def _quote(quoted: Message, engine: Engine) -> Json:
    id_name = "stanzaID" if engine == "GOWS" else "stanzaId"
    sender = quoted.participant or (quoted.account.me.id if quoted.from_me else quoted.chat.id)
    return {
        id_name: quoted.raw_id,
        "participant": jid(sender),
        "quotedMessage": {"conversation": quoted.content.text},
    }


def _file(message: Message) -> Json:
    content, go = message.content, message.account.engine == "GOWS"
    size, digest = digest_of(message.raw_id, content.kind)
    path = f"/v/t62.7118-24/{message.raw_id[-12:]}.enc"
    url, sha = ("URL", "fileSHA256") if go else ("url", "fileSha256")
    out: Json = {
        url: f"https://mmg.whatsapp.net{path}",
        "mimetype": MEDIA_TYPES[content.kind][0],
        "fileLength": size if go else str(size),
        "mediaKey": _bytes(digest[::-1], go),
        sha: _bytes(digest, go),
        "directPath": path,
    }
    if content.kind in ("voice", "audio"):
        seconds, heights = sound_of(message.raw_id, content.kind)
        out |= {"ptt" if not go else "PTT": content.kind == "voice", "seconds": seconds}
        if content.kind == "voice":
            out["waveform"] = _bytes(heights, go)
    if content.filename:
        out["fileName"] = content.filename
    if content.text:
        out["caption"] = content.text
    return out


def _bytes(value: bytes, go: bool) -> object:
    return base64.b64encode(value).decode() if go else {"type": "Buffer", "data": list(value)}


def _location(content: Content) -> Json:
    where = {"degreesLatitude": content.latitude, "degreesLongitude": content.longitude}
    if content.kind == "live_location":
        return {"liveLocationMessage": where | {"caption": content.place, "sequenceNumber": 1}}
    return {"locationMessage": where | {"name": content.place, "address": content.text}}


def _contacts(content: Content) -> Json:
    cards = [{"displayName": vcard_name(v), "vcard": v} for v in content.vcards]
    if len(cards) == 1:
        return {"contactMessage": cards[0]}
    return {"contactsArrayMessage": {"displayName": f"{len(cards)} contacts", "contacts": cards}}
