"""`message.edited`: the new text of a message, by whoever edits.

| | id of the edit | when |
|---|---|---|
| NOWEB, GOWS | `id` | `_data` protocolMessage.timestampMs (timestampMS), else `timestamp` |
| WEBJS | none: `id` is the message's | envelope: `timestamp` is the message's |
| WPP | `id` where it differs from the message's | envelope: `timestamp` is the message's |

Ties between edits of one millisecond are broken by the edit's id; WEBJS' are the envelopes' ids, which are ULIDs.
"""

from __future__ import annotations

from schemas.errors import MalformedError
from schemas.facts import EditFact, Fact
from schemas.normalize.engine import EngineData, Protocol
from schemas.normalize.head import BROWSER_ENGINES, Body, Head, Number, Record, head_of
from schemas.normalize.people import people_of
from schemas.normalize.references import Act, ActPayload, act_of, raw_at
from schemas.normalize.values import time_ms
from schemas.reading import Reader


class _Payload(ActPayload, rename={"data": "_data"}):
    timestamp: Number = None
    body: str | None = None
    editedMessageId: str | None = None
    data: EngineData | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_edits(body: bytes, record: Record) -> list[Fact]:
    """An EditFact, and what `_data` says of people. Raises MalformedError without payload, ids or chat."""
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    act, data = act_of(payload, head, "payload"), payload.data or EngineData()
    raw_id = _target(payload, act, data.protocol, head.engine)
    edit_id = act.raw_id if act.raw_id != raw_id else head.event_id
    at_ms = _time(payload, data, head)
    fact = EditFact(
        head.session, act.chat, raw_id, act.author, edit_id, payload.body or None, at_ms, head.event_id,
        data.prevBody or None,
    )  # fmt: skip
    return [fact, *people_of(data, head, act.by, at_ms)]


def _target(payload: _Payload, act: Act, protocol: Protocol | None, engine: str | None) -> str:
    raw_id = payload.editedMessageId or (protocol.key.raw_id if protocol is not None and protocol.key else None)
    if not raw_id and engine in BROWSER_ENGINES:
        return act.raw_id
    return raw_at(raw_id, "payload.editedMessageId")


def _time(payload: _Payload, data: EngineData, head: Head) -> int:
    if head.engine in BROWSER_ENGINES:
        return time_ms(data.latestEditSenderTimestampMs) or head.at_ms
    protocol = data.protocol
    return (time_ms(protocol.edited_at) if protocol is not None else None) or time_ms(payload.timestamp) or head.at_ms
