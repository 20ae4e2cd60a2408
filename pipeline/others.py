"""Events without a table of their own, kept whole: any consumer that reads a topic keeps what it has no table for."""

from __future__ import annotations

from hashlib import sha256

from asyncpg.pgproto.pgproto import UUID

from pipeline.batch import Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import FactTable, Part, Rows, to_time
from schemas.facts import OtherFact

OTHERS = FactTable(
    "other_events", ("session_id", "key"), (Part("oldest", ("at", "body", "event", "event_id", "engine", "chat")),),
    frozenset({"body", "event", "event_id", "engine", "chat"}),
)  # fmt: skip
COMPARED = Compared(OTHERS.name, OTHERS.key, ("at", "event_id"), shown=("event", "engine"))


def stage_other(fact: OtherFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    """One row an event: by its name and its envelope's id, or by its body where there is none."""
    session_id = ids.session(fact.session)
    key = sha256(f"{fact.event}\x00{fact.event_id or fact.body}".encode()).digest()[:16]
    said = (to_time(fact.at_ms), fact.body, fact.event, fact.event_id, fact.engine, fact.chat)
    rows.put(OTHERS, (session_id, key), (session_id, UUID(key), *said, origin))
