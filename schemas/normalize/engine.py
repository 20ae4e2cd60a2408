"""`_data`: the parts of the engines' own messages that say who somebody is and what a protocol message means.

NOWEB has `key` and `message`, GOWS `Info` and `Message` (Go's spelling: remoteJID, ID, timestampMS), WEBJS and WPP flat
fields. What a message shows (text, media, poll, …) is read in content.py and details.py.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from schemas import webhook
from schemas.ids import MAX_JID_CHARS, normalize_jid
from schemas.normalize.head import Number

REVOKE, EDIT = 0, 14  # types of WhatsApp's protocol messages
_TYPE_NAMES = {"REVOKE": REVOKE, "MESSAGE_EDIT": EDIT}


class Key(Struct, gc=False, rename={"id_gows": "ID"}):
    """A message key of WhatsApp: of this message (NOWEB `key`), or of the one it is about."""

    id: str | None = None
    id_gows: str | None = None
    remoteJid: str | None = None
    remoteJidAlt: str | None = None
    participant: str | None = None
    participantAlt: str | None = None
    fromMe: bool | None = None
    isViewOnce: bool | None = None

    @property
    def raw_id(self) -> str | None:
        """The raw id in either spelling."""
        return self.id or self.id_gows


class Info(webhook.Info, gc=False):
    """GOWS."""

    Chat: str | None = None
    Sender: str | None = None
    SenderAlt: str | None = None
    RecipientAlt: str | None = None


class Protocol(Struct, gc=False):
    """A protocol message: `type` 0 takes a message back, 14 edits it."""

    key: Key | None = None
    type: int | str | None = None
    editedMessage: dict[str, Raw] | None = None
    timestampMs: Number = None  # NOWEB
    timestampMS: Number = None  # GOWS

    @property
    def kind(self) -> int | None:
        """The type's number; a protobuf default (0) may be left out, and some serialisers write the name."""
        return self.type if type(self.type) is int else _TYPE_NAMES.get(str(self.type)) if self.type else REVOKE

    @property
    def edited_at(self) -> Number:
        """The editor's own clock."""
        return self.timestampMs or self.timestampMS


class _Inner(Struct):
    protocolMessage: Protocol | None = None


class _Wrapper(Struct):
    """`editedMessage`: a message around the protocol message."""

    message: _Inner | None = None
    Message: _Inner | None = None


class Proto(Struct):
    """The parts of WhatsApp's message object that are no content."""

    protocolMessage: Protocol | None = None
    editedMessage: _Wrapper | None = None

    @property
    def protocol(self) -> Protocol | None:
        """The protocol message, also inside its wrapper."""
        if self.protocolMessage is not None or self.editedMessage is None:
            return self.protocolMessage
        inner = self.editedMessage.message or self.editedMessage.Message
        return inner.protocolMessage if inner is not None else None


class EngineData(Struct, rename={"proto_noweb": "message", "proto_gows": "Message", "info": "Info"}):
    """`_data` of a message-like payload."""

    key: Key | None = None  # NOWEB
    info: Info | None = None  # GOWS
    proto_noweb: Proto | None = None
    proto_gows: Proto | None = None
    pushName: str | None = None  # NOWEB
    verifiedBizName: str | None = None  # NOWEB
    notifyName: str | None = None  # WEBJS
    prevBody: str | None = None  # WEBJS, of an edit
    latestEditSenderTimestampMs: Number = None  # WEBJS, WPP
    protocolMessageKey: dict[str, Any] | None = None  # WEBJS, of a revoke

    @property
    def protocol(self) -> Protocol | None:
        """The protocol message, when the message is one."""
        proto = self.proto_noweb or self.proto_gows
        return proto.protocol if proto is not None else None


def lid_and_phone(one: str | None, other: str | None) -> tuple[str, str] | None:
    """(hidden id, phone id) when the two ids are one of each kind, in whichever order."""
    if not one or not other or len(one) > MAX_JID_CHARS or len(other) > MAX_JID_CHARS:
        return None
    a, b = normalize_jid(one), normalize_jid(other)
    if a.endswith("@c.us") and b.endswith("@lid"):
        a, b = b, a
    return (a, b) if a.endswith("@lid") and b.endswith("@c.us") else None
