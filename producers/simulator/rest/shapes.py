"""Chats, people, groups and labels as each engine's REST lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from producers.simulator import payloads_noweb
from producers.simulator.facts import Chat, Edit, Engine, Json, Message, Person, Reaction, jid
from producers.simulator.payloads import PAYLOADS

_COLORS = ("#ff9485", "#64c4ff", "#ffd429", "#dfaef0")


def message(m: Message, *, downloaded: bool, reactions: Sequence[Reaction] = (), edit: Edit | None = None) -> Json:
    """A WAMessage. `media` is null unless the file was asked for (downloadMedia). Only NOWEB shows reactions."""
    payload = PAYLOADS[m.account.engine].message(m) if edit is None else edited(m, edit)
    if m.content.has_media and not downloaded:
        payload["media"] = None
    if reactions and m.account.engine == "NOWEB":
        payload["_data"]["reactions"] = payloads_noweb.stored_reactions(reactions)
    return payload


def edited(m: Message, edit: Edit) -> Json:
    """An edited message: it has the new text, and a mark. NOWEB's store takes over Baileys' update, the edit's time with it;
    GOWS' keeps the message as it was (WAHA issue 1635)."""
    engine = m.account.engine
    now = replace(m, content=replace(m.content, text=edit.text))
    if engine == "GOWS":
        return PAYLOADS[engine].message(m)
    if engine == "NOWEB":
        payload = PAYLOADS[engine].message(replace(now, at_ms=edit.at_ms))
        payload["_data"]["message"] = {"editedMessage": {"message": payload["_data"]["message"]}}
        return payload
    payload = PAYLOADS[engine].message(now)
    key = {"fromMe": edit.from_me, "remote": edit.chat.id, "id": edit.raw_id, "_serialized": edit.id}
    payload["_data"] |= {"latestEditMsgKey": key, "latestEditSenderTimestampMs": edit.at_ms}
    return payload


def chat(engine: Engine, c: Chat, at_s: int | None) -> Json:
    """A row of /chats."""
    name = c.subject or (c.peer.name if c.peer else "")
    if engine == "NOWEB":
        return {"id": jid(c.id), "name": name, "conversationTimestamp": at_s}
    if engine == "GOWS":
        return {"id": c.id, "name": name, "conversationTimestamp": at_s}
    return {"id": _wrapped(c.id), "name": name, "isGroup": c.group is not None, "timestamp": at_s, "unreadCount": 0}


def contact(engine: Engine, person: Person) -> Json:
    """A row of /contacts/all."""
    if engine == "NOWEB":
        return {"id": person.id, "name": person.name, "pushname": person.name, "lid": person.lid}
    if engine == "GOWS":
        return {"id": person.id, "name": person.name, "pushname": person.name}
    return {
        "id": person.id, "number": person.number, "name": person.name, "pushname": person.name, "shortName": person.name[:4],
        "isMe": False, "isGroup": False, "isWAContact": True, "isMyContact": True, "isBlocked": False,
    }  # fmt: skip


def group(engine: Engine, c: Chat) -> Json:
    """A group, with its members in the engine's own form."""
    if engine == "GOWS":
        members = [{"JID": jid(c.address(p)), "PhoneNumber": jid(p.id), "IsAdmin": False} for p in c.members]
        return {"JID": c.id, "Name": c.subject, "Topic": "", "OwnerJID": "", "Participants": members}
    members = [{"id": jid(c.address(p)), "admin": None} for p in c.members]
    if engine == "NOWEB":
        return {
            "id": c.id,
            "subject": c.subject,
            "desc": None,
            "owner": None,
            "size": len(members),
            "participants": members,
        }
    return {"id": _wrapped(c.id), "name": c.subject, "groupMetadata": {"subject": c.subject, "participants": members}}


def groups(engine: Engine, found: list[Chat]) -> Json | list[Json]:
    """All groups: NOWEB answers an object keyed by id."""
    rows = [group(engine, c) for c in found]
    return {row["id"]: row for row in rows} if engine == "NOWEB" else rows


def member(c: Chat, person: Person) -> Json:
    """A row of /participants/v2, the same for all engines."""
    return {"id": c.address(person), "pn": person.id, "role": "participant"}


def label(number: int, name: str) -> Json:
    """A row of /labels."""
    color = number % len(_COLORS)
    return {"id": str(number), "name": name, "color": color, "colorHex": _COLORS[color]}


def _wrapped(id_: str) -> Json:
    user, _, server = id_.partition("@")
    return {"server": server, "user": user, "_serialized": id_}
