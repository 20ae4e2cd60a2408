"""What is said of a page of messages: rows of every table of facts, as the merge law takes them, and read by it.

Which message a fact means, whether it counts and who is who is decided by schemas.law alone; nothing of it is repeated
in SQL. All facts of a page come in one statement, by index ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from schemas.facts import EditFact, RankedContent
from schemas.ids import is_group_like
from schemas.keys import ME, ME_TAIL, PEER, PEER_TAIL, RAW_BYTES, UNKNOWN_TAIL, author_tail, key_range
from schemas.law.stored import AckRow, AnswerRow, ContentRow, RevokeRow, SessionRow, Stored
from schemas.law.view import MessageId, State, read
from schemas.rows import ContentFact
from sql import queries

if TYPE_CHECKING:
    from asyncpg import Record

_SQL, _MEDIA = queries("api"), queries("media")


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat under all the ids it is known by: chat_id -> jid. With `twins`, several chats."""

    session: str
    session_id: int
    jids: Mapping[int, str]
    twins: Mapping[int, Sequence[int]] = field(default_factory=dict)  # of several chats, which ids are one

    def same(self, chat_id: int) -> Sequence[int]:
        """All ids of the chat that has this one."""
        return self.twins.get(chat_id) or tuple(self.jids)


@dataclass(slots=True)
class Page:
    """Messages with what is said of them. `shown`: the message of each row that is to be shown, in order."""

    state: State
    shown: list[tuple[Record, MessageId]] = field(default_factory=list)
    rows: dict[MessageId, Record] = field(default_factory=dict)  # the row whose content is shown
    files: dict[MessageId, Record] = field(default_factory=dict)  # what became of its file


def ranges(chat: Chat, places: Iterable[tuple[int, UUID]]) -> tuple[list[int], list[UUID], list[UUID]]:
    """All keys that have the raw ids of these (chat_id, key), under every id that their chats have."""
    spans = {(other, key.bytes[:RAW_BYTES]): key_range(key.bytes) for c, key in places for other in chat.same(c)}
    found = [(chat_id, UUID(bytes=low), UUID(bytes=high)) for (chat_id, _), (low, high) in spans.items()]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


async def gather(connection: Any, chat: Chat, hash_key: bytes, rows: Sequence[Record], known: Stored) -> Page:
    """The page of these content rows. `known` has the session's account, and identities of the chat."""
    where = ranges(chat, ((r["chat_id"], r["key"]) for r in rows))
    facts = dict(await connection.fetchrow(_SQL["facts"], *where))
    keyed = {(k[0], k[1]): _Key(*k) for k in facts.pop("keys")}
    here = {(r["chat_id"], r["key"]): r for r in rows}
    for place, k in keyed.items():
        if place not in here:  # a twin under another id, or somebody who reuses a raw id: rare
            found = await connection.fetchrow(_SQL["content"], k.chat_id, k.ts, k.key)
            if found is not None:
                here[place] = found
    people = {row["sender_id"] for row in here.values()} | {row[2] for rows in facts.values() for row in rows}
    await fetch_identities(connection, chat.session, people - chat.jids.keys() - {None, 0}, known)
    if facts["revokes"]:
        await _learn_members(connection, chat, {row[2] for row in facts["revokes"]}, known)
    names = _Names(chat, hash_key, here.values(), known)
    contents = {place: _content(row, chat, keyed[place]) for place, row in here.items() if place in keyed}
    for place, ranked in contents.items():
        known.contents[names.key(*place)] = ContentRow(ranked, ms(keyed[place].first_at))
    for table, to_row in _ROWS.items():
        joined = getattr(known, table)
        for chat_id, key, _, rest, *said in facts[table]:
            whole = (*names.key(chat_id, key), rest)
            joined[whole] = to_row(whole, *said)
    page = Page(read(known))
    ids = {id(message.content): found for found, message in page.state.messages.items()}
    for place, mine in contents.items():  # of twins the one whose content is shown
        if (message := ids.get(id(mine.content))) is not None:
            page.rows[message] = here[place]
    messages = {(row["chat_id"], row["key"]): message for message, row in page.rows.items()}
    page.files = await _files(connection, page.rows, where)
    page.shown = [(row, messages[p]) for row in rows if (p := (row["chat_id"], row["key"])) in messages]
    return page


async def _files(connection: Any, rows: Mapping[MessageId, Record], where: Any) -> dict[MessageId, Record]:
    """By message; a twin's where it is the one that is stored. Equal keys under the ids of one chat are twins."""
    if not any(row["has_media"] for row in rows.values()):
        return {}
    best: dict[UUID, Record] = {}
    for job in await connection.fetch(_MEDIA["of_messages"], *where):
        before = best.get(job["key"])
        if before is None or before["sha256"] is None:
            best[job["key"]] = job
    return {message: best[row["key"]] for message, row in rows.items() if row["has_media"] and row["key"] in best}


def know_account(row: Record, session: str, known: Stored) -> None:
    """Whose account the session is, from its row."""
    if row["me_at"] is not None:
        account = (row["me_at"], row["me"] or "", row["me_lid"] or "", row["me_push_name"] or "")
        known.sessions[session,] = SessionRow((row["me_at"], "", "", ""), account)


async def fetch_identities(connection: Any, session: str, ids: Iterable[int], known: Stored) -> dict[int, str]:
    """What was said of these ids being one person; answers everybody who was named, id -> jid."""
    named = dict[int, str]()
    for row in await connection.fetch(_SQL["identities"], list(ids)):
        known.identities[session, row["lid"], row["phone"]] = (ms(row["at"]), row["fallen"], row["source"])
        named[row["lid_id"]], named[row["phone_id"]] = row["lid"], row["phone"]
    return named


async def _learn_members(connection: Any, chat: Chat, by_ids: Iterable[int], known: Stored) -> None:
    """Whether those who took messages back were in the group."""
    groups = [chat_id for chat_id, jid in chat.jids.items() if jid.endswith("@g.us")]
    if not groups:
        return
    for row in await connection.fetch(_SQL["member_lists"], groups):
        known.settings[chat.session, chat.jids[row["group_id"]], "member_list", ms(row["at"])] = ("", "")
    for row in await connection.fetch(_SQL["members_of"], groups, list(by_ids)):
        key = (chat.session, chat.jids[row["group_id"]], row["person"], ms(row["at"]))
        known.members[key] = (row["event_id"], row["role"], row["by_jid"] or "")


class _Names:
    """Texts behind keys: the raw id from the messages that have it, the author from those who may be meant."""

    def __init__(self, chat: Chat, hash_key: bytes, rows: Iterable[Record], known: Stored) -> None:
        self._chat = chat
        self._raw = {row["key"].bytes[:RAW_BYTES]: row["raw_id"] for row in rows}
        people = {jid for row in rows for jid in (row["sender"], chat.jids[row["chat_id"]]) if jid}
        people |= {jid for _, lid, phone in known.identities for jid in (lid, phone)}
        self._authors: dict[bytes, str | None] = {author_tail(hash_key, jid): jid for jid in people}
        self._authors |= {ME_TAIL: ME, PEER_TAIL: PEER, UNKNOWN_TAIL: None}
        self._known = dict[tuple[int, UUID], tuple[str, str, str, str | None]]()

    def key(self, chat_id: int, key: UUID) -> tuple[str, str, str, str | None]:
        """(session, chat, raw id, author); an author whom nobody here is has no name that anybody has."""
        if (named := self._known.get((chat_id, key))) is None:
            raw, tail = key.bytes[:RAW_BYTES], key.bytes[RAW_BYTES:]
            author = self._authors[tail] if tail in self._authors else tail.hex()
            named = self._chat.session, self._chat.jids[chat_id], self._raw[raw], author
            self._known[chat_id, key] = named
        return named


class _Key(NamedTuple):
    """A row of message_keys."""

    chat_id: int
    key: UUID
    rank: UUID
    ts: datetime
    first_at: datetime


def _content(row: Record, chat: Chat, key: _Key) -> RankedContent:
    jid = chat.jids[row["chat_id"]]
    author = PEER
    if is_group_like(jid) and not row["from_me"]:
        author = row["sender"] or jid
    fact = ContentFact(
        chat.session, jid, row["sender"], row["participant"], author, ms(row["ts"]), row["from_me"], row["has_media"],
        row["raw_id"], row["type"], row["body"], row["reply_to"], row["source"], row["push_name"], row["mimetype"],
        row["filename"], row["event_id"], row["extra"], 0,
    )  # fmt: skip
    return RankedContent(fact, key.rank.bytes, ms(row["received_at"]), row["lane"])


def ms(at: datetime) -> int:
    """Unix milliseconds."""
    return round(at.timestamp() * 1000)


def _maybe_ms(at: datetime | None) -> int | None:
    return ms(at) if at is not None else None


# ---------------------------------------------------------------- a row from its key and what its table says
_When = datetime | None
_Whole = tuple[str, str, str, str | None, str]  # session, chat, raw id, author; recipient, edit id or person


def _ack(_: _Whole, level: int, *times: _When) -> AckRow:
    return AckRow(level, (None, None, *(_maybe_ms(t) for t in times)))


def _edit(key: _Whole, at: datetime, event_id: str, text: str | None, text_before: str | None) -> EditFact:
    session, chat, raw_id, author, edit_id = key
    return EditFact(session, chat, raw_id, author or "", edit_id, text, ms(at), event_id, text_before)


def _revoke(_: _Whole, at: datetime, event_id: str, text_before: str | None) -> RevokeRow:
    return RevokeRow(ms(at), event_id, text_before)


def _reaction(_: _Whole, at: datetime, event_id: str, emoji: str) -> tuple[int, str, str]:
    return ms(at), event_id, emoji


def _vote(_: _Whole, at: _When, event_id: str, failed_at: _When, options: list[str] | None) -> AnswerRow:
    return _answer(at, event_id, failed_at, tuple(options or ()))


def _response(_: _Whole, at: _When, event_id: str, failed_at: _When, *said: str | int | None) -> AnswerRow:
    return _answer(at, event_id, failed_at, said)


def _answer(at: _When, event_id: str, failed_at: _When, what: tuple[Any, ...]) -> AnswerRow:
    return AnswerRow((ms(at), event_id, what) if at is not None else None, _maybe_ms(failed_at))


_ROWS: dict[str, Callable[..., Any]] = {
    "acks": _ack,
    "edits": _edit,
    "revokes": _revoke,
    "reactions": _reaction,
    "votes": _vote,
    "responses": _response,
}
