"""Events without a table of their own, kept whole: `engine.event`, `state.change`, and every name that WAHA adds.

Also what is left of an event of which only a part could be read.
"""

from __future__ import annotations

import json

import msgspec

from schemas.envelope import read_envelope
from schemas.facts import Fact, OtherFact
from schemas.normalize.head import Body, Record, head_of
from schemas.reading import Reader, scrub

_read = Reader(Body)


def to_others(body: bytes, record: Record) -> list[Fact]:
    """The event, whole. Raises MalformedError when there is no session."""
    head = head_of(_read(body), record)
    chat = read_envelope(body).chat or None
    return [OtherFact(head.session, record.event, head.event_id, head.engine, chat, head.at_ms, _clean(body))]


remainder = to_others


def _clean(body: bytes) -> str:
    """The body as it is, or written anew without what PostgreSQL refuses."""
    if b"\\u0000" not in body:
        try:
            msgspec.json.decode(body)
            return body.decode()
        except (ValueError, RecursionError):  # lone surrogates, NaN
            pass
    return msgspec.json.encode(scrub(json.loads(body))).decode()
