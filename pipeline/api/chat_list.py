"""Chats of a session by their newest message: the message with what is said of it, labels, archive and a guess at unread.

The order is chat_latest's, kept to the minute by the contacts consumer; everything shown is read from the facts themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from pipeline.api import items
from pipeline.api.circle import Circle, open_circle
from pipeline.api.cursor import END, OLDEST
from pipeline.api.directory_models import Chat, Label
from pipeline.api.gather import Chat as ChatIds
from pipeline.api.gather import Page, gather, ms
from pipeline.api.store import Store
from schemas.keys import RAW_BYTES
from schemas.law.stored import LabelRow
from sql import queries

_SQL = queries("api_people")
_UNREAD_DAYS = 30
_UNREAD_MOST = 100  # what a person reads as "many"; bounds a page at 100 index entries a chat


class Place(NamedTuple):
    """Where a chat stands in the list."""

    minute_at: datetime
    chat_id: int


NEWEST = Place(END, 0)


async def read_chats(store: Store, session: str, before: Place, limit: int) -> tuple[list[Chat], Place | None] | None:
    """A page and the place after it, when there is more. None for an unknown session."""
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            return None
        rows = await connection.fetch(_SQL["chats"], circle.session_id, *before, limit + 1)
        places = [Place(row["minute_at"], row["chat_id"]) for row in rows[:limit]]
        await circle.learn(connection, {row["chat_id"]: row["jid"] for row in rows[:limit]})
        latest = {row["chat_id"]: row["minute_at"] for row in await connection.fetch(_SQL["latest"], list(circle.jids))}
        shown = [place for place in places if place == _newest_twin(circle, place, latest)]
        found = await _read(store, connection, circle, shown) if shown else []
    return found, places[-1] if len(rows) > limit else None


def _newest_twin(circle: Circle, place: Place, latest: dict[int, datetime]) -> Place:
    """A chat under two ids stands where the newer of them does."""
    same = circle.ids[circle.chat(circle.jids[place.chat_id])]
    return max(Place(latest[number], number) for number in same if number in latest)


async def _read(store: Store, connection: Any, circle: Circle, shown: list[Place]) -> list[Chat]:
    twins = {number: circle.ids[circle.chat(circle.jids[p.chat_id])] for p in shown
             for number in circle.ids[circle.chat(circle.jids[p.chat_id])]}  # fmt: skip
    await _learn_chats(connection, circle, list(twins))
    rows = await _last_messages(connection, twins, shown)
    chats = ChatIds(circle.session, circle.session_id, {number: circle.jids[number] for number in twins}, twins)
    page = await gather(connection, chats, await store.hash_key(connection), rows, circle.known)
    unread = await _unread(connection, twins, shown)
    await circle.learn_names(connection)
    return [_item(circle, circle.chat(circle.jids[p.chat_id]), page, unread[p.chat_id]) for p in shown]


async def _learn_chats(connection: Any, circle: Circle, ids: list[int]) -> None:
    """Labels, archive and subjects."""
    session, known, jids = circle.session, circle.known, circle.jids
    await circle.learn_settings(connection)
    for row in await connection.fetch(_SQL["archive"], ids):
        known.archived[session, jids[row["chat_id"]]] = (ms(row["at"]), row["event_id"], row["archived"])
    carried = await connection.fetch(_SQL["chat_labels"], ids)
    for row in carried:
        key = (session, jids[row["chat_id"]], row["label_id"])
        known.chat_labels[key] = (ms(row["at"]), row["event_id"], row["carried"])
    labels = {row["label_id"] for row in carried}
    for row in await connection.fetch(_SQL["labels"], circle.session_id, list(labels)) if labels else ():
        look = None
        if row["described_at"] is not None:
            texts = (row["described_event_id"], row["name"] or "", row["color"], row["color_hex"] or "")
            look = (ms(row["described_at"]), *texts)
        known.labels[session, row["label_id"]] = LabelRow(look, (ms(row["at"]), row["event_id"], row["deleted"]))


async def _last_messages(connection: Any, twins: dict[int, list[int]], shown: list[Place]) -> list[Any]:
    """The newest message of each chat: where the list says that it is, else (its time was mended) wherever it is."""
    times = [place.minute_at for place in shown]
    rows: list[Any] = await connection.fetch(_between("last_messages", min(times), max(times)), list(twins))
    found = {row["chat_id"] for row in rows}
    missing = [n for place in shown if found.isdisjoint(twins[place.chat_id]) for n in twins[place.chat_id]]
    if missing:
        rows += await connection.fetch(_between("last_messages", OLDEST, max(times)), missing)
    return rows


async def _unread(connection: Any, twins: dict[int, list[int]], shown: list[Place]) -> dict[int, int]:
    """By the chat's place: how many messages of others are newer than what the account wrote or read."""
    back, times = timedelta(days=_UNREAD_DAYS), [place.minute_at for place in shown]
    since = {number: place.minute_at - back for place in shown for number in twins[place.chat_id]}
    sql = _between("newest", min(times) - back, max(times))
    found: dict[int, list[Any]] = defaultdict(list)
    for row in await connection.fetch(sql, list(since), list(since.values()), _UNREAD_MOST):
        found[row["chat_id"]].append(row)
    return {p.chat_id: _count(row for number in twins[p.chat_id] for row in found[number]) for p in shown}


def _count(rows: Iterable[Any]) -> int:
    """Twins once; a message that one of its twins says is read is read."""
    ordered = sorted(rows, key=items.position, reverse=True)
    reached = {row["key"].bytes[:RAW_BYTES] for row in ordered if row["reached"]}
    new = set[bytes]()
    for row in ordered:
        raw = row["key"].bytes[:RAW_BYTES]
        if raw in reached:
            break
        new.add(raw)
    return min(len(new), _UNREAD_MOST)


def _item(circle: Circle, chat: str, page: Page, unread: int) -> Chat:
    state, session = page.state, circle.session
    mine = [(items.position(row), message, row) for message, row in page.rows.items() if message.chat == chat]
    last = max(mine, key=lambda found: found[0], default=None)
    labels = sorted(label for s, c, label in state.chat_labels if (s, c) == (session, chat))
    is_group = chat.endswith("@g.us")
    subject = state.settings.get((session, chat, "subject"))
    return Chat(
        id=chat,
        session=session,
        name=(orjson.loads(subject) if subject is not None else None) if is_group else circle.name(chat),
        is_group=is_group,
        archived=(session, chat) in state.archived,
        labels=[
            Label(id=label, name=state.labels.get((session, label), ("",))[0] or None)
            for label in labels
            if (session, label) in state.labels or (session, label) not in circle.known.labels  # a deleted one is gone
        ],
        unread=unread,
        last_message=items.to_message(last[2], state, last[1], file=page.files.get(last[1]))
        if last is not None
        else None,
    )


def _between(name: str, first: datetime, last: datetime) -> str:
    """A statement for whole days; one text a window, see pipeline.api.store."""
    lower, day = first.astimezone(UTC).date(), last.astimezone(UTC).date()
    upper = "infinity" if day.year == MAXYEAR else f"{day + timedelta(days=1)}T00:00:00Z"
    return _SQL[name].format(lower=f"{lower}T00:00:00Z", upper=upper)
