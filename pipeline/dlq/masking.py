"""Payloads without what people wrote and without their numbers: enough to see what is wrong with an event, not whom it
concerns. What is not known to be harmless is hidden."""

from __future__ import annotations

import re
from typing import Any

_SLUG = re.compile(r"[\w@./+=;:-]{1,120}")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,60}")
_DIGITS = re.compile(r"\d{3,}(?=\d{2})")
_SPACED_NUMBER = re.compile(r"\+?\d(?:[ ()./-]{0,2}\d){6,}")
_QUOTED = re.compile(r"""["'].*["']""", re.DOTALL)

# Fields whose texts WAHA chooses: slugs of its own.
_SLUGS = frozenset(
    {"event", "engine", "type", "mimetype", "source", "status", "state", "version", "tier", "ackName", "platform"}
)
# Fields that hold ids of messages, chats, people or sessions: shown but for the digits.
_IDS = frozenset(
    {"id", "_serialized", "session", "from", "to", "participant", "author", "chatId", "remoteJid", "lid", "server",
     "remote", "key", "replyTo"}
)  # fmt: skip
_TIMES = frozenset({"t", "ts", "time", "at", "timestamp", "messageTimestamp", "ack"})

_MAX_ITEMS = 20
_MAX_DEPTH = 12
_LONGEST_PLAIN_NUMBER = 6  # digits; shorter ones are no phone numbers


def mask_digits(text: str) -> str:
    """Runs of five digits and more, but for the last two: 4915112345678@c.us becomes •••78@c.us."""
    return _DIGITS.sub("•••", text)


def mask_slug(text: str) -> str:
    """A name that should be a slug and that a sender may have chosen."""
    return mask_digits(text) if _SLUG.fullmatch(text) else _hidden(text)


def mask_detail(text: str) -> str:
    """What a database or a decoder says, without the values that it quotes."""
    first = text.partition("DETAIL:")[0].strip()
    return _SPACED_NUMBER.sub("•••", _QUOTED.sub("‹…›", first))


def mask_json(value: Any, field: str = "", depth: int = 0) -> Any:
    """A decoded JSON value: its shape, its slugs, its ids without most digits; texts only by their length."""
    if isinstance(value, dict):
        return _mask_object(value, depth)
    if isinstance(value, list):
        if depth >= _MAX_DEPTH:
            return f"‹list of {len(value)}›"
        shown = [mask_json(item, field, depth + 1) for item in value[:_MAX_ITEMS]]
        return shown if len(value) <= _MAX_ITEMS else [*shown, f"‹{len(value) - _MAX_ITEMS} more›"]
    if isinstance(value, str):
        known = field in _SLUGS or (field in _IDS and " " not in value)
        return mask_slug(value) if known and value else _hidden(value)
    if isinstance(value, bool) or value is None:
        return value
    harmless = isinstance(value, int) and (field in _TIMES or len(str(abs(value))) <= _LONGEST_PLAIN_NUMBER)
    return value if harmless else "‹number›"  # a float may be somebody's place


def _mask_object(value: dict[str, Any], depth: int) -> Any:
    if depth >= _MAX_DEPTH:
        return f"‹object of {len(value)}›"
    shown: dict[str, Any] = {}
    for number, (name, item) in enumerate(value.items()):
        if number == 5 * _MAX_ITEMS:
            shown["…"] = f"‹{len(value) - number} more›"
            break
        plain = name if _NAME.fullmatch(name) else f"‹name {number}›"
        shown[mask_digits(plain)] = mask_json(item, name, depth + 1)
    return shown


def _hidden(text: str) -> str:
    return f"‹text of {len(text)}›" if text else ""
