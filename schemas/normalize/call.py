"""`call.received`, `call.accepted`, `call.rejected`: one fact a state; a call's row is what its facts say together.

`timestamp` is seconds, also with a fraction (NOWEB's debounced rejections). `from` is the caller; GOWS may leave it out and
names him `_data.CallCreator`, the group `_data.GroupJID`. `_data.status` is the engine's own word (offer, accept, reject,
terminate, timeout): `rejected` also stands for calls that nobody took.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import CallFact, Fact
from schemas.normalize.head import Body, Number, Record, head_of, jid_at, name_at, who
from schemas.normalize.people import identity
from schemas.normalize.values import time_ms
from schemas.reading import Reader

_MAX_DETAIL_CHARS = 40


class _Data(Struct, gc=False):
    status: str | None = None  # NOWEB, WEBJS
    GroupJID: str | None = None  # GOWS from here on
    CallCreator: str | None = None
    CallCreatorAlt: str | None = None


class _Payload(Struct, gc=False, rename={"from_": "from", "data": "_data"}):
    id: str | None = None
    from_: str | None = None
    timestamp: Number = None
    isVideo: bool | None = None
    isGroup: bool | None = None
    data: _Data | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_calls(body: bytes, record: Record) -> list[Fact]:
    """A CallFact, and who the caller is. Raises MalformedError without payload or the call's id."""
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    data = payload.data or _Data()
    caller = jid_at(payload.from_, "payload.from") or jid_at(data.CallCreator, "payload._data.CallCreator")
    group = jid_at(data.GroupJID, "payload._data.GroupJID")
    if caller is not None and caller.endswith("@g.us"):
        caller, group = None, caller
    at_ms = time_ms(payload.timestamp) or head.at_ms
    fact = CallFact(
        head.session, name_at(payload.id, "payload.id", "call_id"), who(caller, head.me) if caller else None,
        record.event.removeprefix("call."), (data.status or "")[:_MAX_DETAIL_CHARS] or None, group,
        payload.isVideo is True, payload.isGroup is True or group is not None, at_ms,
    )  # fmt: skip
    return [fact, *identity(head.session, data.CallCreator, data.CallCreatorAlt, "call", at_ms)]
