"""`message.revoked`: somebody takes a message back. The chat and who does it stand in `after`, the act.

| | `after`, `before` | when | whose message, in groups |
|---|---|---|---|
| NOWEB, GOWS | act as a message, null | `after.timestamp` | `_data` protocolMessage.key.participant |
| WEBJS | act as a message, the message | envelope: `after.timestamp` may be the message's | `before.participant` |
| WPP | keys {id, fromMe, remoteJid, participant} | envelope | `before.participant` |

In direct chats, status and broadcasts only the author can revoke, so he is whoever does. In groups the author is what the
act says, or unknown. `before` is not taken as content: it is what the sender of the event says was there, and is kept so.
"""

from __future__ import annotations

from schemas.errors import MalformedError
from schemas.facts import Fact, RevokeFact
from schemas.normalize.engine import EngineData
from schemas.normalize.head import BROWSER_ENGINES, Body, Head, Number, Record, head_of, jid_at, who
from schemas.normalize.people import people_of
from schemas.normalize.references import Act, ActPayload, act_of, raw_at
from schemas.normalize.values import time_ms
from schemas.reading import Reader


class _Part(ActPayload, rename={"data": "_data"}):
    """`after` or `before`: a message, or a key."""

    remoteJid: str | None = None
    timestamp: Number = None
    body: str | None = None
    data: EngineData | None = None


class _Payload(ActPayload, rename={"data": "_data"}):
    revokedMessageId: str | None = None
    after: _Part | None = None
    before: _Part | None = None
    data: EngineData | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)
_NOBODY = _Part()


def to_revokes(body: bytes, record: Record) -> list[Fact]:
    """A RevokeFact, and what `_data` says of people. Raises MalformedError without payload, act, ids or chat."""
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    after, before = payload.after, payload.before or _NOBODY
    if after is None:
        raise MalformedError("revoke_missing", "payload.after")
    act = act_of(_addressed(after), head, "payload.after")
    data = payload.data or after.data or EngineData()
    at_ms = head.at_ms if head.engine in BROWSER_ENGINES else time_ms(after.timestamp) or head.at_ms
    raw_id = _target(payload, after, act)
    fact = RevokeFact(
        head.session, act.chat, raw_id, _author(act, before, data, head), act.by, at_ms, head.event_id,
        act.raw_id if act.raw_id != raw_id else None, before.body or None,
    )  # fmt: skip
    return [fact, *people_of(data, head, act.by, at_ms)]


def _addressed(after: _Part) -> _Part:
    """A key names its chat in remoteJid, also when it is the account's own."""
    if after.remoteJid is not None and after.from_ is None:
        after.from_ = after.to = after.remoteJid
    return after


def _target(payload: _Payload, after: _Part, act: Act) -> str:
    """The raw id; where WEBJS leaves it out, that of the protocol message, else the act's: it has the message's own id."""
    key = (after.data.protocolMessageKey if after.data is not None else None) or {}
    named = key.get("id")
    if payload.revokedMessageId or type(named) is str:
        return raw_at(payload.revokedMessageId or named, "payload.revokedMessageId")
    return act.raw_id


def _author(act: Act, before: _Part, data: EngineData, head: Head) -> str | None:
    if not act.chat.endswith("@g.us"):
        return act.author
    key = data.protocol.key if data.protocol is not None else None
    named = jid_at(before.participant, "payload.before.participant") or (
        jid_at(key.participant, "payload._data.message.protocolMessage.key.participant") if key is not None else None
    )
    return who(named, head.me) if named is not None else None
