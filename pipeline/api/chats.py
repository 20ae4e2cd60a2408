"""The chat in a URL: what people and clients write, into the id that is stored.

Built on schemas.ids, which says what is stored; called by the routes alone.
"""

from __future__ import annotations

import re

from schemas.ids import to_chat

HOW_TO_WRITE_A_CHAT = (
    "write a phone number with its country code (+49 151 23456789), or an id: …@c.us, …@s.whatsapp.net, "
    "…@g.us, …@lid, …@newsletter or status@broadcast"
)
_SEPARATORS = re.compile(r"[\s+().-]")
_ID = re.compile(r"[^\s@\x00-\x1f\x7f]+@[a-z][a-z0-9.]*")


def parse_chat(text: str) -> str:
    """The stored id of a chat. Raises ValueError that says how to write one.

    A bare number and `@s.whatsapp.net` become `@c.us`; in a number `+`, spaces, dashes, dots and brackets are
    free.
    """
    chat = to_chat(text) if text.isascii() else None
    if chat is not None and chat.endswith("@c.us"):
        digits = _SEPARATORS.sub("", chat[: -len("@c.us")])
        chat = f"{digits}@c.us" if digits.isdigit() else None
    if chat is None or not _ID.fullmatch(chat):
        raise ValueError(HOW_TO_WRITE_A_CHAT)
    return chat
