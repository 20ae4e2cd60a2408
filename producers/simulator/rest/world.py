"""What a simulated WAHA holds: sessions with chats and a history of messages, and the truth that a sync must arrive at.

A history is made once from a seed. Rows that WAHA keeps and does not show (reactions, protocol messages) stand between the
messages, several messages share a second, and some direct chats are split over a hidden id and a number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from producers.simulator import world as people
from producers.simulator.delivery import Delivery
from producers.simulator.envelopes import RequestIds, envelope, envelope_id, headers_of, to_json
from producers.simulator.facts import ENGINES, Account, Chat, Content, Edit, Engine, Json, Message, Person, Reaction
from producers.simulator.payloads import PAYLOADS, first_ack
from producers.simulator.payloads_events import session_status
from producers.simulator.world import Inbox, inbox, raw_id

START_S = 1_784_973_600  # 2026-07-25T10:00:00Z: the end of a history unless told otherwise
_DAY_S = 86_400
_OWN_SHARE = 0.4
_BURST = 0.08  # of the messages begin a second that holds several
_LONGEST_BURST = 7
_EDITABLE_MS = 900_000  # WhatsApp lets a message be edited for a quarter of an hour
_EMOJIS = ("❤️", "👍", "😂", "🙏", "")  # "": taken back


@dataclass(frozen=True, slots=True)
class Past:
    """What a history is made of. Shares are 0..1: `hidden` of the rows are not shown, `twins` of the direct chats that
    address people by hidden ids have an older part under the number."""

    engines: tuple[Engine, ...] = ENGINES
    sessions: int = 4
    chats: int = 10
    messages: int = 200  # of each session
    days: float = 7.0
    end_s: int = START_S
    media: float = 0.15
    groups: float = 0.3
    lid: float = 0.3
    hidden: float = 0.1
    twins: float = 0.5
    edited: float = 0.0  # share of the texts that were edited, once or twice, within a quarter of an hour
    reacted: float = 0.1  # share of messages with a reaction, which NOWEB's store shows and no webhook told
    same_second: int = 0  # so many messages of each session share one second, to outdo any page
    session_prefix: str = "demo"
    media_base_url: str = "http://localhost:3000"
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of WAHA's store. A hidden one takes a place on a page and is then left out of it."""

    message: Message
    hidden: bool = False
    edit: Edit | None = None  # the last one

    @property
    def at_s(self) -> int:
        """The second that the store has: NOWEB's that of the last edit."""
        moved = self.edit is not None and self.message.account.engine == "NOWEB"
        return self.edit.timestamp if moved and self.edit else self.message.timestamp


@dataclass(slots=True)
class Rows:
    """Rows in order of time."""

    rows: list[Stored] = field(default_factory=list)
    seconds: list[int] = field(default_factory=list)

    def add(self, row: Stored) -> None:
        """In its place."""
        at = bisect_right(self.seconds, row.at_s)
        self.seconds.insert(at, row.at_s)
        self.rows.insert(at, row)

    def within(self, since_s: float, until_s: float) -> tuple[int, int]:
        """The first index of the window and the one after its last."""
        return bisect_left(self.seconds, since_s), bisect_right(self.seconds, until_s)


class SimulatedSession:
    """One session: its account, its store, and whether it works."""

    def __init__(self, box: Inbox) -> None:
        self.account, self.chats = box.account, list(box.chats)
        self.status = "WORKING"
        self.store_enabled = True
        self.config: Json = {}  # what was put, but for the store
        self.pictures: dict[str, str] = {}  # URLs of profile pictures, on WhatsApp's own server, by person or group
        self.all = Rows()
        self.by_chat: dict[str, Rows] = {chat.id: Rows() for chat in box.chats}
        self.by_raw_id: dict[str, Message] = {}
        self.reactions: dict[str, tuple[Reaction, ...]] = {}  # by raw id of the message
        self.edits: dict[str, tuple[Edit, ...]] = {}  # by raw id of the message, oldest first
        self._merged: dict[tuple[str, ...], Rows] = {}

    def add(self, message: Message, *, hidden: bool = False) -> None:
        """One more row in the store."""
        self._put(Stored(message, hidden))
        if not hidden:
            self.by_raw_id[message.raw_id] = message

    def _put(self, row: Stored) -> None:
        self.all.add(row)
        self.by_chat.setdefault(row.message.chat.id, Rows()).add(row)
        self._merged.clear()

    def rows_of(self, chat_id: str, *, merge: bool) -> Rows | None:
        """Rows of a chat, of its twin too when merged; None for a chat that WAHA does not know."""
        ids = tuple(sorted({chat_id, *(self._twins(chat_id) if merge else ())} & self.by_chat.keys()))
        if len(ids) < 2:
            return self.by_chat[ids[0]] if ids else None
        if ids not in self._merged:
            merged = Rows()
            for id_ in ids:
                for row in self.by_chat[id_].rows:
                    merged.add(row)
            self._merged[ids] = merged
        return self._merged[ids]

    def _twins(self, chat_id: str) -> set[str]:
        found: set[str] = set()
        for chat in self.chats:
            if chat.peer and chat_id in (chat.peer.id, chat.peer.lid):
                found |= {chat.peer.id, chat.peer.lid}
        return found

    def revoke(self, message: Message) -> None:
        """The message is gone from the store, as WAHA leaves it."""
        self._take(message)
        del self.by_raw_id[message.raw_id]

    def _take(self, message: Message) -> None:
        for rows in (self.all, self.by_chat[message.chat.id]):
            at = next(n for n, row in enumerate(rows.rows) if row.message is message)
            del rows.rows[at], rows.seconds[at]
        self._merged.clear()

    def edit(self, edit: Edit) -> None:
        """The message shows its new text from now on, but for GOWS: its store keeps the first one."""
        self.edits[edit.target.raw_id] = (*self.edits.get(edit.target.raw_id, ()), edit)
        if self.account.engine != "GOWS":
            self._take(edit.target)
            self._put(Stored(edit.target, edit=edit))

    @property
    def people(self) -> list[Person]:
        """Everybody it knows."""
        found = {p.number: p for chat in self.chats for p in ([chat.peer] if chat.peer else chat.members)}
        return [found[number] for number in sorted(found)]

    def truth(self) -> dict[str, Message]:
        """Every message that a complete archive has, by serialized id, as it was written."""
        return {m.id: m for m in self.by_raw_id.values()}

    def edited_text(self, message: Message) -> str | None:
        """What a complete archive shows in place of its text; None when nobody edited it."""
        return self.edits[message.raw_id][-1].text if message.raw_id in self.edits else None


class SimulatedWaha:
    """The sessions of one server."""

    def __init__(self, past: Past | None = None) -> None:
        self.past = past or Past()
        rng = Random(self.past.seed)  # noqa: S311 - reproducible on purpose
        self.sessions = {s.account.session: s for s in _sessions(self.past, rng)}

    def outage(self, name: str, since_s: int, until_s: int, messages: int, *, seed: int = 3) -> Delivery:
        """A session did not work: when it does again its store has messages of which no webhook told. Answers what it says
        then: it worked, it stopped, it works."""
        rng, session = Random(seed), self.sessions[name]  # noqa: S311 - reproducible on purpose
        for _ in range(messages):
            content = people.content(rng, self.past.media, session.account.engine)
            session.add(_message(session.account, rng, session.chats, rng.randrange(since_s, until_s), content))
        begun_ms = int(self.past.end_s - self.past.days * _DAY_S) * 1000
        points = [("WORKING", begun_ms), ("STOPPED", since_s * 1000), ("WORKING", until_s * 1000)]
        payload = session_status(session.account, points)
        return _delivery(session.account, "session.status", payload, until_s * 1000, rng, RequestIds(rng))

    def webhooks(self, *, lost: float = 0.0, seed: int = 2) -> Iterator[tuple[Message, Delivery]]:
        """The whole past as WAHA told it when it happened, but for a share that was never delivered."""
        rng = Random(seed)  # noqa: S311 - reproducible on purpose
        request_ids = RequestIds(rng)
        told: list[tuple[Message, Edit | None]] = [
            (row.message, None) for s in self.sessions.values() for row in s.all.rows if not row.hidden
        ]
        told += [(e.target, e) for s in self.sessions.values() for edits in s.edits.values() for e in edits]
        told.sort(key=lambda one: (one[1] or one[0]).at_ms)
        for message, edit in told:
            if rng.random() >= lost:
                yield message, webhook(message, rng, request_ids) if edit is None else _edited(edit, rng, request_ids)
            elif edit is not None and message.account.engine == "GOWS":  # else nobody would ever know of it
                yield message, _edited(edit, rng, request_ids)


def webhook(message: Message, rng: Random, request_ids: RequestIds) -> Delivery:
    """`message.any` of a message, as it is posted."""
    payload = PAYLOADS[message.account.engine].message(message)
    return _delivery(message.account, "message.any", payload, message.at_ms + 100, rng, request_ids, message.id)


def _edited(edit: Edit, rng: Random, request_ids: RequestIds) -> Delivery:
    payload = PAYLOADS[edit.account.engine].edited(edit)
    return _delivery(edit.account, "message.edited", payload, edit.at_ms + 100, rng, request_ids, edit.target.id)


def _delivery(  # noqa: PLR0917 - what one is made of
    account: Account,
    event: str,
    payload: Json,
    at_ms: int,
    rng: Random,
    request_ids: RequestIds,
    id_: str | None = None,
) -> Delivery:
    body = envelope(account, event, payload, id_=envelope_id(rng, at_ms), at_ms=at_ms)
    headers = headers_of(account.version, request_ids.next(at_ms), at_ms)
    return Delivery(to_json(body), headers, account.session, event, id_, at_ms / 1000)


def _sessions(past: Past, rng: Random) -> Iterator[SimulatedSession]:
    for n in range(past.sessions):
        box = inbox(
            rng, past.engines[n % len(past.engines)], f"{past.session_prefix}-{n + 1:02d}", chats=past.chats,
            groups=past.groups, lid=past.lid, base_url=past.media_base_url,
        )  # fmt: skip
        twins = [Chat(peer=c.peer) for c in box.chats if c.peer and c.lid and rng.random() < past.twins]
        session = SimulatedSession(Inbox(box.account, (*box.chats, *twins)))
        for message, hidden in _history(session.account, session.chats, past, rng):
            session.add(message, hidden=hidden)
        session.reactions = _reactions(session, past)
        for edit in list(_edits(session, past)):
            session.edit(edit)
        yield session


def _edits(session: SimulatedSession, past: Past) -> Iterator[Edit]:
    """As _reactions: drawn apart."""
    rng = Random(f"{past.seed} edits {session.account.session}")  # noqa: S311 - reproducible on purpose
    for m in session.by_raw_id.values():
        if m.content.kind != "text" or rng.random() >= past.edited:
            continue
        span_ms = min(_EDITABLE_MS, past.end_s * 1000 - m.at_ms)
        times = sorted({m.at_ms + 1 + rng.randrange(span_ms) for _ in range(rng.randint(1, 2))})
        for number, at_ms in enumerate(times, 1):
            raw = raw_id(rng, web=m.account.engine != "NOWEB")
            yield Edit(m.account, m.chat, m.author, raw, at_ms, m, f"{m.content.text} (edit {number})")


def _reactions(session: SimulatedSession, past: Past) -> dict[str, tuple[Reaction, ...]]:
    """What people say of messages at the moment; drawn apart, so that the history is the same without."""
    rng = Random(f"{past.seed} {session.account.session}")  # noqa: S311 - reproducible on purpose
    found: dict[str, tuple[Reaction, ...]] = {}
    for message in session.by_raw_id.values():
        if rng.random() < past.reacted:
            chat = message.chat
            people_there = (*chat.members, chat.peer) if chat.peer else chat.members
            who = rng.sample([None, *people_there], rng.randint(1, 2))
            found[message.raw_id] = tuple(_reaction(message, person, rng) for person in who)
    return found


def _reaction(message: Message, by: Person | None, rng: Random) -> Reaction:
    at_ms = message.at_ms + rng.randrange(1000, 60_000)
    raw = raw_id(rng, web=message.account.engine != "NOWEB")
    return Reaction(message.account, message.chat, by, raw, at_ms, message, rng.choice(_EMOJIS))


def _history(account: Account, chats: list[Chat], past: Past, rng: Random) -> Iterator[tuple[Message, bool]]:
    span_s = int(past.days * _DAY_S)
    times = sorted(past.end_s - rng.randrange(1, span_s) for _ in range(past.messages))
    at = 0
    while at < len(times):
        burst = rng.randrange(2, _LONGEST_BURST) if rng.random() < _BURST else 1
        times[at : at + burst] = [times[at]] * len(times[at : at + burst])
        at += burst
    for n in range(min(past.same_second, len(times))):
        times[n] = times[0]
    for at_s in times:
        while rng.random() < past.hidden:
            yield _message(account, rng, chats, at_s, Content(text="")), True
        yield _message(account, rng, chats, at_s, people.content(rng, past.media, account.engine)), False


def _message(account: Account, rng: Random, chats: list[Chat], at_s: int, content: Content) -> Message:
    chat = chats[int(len(chats) * rng.random() ** 2)]
    own = rng.random() < _OWN_SHARE
    author = None if own else chat.peer or rng.choice(chat.members)
    raw = raw_id(rng, web=account.engine != "NOWEB")
    ack = first_ack(account.engine, from_me=own)
    return Message(account, chat, author, raw, at_s * 1000 + rng.randrange(1000), content, ack)
