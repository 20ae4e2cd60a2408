"""Payloads of the events that are no messages: session, presence, calls, labels, archive.

They hardly differ by engine; where they do the function takes the account. Groups have a module of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

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


def call(account: Account, caller: Person, id_: str, status: str, *, at_ms: int, video: bool = False) -> Json:
    """call.received, call.accepted and call.rejected. The time is a float unless it is a whole second."""
    kind = {"isVideo": video, "isGroup": False}
    data: Json = {}
    if account.engine == "NOWEB":
        date = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        data = {"id": id_, "from": jid(caller.id), "date": date.replace("+00:00", "Z")} | kind | {"status": status}
    time = at_ms / 1000 if at_ms % 1000 else at_ms // 1000
    return {"id": id_, "from": caller.id, "timestamp": time} | kind | {"_data": data}


def label(number: int, name: str, color: int) -> Json:
    """label.upsert and label.deleted, and the label inside a WPP label.chat.* event."""
    return {"id": str(number), "name": name, "color": color, "colorHex": LABEL_COLORS[color]}


def label_chat(account: Account, chat: Chat, number: int, name: str, color: int) -> Json:
    """label.chat.added and label.chat.deleted: only WPP knows the label itself."""
    known = label(number, name, color) if account.engine == "WPP" else None
    return {"labelId": str(number), "chatId": chat.id, "label": known}


def archive(chat: Chat, archived: bool, at_ms: int) -> Json:
    """chat.archive (WEBJS)."""
    return {"id": chat.id, "archived": archived, "timestamp": at_ms // 1000}
