"""Events beside the messages: presence, calls, groups, labels, archive; each engine sends only what it has.

The table follows waha.md §1.2. WEBJS is taken to run with `webjs.tagsEventsOn`, else it sends no presence.
"""

from __future__ import annotations

from random import Random

from producers.simulator import payloads_events as build
from producers.simulator import payloads_groups as groups
from producers.simulator.facts import Account, Chat, Engine, Json, Person
from producers.simulator.world import LABELS

_STATES = ("typing", "paused", "online", "recording", "offline")

_EVERYWHERE = ("presence.update", "presence.update", "presence.update", "call.received")
_GROUPS = (
    "group.v2.participants",
    "group.v2.participants",
    "group.v2.update",
    "group.v2.join",
    "group.v2.leave",
)
_CHAT_LABELS = ("label.chat.added", "label.chat.deleted")
_SOCKET = ("call.accepted", "call.rejected", "label.upsert", "label.deleted", *_CHAT_LABELS)
_OWN: dict[Engine, tuple[str, ...]] = {
    "NOWEB": _SOCKET,
    "GOWS": _SOCKET,
    "WPP": _CHAT_LABELS,
    "WEBJS": ("chat.archive",),
}
_CALLS = {"call.received": "offer", "call.accepted": "accept", "call.rejected": "reject"}


def sideline(rng: Random, account: Account, chat: Chat, who: Person, now_ms: int) -> tuple[str, Json]:
    """One event name and its payload, about `chat` and `who` in it."""
    event = rng.choice(_EVERYWHERE + _OWN[account.engine] + (_GROUPS if chat.group else ()))
    if event.startswith("group."):
        return event, _group(rng, event, account, chat, who=who, now_ms=now_ms)
    if event.startswith("label."):
        return event, _label(rng, event, account, chat)
    if event.startswith("call."):
        id_ = f"{rng.getrandbits(128):032X}"
        return event, build.call(account, who, id_, _CALLS[event], at_ms=now_ms, video=rng.random() < 0.3)
    if event == "chat.archive":
        return event, build.archive(chat, rng.random() < 0.7, now_ms)
    state = rng.choice(_STATES)
    return event, build.presence(chat, who, state, now_ms // 1000 - 60 if state == "offline" else None)


def _group(rng: Random, event: str, account: Account, chat: Chat, *, who: Person, now_ms: int) -> Json:
    if event == "group.v2.participants":
        return groups.participants(account, chat, who, rng.choice(groups.CHANGES), now_ms)
    if event == "group.v2.update":
        return groups.updated(account, chat, f"{chat.subject} {rng.randrange(10)}", now_ms)
    if event == "group.v2.join":
        return groups.joined(account, chat, now_ms)
    return groups.left(account, chat, who, now_ms)


def _label(rng: Random, event: str, account: Account, chat: Chat) -> Json:
    number = rng.randrange(len(LABELS))
    name = "" if event == "label.deleted" else LABELS[number]
    if event.startswith("label.chat."):
        return build.label_chat(account, chat, number + 1, name, number)
    return build.label(number + 1, name, number)
