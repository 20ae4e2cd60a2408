"""Payloads of the events that are no messages: session, presence, calls, groups, labels, archive.

They hardly differ by engine; where they do (the unit of time in group events) the function takes the account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from producers.simulator.facts import Account, Chat, Json, Person, jid

Point = tuple[str, int]  # a session's status and when it was reached, ms
LABEL_COLORS = ("#ff9485", "#64c4ff", "#ffd429", "#dfaef0", "#99b6c1", "#55ccb3")


def session_status(account: Account, points: Sequence[Point]) -> Json:
    """session.status: the last point is the present one; three are kept, oldest first."""
    statuses = [{"status": status, "timestamp": at_ms} for status, at_ms in points[-3:]]
    out: Json = {"name": account.session, "status": points[-1][0], "statuses": statuses}
    if tuple(map(int, account.version.split("."))) >= (2026, 7, 1):
        out["data"] = None
    return out


def presence(chat: Chat, person: Person, state: str, last_seen_s: int | None = None) -> Json:
    """presence.update."""
    who = {"participant": chat.address(person), "lastKnownPresence": state, "lastSeen": last_seen_s}
    return {"id": chat.id, "presences": [who]}


def call(id_: str, caller: Person, at_ms: int, status: str, *, video: bool = False) -> Json:
    """call.received, call.accepted and call.rejected. The time is a float unless it is a whole second."""
    return {
        "id": id_,
        "from": caller.id,
        "timestamp": at_ms / 1000 if at_ms % 1000 else at_ms // 1000,
        "isVideo": video,
        "isGroup": False,
        "_data": {"id": id_, "from": jid(caller.id), "isVideo": video, "isGroup": False, "status": status},
    }


def group_join(account: Account, chat: Chat, at_ms: int) -> Json:
    """group.v2.join: the account itself is in a group now, all of it is told."""
    members: list[Json] = [
        {"id": chat.address(person), "pn": person.id, "role": "superadmin" if n == 0 else "participant"}
        for n, person in enumerate(chat.members)
    ]
    members.append({"id": account.me.id, "pn": account.me.id, "role": "participant"})
    group: Json = {
        "id": chat.id,
        "subject": chat.subject,
        "description": "",
        "invite": f"https://chat.whatsapp.com/{chat.id[:12]}",
        "membersCanAddNewMember": True,
        "membersCanSendMessages": True,
        "newMembersApprovalRequired": False,
        "participants": members,
    }
    return {"timestamp": _group_time(account, at_ms), "group": group, "_data": {}}


def group_leave(account: Account, chat: Chat, at_ms: int) -> Json:
    """group.v2.leave: the account itself left."""
    return {"timestamp": _group_time(account, at_ms), "group": {"id": chat.id}, "_data": {}}


def group_update(account: Account, chat: Chat, subject: str, at_ms: int) -> Json:
    """group.v2.update: only what changed."""
    return {
        "timestamp": _group_time(account, at_ms),
        "group": {"id": chat.id, "subject": subject},
        "_data": {},
    }


def group_participants(
    account: Account,
    chat: Chat,
    person: Person,
    change: Literal["join", "leave", "promote", "demote"],
    at_ms: int,
) -> Json:
    """group.v2.participants. NOWEB says role admin for a demotion too (waha.md §1.4)."""
    role = {"join": "participant", "leave": "left", "promote": "admin", "demote": "participant"}[change]
    if account.engine == "NOWEB" and change == "demote":
        role = "admin"
    member: Json = {"id": chat.address(person)}
    if account.engine == "WPP":
        member["pn"] = None
    return {
        "group": {"id": chat.id},
        "type": change,
        "timestamp": _group_time(account, at_ms),
        "participants": [member | {"role": role}],
        "_data": {},
    }


def label(number: int, name: str) -> Json:
    """label.upsert and label.deleted, and the label inside a WPP label.chat.* event."""
    color = number % len(LABEL_COLORS)
    return {"id": str(number), "name": name, "color": color, "colorHex": LABEL_COLORS[color]}


def label_chat(account: Account, chat: Chat, number: int, name: str) -> Json:
    """label.chat.added and label.chat.deleted: only WPP knows the label itself."""
    known = label(number, name) if account.engine == "WPP" else None
    return {"labelId": str(number), "chatId": chat.id, "label": known}


def archive(chat: Chat, archived: bool, at_ms: int) -> Json:
    """chat.archive (WEBJS)."""
    return {"id": chat.id, "archived": archived, "timestamp": at_ms // 1000}


def _group_time(account: Account, at_ms: int) -> int:
    """Milliseconds on NOWEB and GOWS, seconds on the browser engines [src, obs]."""
    return at_ms if account.engine in ("NOWEB", "GOWS") else at_ms // 1000
