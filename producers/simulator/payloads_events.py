"""Payloads of the events that are no messages: session, presence, calls, labels, archive, the engine's own.

They hardly differ by engine; where they do the function takes the account. Groups have a module of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from producers.simulator.facts import Account, Call, Chat, Json, Person, jid

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


def call(account: Account, made: Call, status: str, at_ms: int) -> Json:
    """call.received, call.accepted and call.rejected. The time is a float unless it is a whole second.

    WEBJS tells of a rejection only when it was asked for it (`api`).
    """
    kind = {"isVideo": made.video, "isGroup": False}
    data: Json = {}
    if account.engine == "NOWEB":
        date = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        who = {"id": made.id, "from": jid(made.caller.id), "date": date.replace("+00:00", "Z")}
        data = who | kind | {"status": status}
    elif account.engine == "WEBJS" and status == "reject":
        data = {"id": made.id, "from": made.caller.id, "status": status, "api": True}
    time = at_ms / 1000 if at_ms % 1000 else at_ms // 1000
    return {"id": made.id, "from": made.caller.id, "timestamp": time} | kind | {"_data": data}


def state_change(account: Account) -> Json:
    """state.change (deprecated): the engine's own object; known of NOWEB alone."""
    return {"connection": "open", "receivedPendingNotifications": True} if account.engine == "NOWEB" else {}


def engine_event(account: Account, raw_id: str) -> Json:
    """engine.event: what the engine's library says, as it says it."""
    if account.engine == "NOWEB":
        return {"event": "messages.upsert", "data": {"messages": [], "type": "notify"}}
    if account.engine == "GOWS":
        return {"event": "events.Receipt", "data": {"Type": "read", "MessageIDs": [raw_id]}}
    return {"event": "message_create", "data": {"id": {"id": raw_id}}}


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
