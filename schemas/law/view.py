"""What a person sees: messages with what was said of them, calls, chats and groups, read from the rows.

Which message a fact means, whether it counts, and who is who is decided here and nowhere else. Facts that do not count are
not lost: they stand in `flagged` with the reason.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from schemas.facts import EditFact
from schemas.keys import ME, PEER
from schemas.law.people import Groups, People, names_of
from schemas.law.stored import CallRow, ContentRow, Key, Stored, Times, greatest, join_calls, join_contents, least
from schemas.rows import ContentFact

K = TypeVar("K")


class MessageId(NamedTuple):
    """A message under canonical ids."""

    session: str
    chat: str
    raw_id: str
    author: str


@dataclass(slots=True)
class Message:
    """A message as it is shown."""

    content: ContentFact
    first_ms: int  # when it was received first
    edits: list[EditFact] = field(default_factory=list)  # oldest first
    revoked_by: str | None = None  # shown as a tombstone; the text stays behind it
    revoked_ms: int | None = None
    acks: dict[str | None, tuple[int, Times]] = field(default_factory=dict)  # recipient -> rank, times
    reactions: dict[str, str] = field(default_factory=dict)  # person -> emoji
    votes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # person -> options; the last readable selection
    responses: dict[str, tuple[str, int]] = field(default_factory=dict)  # person -> response, guests
    unreadable: set[str] = field(default_factory=set)  # people whose last vote or response could not be decrypted
    reply: str | None = None  # same | differs | unknown: the quoted message against what is quoted; None: no reply

    @property
    def text(self) -> str | None:
        """The text after edits; what stands behind the tombstone when there is one."""
        edited = [e.text for e in self.edits if e.text is not None]
        return edited[-1] if edited else self.content.body

    @property
    def ack(self) -> int | None:
        """The greatest rank any recipient reached."""
        return max((rank for rank, _ in self.acks.values()), default=None)

    @property
    def tally(self) -> dict[str, int]:
        """Votes by option; the poll's own options first, then what else was voted for."""
        asked = _extra(self.content).get("poll", {}).get("options", [])
        voted = [option for options in self.votes.values() for option in options]
        return {option: voted.count(option) for option in dict.fromkeys([*asked, *sorted(voted)])}


class Flag(NamedTuple):
    """A fact that does not count, or a message that claims what is another's."""

    table: str
    key: Key
    reason: str  # not_the_author | not_a_member | no_message | id_reused | id_elsewhere | quote_differs


@dataclass(slots=True)
class State:
    """Everything under canonical ids."""

    messages: dict[MessageId, Message] = field(default_factory=dict)
    flagged: list[Flag] = field(default_factory=list)
    calls: dict[tuple[str, str, str | None], CallRow] = field(default_factory=dict)  # session, call id, caller
    settings: dict[tuple[str, str, str], str] = field(default_factory=dict)  # session, group, setting -> value
    chat_labels: set[tuple[str, str, str]] = field(default_factory=set)  # session, chat, label
    labels: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # session, label -> name, color
    archived: set[tuple[str, str]] = field(default_factory=set)  # session, chat
    presence: dict[tuple[str, str, str], str] = field(default_factory=dict)  # session, chat, person -> state
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # session, person -> name


def read(stored: Stored) -> State:
    """What the rows say together."""
    people = People(stored)
    reading = _Reading(stored, people, Groups(stored, people))
    return reading.state()


class _Reading:
    def __init__(self, stored: Stored, people: People, groups: Groups) -> None:
        self._stored, self._people, self._groups = stored, people, groups
        self._state = State()
        self._by_raw: dict[tuple[str, str, str], list[MessageId]] = defaultdict(list)

    def state(self) -> State:
        self._read_contents()
        self._read_edits()
        self._read_revokes()
        self._read_acks()
        self._read_reactions()
        self._read_answers()
        self._read_replies()
        self._read_reused_ids()
        self._read_calls()
        self._read_chats()
        self._state.names = names_of(self._stored, self._people)
        self._state.flagged.sort(key=repr)
        return self._state

    # ------------------------------------------------------------ which message
    def _id(self, session: str, chat: str, raw_id: str, author: str) -> MessageId:
        """Twins (one message under a hidden id and under its phone number) have one id."""
        person = author if author in (ME, PEER) else self._people.person(session, author)
        return MessageId(session, self._people.chat(session, chat), raw_id, person)

    def _find(self, key: Key, *, guess: bool) -> MessageId | None:
        """The message that a fact's key means: by its author; else, when one may guess, the elder with its raw id."""
        session, chat, raw_id, author = key[:4]
        if author is not None and (exact := self._id(session, chat, raw_id, author)) in self._state.messages:
            return exact
        found = self._by_raw.get((session, self._people.chat(session, chat), raw_id), [])
        return found[0] if found and guess else None

    def _message(self, table: str, key: Key, *, guess: bool) -> Message | None:
        found = self._find(key, guess=guess)
        if found is None:
            self._flag_lost(table, key)
            return None
        return self._state.messages[found]

    def _flag_lost(self, table: str, key: Key) -> None:
        """A message by another author has the raw id: the fact claims what is not its author's. Else it may still come."""
        session, chat, raw_id = key[:3]
        others = self._by_raw.get((session, self._people.chat(session, chat), raw_id))
        self._state.flagged.append(Flag(table, key, "not_the_author" if others else "no_message"))

    # ------------------------------------------------------------ messages and what is said of them
    def _read_contents(self) -> None:
        rows: dict[MessageId, ContentRow] = {}
        for (session, chat, raw_id, author), row in self._stored.contents.items():
            found = self._id(session, chat, raw_id, author)
            rows[found] = join_contents(rows.get(found, row), row)
        for found, row in rows.items():
            self._state.messages[found] = Message(row.shown.content, row.first_ms)
            self._by_raw[found[:3]].append(found)
        for twins in self._by_raw.values():  # the elder first: whoever reuses an id comes after the one he has it from
            twins.sort(key=lambda m: (self._state.messages[m].first_ms, m.author))

    def _read_edits(self) -> None:
        for key, edit in self._stored.edits.items():
            if (message := self._message("edits", key, guess=False)) is not None:
                message.edits.append(edit)
        for message in self._state.messages.values():
            message.edits.sort(key=lambda e: (e.at_ms, e.event_id, e.edit_id))
            message.edits = _without_echoes(message.edits)

    def _read_revokes(self) -> None:
        for key, row in sorted(self._stored.revokes.items(), key=lambda kr: (kr[1].at_ms, kr[1].event_id, repr(kr[0]))):
            session, chat, by = key[0], key[1], key[4]
            person = self._people.person(session, by)
            found = self._find(key, guess=chat.endswith("@g.us"))
            if found is None:
                self._flag_lost("revokes", key)
            elif self._may_revoke(found, person, row.at_ms):
                message = self._state.messages[found]
                if message.revoked_by is None:  # the first counts
                    message.revoked_by, message.revoked_ms = person, row.at_ms
            else:
                self._state.flagged.append(Flag("revokes", key, "not_a_member"))

    def _may_revoke(self, found: MessageId, person: str, at_ms: int) -> bool:
        if found.author in (PEER, person):
            return True  # outside groups the key itself says that it is the author
        if person == ME:
            return True  # WhatsApp lets the account do what it may
        return found.chat.endswith("@g.us") and not self._groups.is_outside(found.session, found.chat, person, at_ms)

    def _read_acks(self) -> None:
        for key, row in self._stored.acks.items():
            if (message := self._message("acks", key, guess=False)) is not None:
                recipient = self._people.person(key[0], key[4]) if key[4] is not None else None
                rank, times = message.acks.get(recipient, (row.rank, row.times))
                if times is not row.times:  # a recipient under two ids
                    times = tuple(least(a, b) for a, b in zip(times, row.times, strict=True))
                message.acks[recipient] = (max(rank, row.rank), times)

    def _read_reactions(self) -> None:
        last: dict[tuple[int, str], tuple[int, str, str]] = {}
        for key, row in self._stored.reactions.items():
            if (message := self._message("reactions", key, guess=True)) is not None:
                place = (id(message), self._people.person(key[0], key[4]))
                last[place] = max(last.get(place, row), row)
                if last[place] == row:
                    message.reactions[place[1]] = row[2]
        for message in self._state.messages.values():
            message.reactions = {person: emoji for person, emoji in message.reactions.items() if emoji}

    def _read_answers(self) -> None:
        for table in ("votes", "responses"):
            last: dict[tuple[int, str], Any] = {}
            failed: dict[tuple[int, str], int] = {}
            for key, row in getattr(self._stored, table).items():
                if (message := self._message(table, key, guess=True)) is None:
                    continue
                person = self._people.person(key[0], key[4])
                place = (id(message), person)
                last[place] = answer = greatest(last.get(place), row.answer)
                failed[place] = max(failed.get(place, 0), row.failed_ms or 0)
                if answer is not None:
                    getattr(message, table)[person] = answer[2]
                message.unreadable.discard(person)
                if failed[place] > (answer[0] if answer is not None else 0):
                    message.unreadable.add(person)

    def _read_replies(self) -> None:
        for found, message in self._state.messages.items():
            if message.content.reply_to is not None:
                message.reply = self._reply(found, message.content)
                if message.reply == "differs":
                    self._state.flagged.append(Flag("contents", found, "quote_differs"))

    def _reply(self, found: MessageId, content: ContentFact) -> str:
        """Against the message of that raw id: its author, and the text it has or had."""
        originals = self._by_raw.get((found.session, found.chat, str(content.reply_to)), [])
        quoted = _extra(content).get("quoted", {})
        if not originals:
            return "unknown"
        participant = quoted.get("participant")
        for original in originals:
            shown = self._state.messages[original]
            if participant is not None and not self._wrote(original, participant):
                continue
            texts = [shown.content.body, *(e.text for e in shown.edits)]
            if "text" not in quoted or any(t is not None and t.startswith(quoted["text"]) for t in texts):
                return "same"
        return "differs"

    def _wrote(self, original: MessageId, participant: str) -> bool:
        person = self._people.person(original.session, participant)
        return person == (original.chat if original.author == PEER else original.author)

    def _read_reused_ids(self) -> None:
        anywhere: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for (session, chat, raw_id), found in self._by_raw.items():
            for younger in found[1:]:
                self._state.flagged.append(Flag("contents", younger, "id_reused"))
            for message in found:  # a broadcast gives one id to the account's messages in many chats
                if message.author != ME:
                    anywhere[session, raw_id].add((chat, message.author))
        for found in self._by_raw.values():
            for message in found:
                places = anywhere[message.session, message.raw_id]
                if message.author != ME and any(chat != message.chat for chat, _ in places):
                    self._state.flagged.append(Flag("contents", message, "id_elsewhere"))

    # ------------------------------------------------------------ calls and chats
    def _read_calls(self) -> None:
        """Facts without a caller belong to the call of that id that was told first, when there is one."""
        nameless: list[tuple[Key, CallRow]] = []
        for (session, call_id, caller), row in self._stored.calls.items():
            if caller is None:
                nameless.append(((session, call_id, None), row))
            else:
                self._add_call((session, call_id, self._people.person(session, caller)), row)
        for key, row in nameless:
            named = [(_first(r), k) for k, r in self._state.calls.items() if k[:2] == key[:2]]
            self._add_call(min(named)[1] if named else (key[0], key[1], None), row)

    def _add_call(self, key: tuple[str, str, str | None], row: CallRow) -> None:
        known = self._state.calls.get(key)
        self._state.calls[key] = join_calls(known, row) if known is not None else row

    def _read_chats(self) -> None:
        stored, state, people = self._stored, self._state, self._people
        settings: dict[tuple[str, str, str], tuple[int, str, str]] = {}
        for (session, group, setting, at_ms), (event_id, value) in stored.settings.items():
            said = (at_ms, event_id, value)
            settings[session, group, setting] = max(settings.get((session, group, setting), said), said)
        state.settings = {key: value for key, (_, _, value) in settings.items()}
        carried = _newest(((s, people.chat(s, c), label), row) for (s, c, label), row in stored.chat_labels.items())
        state.chat_labels = {key for key, row in carried.items() if row[2]}
        archived = _newest(((s, people.chat(s, c)), row) for (s, c), row in stored.archived.items())
        state.archived = {key for key, row in archived.items() if row[2]}
        presence = _newest(
            ((s, people.chat(s, c), people.person(s, p)), row.state) for (s, c, p), row in stored.presence.items()
        )
        state.presence = {key: row[2] for key, row in presence.items()}
        state.labels = {
            key: (row.look[2], row.look[3]) if row.look is not None else ("", -1)
            for key, row in stored.labels.items()
            if not row.state[2]
        }


def _without_echoes(edits: list[EditFact]) -> list[EditFact]:
    """Of an edit that a webhook told and WAHA's store shows too, the webhook's: its time is the finer one. The two are
    neighbours, and say the same."""
    return [e for n, e in enumerate(edits) if not (e.is_stored and _told(e.text, edits[max(0, n - 1) : n + 2]))]


def _told(text: str | None, edits: list[EditFact]) -> bool:
    return any(e.text == text and not e.is_stored for e in edits)


def _newest(rows: Iterable[tuple[K, tuple[Any, ...]]]) -> dict[K, tuple[Any, ...]]:
    """Under canonical ids several rows can be one: the greatest stays."""
    found: dict[K, tuple[Any, ...]] = {}
    for key, row in rows:
        found[key] = max(found.get(key, row), row)
    return found


def _first(row: CallRow) -> int:
    return min(at for at in (row.received_ms, row.accepted_ms, row.rejected_ms) if at is not None)


def _extra(content: ContentFact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content.extra) if content.extra is not None else {}
    return found
