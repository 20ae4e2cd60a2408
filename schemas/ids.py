"""Ids of sessions, chats, people and messages, and the little that can be said of them without looking anything up.

WAHA's serialized message id is `{true|false}_{chat}_{raw}[_{participant}]`; everything here works on that text.
"""

from __future__ import annotations

import re

from msgspec import Struct

DEFAULT_SOURCE = "default"
MAX_JID_CHARS = 256  # an id goes into a btree index (2,704 bytes at most); real ones have under 60 characters
MAX_RAW_ID_CHARS = 4096

_DEVICE = re.compile(r":\d+(?=@)")
_NUMBER = re.compile(r"^\+?[\d\s().-]{5,24}$")
_GROUP_LIKE = ("@g.us", "@broadcast")  # chats in which a message has a sender of its own


class MessageId(Struct, frozen=True, gc=False):
    """The parts of a serialized id. `participant` is None where the id has three parts."""

    from_me: bool
    chat: str
    raw: str
    participant: str | None


def qualify_session(source: str, session: str) -> str:
    """The session's name among all WAHA servers: itself for the default one, else `source:session`."""
    return session if source == DEFAULT_SOURCE else f"{source}:{session}"


def normalize_jid(jid: str) -> str:
    """`@s.whatsapp.net` becomes `@c.us`, the device part (`:12`) goes; anything else stays as it is."""
    if jid.endswith("@s.whatsapp.net"):
        jid = jid[:-15] + "@c.us"
    if ":" in jid:
        jid = _DEVICE.sub("", jid)
    return jid


def parse_message_id(text: str) -> MessageId | None:
    """The parts of a serialized id, or None when it is not one (for example a raw id).

    A participant has an `@`; any other `_` belongs to the raw id, which is opaque.
    """
    head, _, rest = text.partition("_")
    if head not in ("true", "false") or not rest:
        return None
    chat, _, raw = rest.partition("_")
    if "@" not in chat or not raw:
        return None
    participant = ""
    if "@" in raw:
        rest, _, participant = raw.rpartition("_")
        if "@" in participant:
            raw = rest
        else:
            participant = ""
    if not raw:
        return None
    return MessageId(head == "true", normalize_jid(chat), raw, normalize_jid(participant) if participant else None)


def raw_message_id(text: str) -> str:
    """The raw id of a serialized or raw one (WPP quotes serialized ids, the other engines raw ones)."""
    parsed = parse_message_id(text)
    return parsed.raw if parsed else text


def is_group_like(chat: str) -> bool:
    """True for groups, status and broadcast lists: there the sender is part of a message's key."""
    return chat.endswith(_GROUP_LIKE)


def to_chat(text: str) -> str | None:
    """A chat as a person may write it (`+49 151…`, `…@s.whatsapp.net`, `…@g.us`) as the id we store, or None."""
    text = text.strip()
    if "@" in text:
        name, _, host = text.partition("@")
        return normalize_jid(text) if name and host and len(text) <= MAX_JID_CHARS else None
    if _NUMBER.match(text):
        digits = re.sub(r"\D", "", text)
        return f"{digits}@c.us" if digits else None
    return None
