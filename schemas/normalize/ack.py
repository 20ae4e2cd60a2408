"""`message.ack` and `message.ack.group`: who got, read or played a message, one fact an event.

| | who | when |
|---|---|---|
| NOWEB direct, GOWS direct, WEBJS direct, WPP | nobody is named: the peer or the server | envelope; GOWS its own |
| NOWEB group | `_data.receipt.userJid` (`participant` is me) | `_data.receipt.{receipt,read,played}Timestamp`, s |
| GOWS group | `participant` | `_data.Timestamp`, RFC 3339 |
| WEBJS group | `participant` (`fromMe` is inverted: not read) | envelope |

A WEBJS direct ack carries the whole message: only its ack is read.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import ACK_LEVELS, AckFact, Fact
from schemas.ids import is_group_like
from schemas.normalize.head import Body, Head, Number, Record, head_of, jid_at, who
from schemas.normalize.references import ActPayload, Target, act_of, target_of
from schemas.normalize.values import iso_ms, time_ms
from schemas.reading import Reader

_LEVELS = {"ERROR": -1, "PENDING": 0, "SERVER": 1, "DEVICE": 2, "READ": 3, "PLAYED": 4}
_SERVER, _DEVICE = 1, 2


class _Receipt(Struct, gc=False):
    """NOWEB: a person's receipt in a group; one of the times is there."""

    userJid: str | None = None
    receiptTimestamp: Number = None
    readTimestamp: Number = None
    playedTimestamp: Number = None


class _Data(Struct, gc=False):
    receipt: _Receipt | None = None  # NOWEB
    Timestamp: str | None = None  # GOWS


class _Payload(ActPayload, gc=False, rename={"data": "_data"}):
    ack: int | None = None
    ackName: str | None = None
    data: _Data | list[Any] | None = None  # a list on WPP


class _Body(Body, gc=False):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_acks(body: bytes, record: Record) -> list[Fact]:
    """One AckFact. Raises MalformedError without payload, message id or level."""
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    level = _level(payload)
    target = target_of(payload.id, "payload.id", head.me) or _from_raw_id(payload, head)
    data = payload.data if type(payload.data) is _Data else None
    receipt = data.receipt if data is not None else None
    recipient = None
    if is_group_like(target.chat):
        recipient = _recipient(payload, receipt, target, head)
        if receipt is not None and recipient is not None and level == _SERVER:
            level = _DEVICE  # NOWEB calls a person's delivery receipt SERVER; only his device can give one
    at_ms = _time(data, receipt) if data is not None else None
    return [AckFact(head.session, target.chat, target.raw_id, target.author, recipient, level, at_ms or head.at_ms)]


def _level(payload: _Payload) -> int:
    level = payload.ack if payload.ack is not None else _LEVELS.get(payload.ackName or "")
    if level is None:
        raise MalformedError("ack_missing", "payload.ack")
    if level not in ACK_LEVELS:
        raise MalformedError("ack_unknown", "payload.ack")
    return level


def _from_raw_id(payload: _Payload, head: Head) -> Target:
    act = act_of(payload, head, "payload")
    return Target(act.chat, act.raw_id, act.author)


def _recipient(payload: _Payload, receipt: _Receipt | None, target: Target, head: Head) -> str | None:
    """The person; None when the event names only the account that sent the message (NOWEB's server acks, WPP)."""
    jid = jid_at(receipt.userJid, "payload._data.receipt.userJid") if receipt is not None else None
    jid = jid or jid_at(payload.participant, "payload.participant")
    person = who(jid, head.me) if jid is not None else None
    return None if person == target.author else person


def _time(data: _Data, receipt: _Receipt | None) -> int | None:
    if receipt is None:
        return iso_ms(data.Timestamp)
    return time_ms(receipt.playedTimestamp) or time_ms(receipt.readTimestamp) or time_ms(receipt.receiptTimestamp)
