"""Calls of a session, newest first: one item a call, however many rows tell of it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.api.circle import Circle, open_circle
from pipeline.api.cursor import END
from pipeline.api.directory_models import Call
from pipeline.api.gather import ms
from pipeline.api.store import Store
from schemas.law import Stored, read
from schemas.law.stored import CallRow
from sql import queries

_SQL = queries("api_people")


class Place(NamedTuple):
    """Where a row stands: when it was told first, then its key."""

    first_at: datetime
    call_id: str
    caller_id: int


NEWEST = Place(END, "", 0)


async def read_calls(store: Store, session: str, before: Place, limit: int) -> tuple[list[Call], Place | None] | None:
    """A page and the place after it, when there is more. None for an unknown session."""
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            return None
        rows = [Place(*row) for row in await connection.fetch(_SQL["calls"], circle.session_id, *before, limit + 1)]
        page = rows[:limit]
        told = await connection.fetch(_SQL["calls_of"], circle.session_id, list({row.call_id for row in page}))
        await circle.learn(connection, {row["caller_id"]: row["caller"] for row in told if row["caller"] is not None})
    at = _items_by_place(circle, told)
    found = [item for row in page for item in at.get((row.call_id, row.caller_id), ())]
    return found, page[-1] if len(rows) > limit else None


def _items_by_place(circle: Circle, told: list[Any]) -> dict[tuple[str, int], list[Call]]:
    """Each call at the row that told of it first."""
    known = Stored(sessions=circle.known.sessions, identities=circle.known.identities)
    rows: dict[str, list[tuple[int, str | None, int]]] = defaultdict(list)  # call id -> first, person, caller's id
    for row in told:
        call = _row(row)
        known.calls[circle.session, row["call_id"], row["caller"]] = call
        person = circle.person(row["caller"]) if row["caller"] is not None else None
        rows[row["call_id"]].append((_first(call), person, row["caller_id"]))
    found: dict[tuple[str, int], list[Call]] = defaultdict(list)
    for (_, call_id, caller), call in read(known).calls.items():
        mine = [r for r in rows[call_id] if r[0] == _first(call) and r[1] in (caller, None)]
        named = [r[2] for r in mine if r[1] is not None]
        place = min(named) if named else mine[0][2]
        found[call_id, place].append(_item(circle, call_id, caller, call))
    return found


def _row(row: Any) -> CallRow:
    received, accepted, rejected = (
        ms(row[n]) if row[n] is not None else None for n in ("received_at", "accepted_at", "rejected_at")
    )
    return CallRow(received, accepted, rejected, row["detail"], row["group_jid"], row["is_video"], row["is_group"])


def _first(call: CallRow) -> int:
    return min(at for at in (call.received_ms, call.accepted_ms, call.rejected_ms) if at is not None)


def _item(circle: Circle, call_id: str, caller: str | None, call: CallRow) -> Call:
    times = {"received": call.received_ms, "accepted": call.accepted_ms, "rejected": call.rejected_ms}
    state = max((at, n, name) for n, (name, at) in enumerate(times.items()) if at is not None)[2]
    at = {f"{name}_at": datetime.fromtimestamp(t / 1000, UTC) if t is not None else None for name, t in times.items()}
    return Call(
        id=call_id,
        session=circle.session,
        caller=caller,
        group=call.group,
        state=state,
        detail=call.detail,
        is_video=call.is_video,
        is_group=call.is_group,
        **at,
    )
