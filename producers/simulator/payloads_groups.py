"""Payloads of group.v2.*: join and leave of the account itself, changes of the group and of its members; and of the
older group.join and group.leave.

The timestamp is milliseconds on NOWEB and GOWS, seconds on the browser engines [src, obs].
"""

from __future__ import annotations

from typing import Literal

from producers.simulator.facts import Account, Chat, Json, Person, jid

Change = Literal["join", "leave", "promote", "demote"]
CHANGES: tuple[Change, ...] = ("join", "leave", "promote", "demote")
DESCRIPTION = "Planung"
REQUESTS = ("created", "rejected", "revoked")

_ROLES: dict[Change, str] = {
    "join": "participant",
    "leave": "left",
    "promote": "admin",
    "demote": "participant",
}
_ACTIONS: dict[Change, str] = {"join": "add", "leave": "remove", "promote": "promote", "demote": "demote"}


def joined(account: Account, chat: Chat, at_ms: int) -> Json:
    """group.v2.join: the account itself is in a group now, all of it is told."""
    members: list[Json] = [
        {"id": chat.address(person), "pn": person.id, "role": "superadmin" if n == 0 else "participant"}
        for n, person in enumerate(chat.members)
    ]
    members.append({"id": account.me.id, "pn": account.me.id, "role": "participant"})
    group: Json = {
        "id": chat.id,
        "subject": chat.subject,
        "description": DESCRIPTION,
        "invite": f"https://chat.whatsapp.com/{chat.id[:12]}",
        "membersCanAddNewMember": True,
        "membersCanSendMessages": True,
        "newMembersApprovalRequired": False,
        "participants": members,
    }
    raw = {"id": chat.id, "subject": chat.subject} if account.engine == "NOWEB" else {}
    return {"timestamp": _time(account, at_ms), "group": group, "_data": raw}


def left(account: Account, chat: Chat, by: Person, at_ms: int) -> Json:
    """group.v2.leave: the account itself was removed by `by`."""
    raw = _raw(account, chat, by, {"id": jid(account.me.id)}, "remove")
    return {"timestamp": _time(account, at_ms), "group": {"id": chat.id}, "_data": raw}


def updated(account: Account, chat: Chat, subject: str, at_ms: int) -> Json:
    """group.v2.update: only what changed."""
    group: Json = {"id": chat.id, "subject": subject}
    raw = dict(group) if account.engine == "NOWEB" else {}
    return {"timestamp": _time(account, at_ms), "group": group, "_data": raw}


def participants(account: Account, chat: Chat, person: Person, change: Change, at_ms: int) -> Json:
    """group.v2.participants. NOWEB says role admin for a demotion too."""
    role = "admin" if account.engine == "NOWEB" and change == "demote" else _ROLES[change]
    member: Json = {"id": chat.address(person)}
    if account.engine == "WPP":
        member["pn"] = None
    who = {"id": jid(chat.address(person)), "phoneNumber": jid(person.id)}
    return {
        "group": {"id": chat.id},
        "type": change,
        "timestamp": _time(account, at_ms),
        "participants": [member | {"role": role}],
        "_data": _raw(account, chat, person, who, _ACTIONS[change]),
    }


def asked(chat: Chat, person: Person, action: str, at_ms: int) -> Json:
    """group.v2.participants.join-request, as NOWEB sends it."""
    return {
        "group": {"id": chat.id},
        "action": action,
        "requesterId": chat.address(person),
        "requesterPn": person.id,
        "requestMethod": "invite_link",
        "timestamp": at_ms // 1000,
        "_data": {},
    }


def metadata(account: Account, chat: Chat, description: str) -> Json:
    """group.join of NOWEB: the group in its library's own words."""
    members: list[Json] = [
        {"id": jid(chat.address(person)), "phoneNumber": jid(person.id), "admin": "superadmin" if n == 0 else None}
        for n, person in enumerate(chat.members)
    ]
    members.append({"id": jid(account.me.id), "admin": None})
    about = {"id": chat.id, "subject": chat.subject, "desc": description, "owner": jid(account.me.id)}
    return about | {"participants": members}


def notification(chat: Chat, author: Person, person: Person, change: Change, *, raw_id: str, at_ms: int) -> Json:
    """group.join and group.leave of WEBJS: WhatsApp Web's own notification."""
    sender = chat.address(author)
    id_ = {"fromMe": False, "remote": chat.id, "id": raw_id, "participant": sender}
    return {
        "id": id_ | {"_serialized": f"false_{chat.id}_{raw_id}_{sender}"},
        "body": "",
        "type": _ACTIONS[change],
        "timestamp": at_ms // 1000,
        "chatId": chat.id,
        "author": sender,
        "recipientIds": [chat.address(person)],
    }


def _raw(account: Account, chat: Chat, author: Person, member: Json, action: str) -> Json:
    """NOWEB's own event; what the other engines have here is not known and left empty."""
    if account.engine != "NOWEB":
        return {}
    return {"id": chat.id, "author": jid(author.id), "participants": [member], "action": action}


def _time(account: Account, at_ms: int) -> int:
    return at_ms if account.engine in ("NOWEB", "GOWS") else at_ms // 1000
