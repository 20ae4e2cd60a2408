"""Events beside the messages: presence, groups, labels, archive, the engine's own; each engine sends only what it has.

What WAHA 2026.4.1 sends. WEBJS is taken to run with `webjs.tagsEventsOn`, else it sends no presence; all are taken to
be asked for state.change and engine.event, which `*` leaves out.
"""

from __future__ import annotations

from random import Random

from producers.simulator import payloads_events as build
from producers.simulator import payloads_groups as groups
from producers.simulator.facts import Account, Chat, Engine, Json, Person
from producers.simulator.world import LABELS, raw_id

Told = list[tuple[str, Json]]  # event names and payloads

_STATES = ("typing", "paused", "online", "recording", "offline")

_EVERYWHERE = ("presence.update", "presence.update", "presence.update", "engine.event")
_GROUPS = (
    "group.v2.participants",
    "group.v2.participants",
    "group.v2.update",
    "group.v2.join",
    "group.v2.leave",
)
_CHAT_LABELS = ("label.chat.added", "label.chat.deleted")
_SOCKET = ("state.change", "label.upsert", "label.deleted", *_CHAT_LABELS)
_OWN: dict[Engine, tuple[str, ...]] = {
    "NOWEB": _SOCKET,
    "GOWS": _SOCKET,
    "WPP": ("state.change", *_CHAT_LABELS),
    "WEBJS": ("chat.archive",),  # its state.change is a word, on which WAHA fails
}
_OWN_GROUPS: dict[Engine, tuple[str, ...]] = {"NOWEB": ("group.v2.participants.join-request",)}


def sideline(rng: Random, account: Account, chat: Chat, who: Person, now_ms: int) -> Told:
    """One event, about `chat` and `who` in it, and its older twin where the engine sends one."""
    engine = account.engine
    in_groups = _GROUPS + _OWN_GROUPS.get(engine, ()) if chat.group else ()
    event = rng.choice(_EVERYWHERE + _OWN[engine] + in_groups)
    if event.startswith("group."):
        return _group(rng, event, account, chat, who=who, now_ms=now_ms)
    if event.startswith("label."):
        return [(event, _label(rng, event, account, chat))]
    if event == "chat.archive":
        return [(event, build.archive(chat, rng.random() < 0.7, now_ms))]
    if event == "state.change":
        return [(event, build.state_change(account))]
    if event == "engine.event":
        return [(event, build.engine_event(account, raw_id(rng, web=True)))]
    state = rng.choice(_STATES)
    return [(event, build.presence(chat, who, state, now_ms // 1000 - 60 if state == "offline" else None))]


def _group(rng: Random, event: str, account: Account, chat: Chat, *, who: Person, now_ms: int) -> Told:
    if event == "group.v2.participants":
        return _changed(rng, account, chat, who, now_ms)
    if event == "group.v2.participants.join-request":
        return [(event, groups.asked(chat, who, rng.choice(groups.REQUESTS), now_ms))]
    if event == "group.v2.update":
        return [(event, groups.updated(account, chat, f"{chat.subject} {rng.randrange(10)}", now_ms))]
    if event == "group.v2.join":
        older: Told = (
            [("group.join", groups.metadata(account, chat, groups.DESCRIPTION))] if account.engine == "NOWEB" else []
        )
        return [(event, groups.joined(account, chat, now_ms)), *older]
    return [(event, groups.left(account, chat, who, now_ms))]


def _changed(rng: Random, account: Account, chat: Chat, who: Person, now_ms: int) -> Told:
    change = rng.choice(groups.CHANGES)
    told: Told = [("group.v2.participants", groups.participants(account, chat, who, change, now_ms))]
    if account.engine == "WEBJS" and change in ("join", "leave"):
        notification = groups.notification(
            chat, chat.members[0], who, change, raw_id=raw_id(rng, web=True), at_ms=now_ms
        )
        told.append((f"group.{change}", notification))
    return told


def _label(rng: Random, event: str, account: Account, chat: Chat) -> Json:
    number = rng.randrange(len(LABELS))
    name = "" if event == "label.deleted" else LABELS[number]
    if event.startswith("label.chat."):
        return build.label_chat(account, chat, number + 1, name, number)
    return build.label(number + 1, name, number)
