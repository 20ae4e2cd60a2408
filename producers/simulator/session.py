"""What happens in one simulated session: messages, and acts on the messages that were sent before.

Keeps the last 256 messages, so that an ack, edit, reaction or revoke has a target that was really sent. Knows
nothing of envelopes, duplicates and order: see traffic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from producers.simulator import payloads_gows, payloads_webjs, world
from producers.simulator.facts import (
    Account,
    Ack,
    Call,
    Chat,
    Content,
    Edit,
    Engine,
    Json,
    Message,
    Person,
    Reaction,
    Response,
    Revoke,
    Vote,
)
from producers.simulator.payloads import PAYLOADS, first_ack
from producers.simulator.payloads_events import call, session_status
from producers.simulator.sidelines import sideline
from producers.simulator.world import Inbox

_MEMORY = 256
_OWN_SHARE = 0.4
_API_SHARE = 0.5  # of own messages
_FAILED_SHARE = 0.2  # of votes and responses: they could not be decrypted
_REPLY_SHARE = 0.12
_TEXT_DELAY_MS = (5, 150)
_MEDIA_DELAY_MS = (300, 4000)  # WAHA downloads the file before it stamps the event

# Levels that a receipt from a group can bring (payloads_noweb.ack, payloads_gows.ack).
_GROUP_LEVELS: dict[Engine, tuple[int, ...]] = {
    "NOWEB": (1, 3),
    "GOWS": (2, 3),
    "WEBJS": (2, 3),
    "WPP": (2, 3),
}
# What becomes of a call that rang, and the engine's word for it. WPP tells of neither, WEBJS of its own rejections.
_CALL_ENDS: dict[Engine, tuple[tuple[str, str], ...]] = {
    "NOWEB": (("call.accepted", "accept"), ("call.rejected", "reject"), ("call.rejected", "terminate")),
    "GOWS": (("call.accepted", "accept"), ("call.rejected", "reject")),
    "WEBJS": (("call.rejected", "reject"),),
    "WPP": (),
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event before it has an envelope. `twin` shares the envelope id of the happening before it."""

    event: str
    payload: Json
    message_id: str | None = None
    twin: bool = False
    paired: bool = True


_Stamp = tuple[Account, Chat, Person | None, str, int]


@dataclass(slots=True)
class _Sent:
    """A message that was sent, and what became of it."""

    message: Message
    level: int
    receipts: set[tuple[str, int]] = field(default_factory=set)
    revoked: bool = False


class Session:
    """The state of one session. Every method returns what it causes; [] when there is nothing to act on."""

    def __init__(self, inbox: Inbox, rng: Random, *, media: float, twins: bool) -> None:
        self.account = inbox.account
        self._chats, self._rng, self._media, self._twins = inbox.chats, rng, media, twins
        self._payloads = PAYLOADS[self.account.engine]
        self._recent: deque[_Sent] = deque(maxlen=_MEMORY)
        self._ringing: Call | None = None

    def connect(self, now_ms: int) -> list[Happening]:
        """The session starts and is paired."""
        begun = ("STARTING", now_ms - 1500)
        points = [begun, ("WORKING", now_ms)]
        return [
            Happening("session.status", session_status(self.account, [begun]), paired=False),
            Happening("session.status", session_status(self.account, points)),
        ]

    def message(self, now_ms: int) -> list[Happening]:
        """Somebody writes, or the account does, from the phone or through the API."""
        rng, engine = self._rng, self.account.engine
        chat, content = self._chat(), world.content(rng, self._media, engine)
        own = rng.random() < _OWN_SHARE
        by_api = own and rng.random() < _API_SHARE
        message = Message(
            self.account,
            chat,
            None if own else self._somebody(chat),
            world.raw_id(rng, web=by_api or engine in ("GOWS", "WEBJS", "WPP")),
            now_ms - rng.randrange(*(_MEDIA_DELAY_MS if content.has_media else _TEXT_DELAY_MS)),
            content,
            first_ack(engine, from_me=own, by_api=by_api),
            "api" if by_api else "app",
            self._quoted(chat, content),
        )
        self._recent.append(_Sent(message, message.ack))
        return self._message_events(message)

    def ack(self, now_ms: int) -> list[Happening]:
        """An own message was received, read or played."""
        sent = self._pick(lambda s: s.message.from_me)
        if sent is None:
            return []
        if sent.message.chat.group:
            return self._group_ack(sent, now_ms)
        top = 4 if sent.message.content.kind == "voice" else 3
        level = max(sent.level + 1, 2 if self.account.engine == "GOWS" else 1)
        if level > top:
            return []
        sent.level = level
        return [Happening("message.ack", self._payloads.ack(Ack(sent.message, level, now_ms)))]

    def reaction(self, now_ms: int) -> list[Happening]:
        """Somebody reacts, or takes a reaction back."""
        sent = self._pick(lambda s: not s.revoked)
        if sent is None:
            return []
        rng, chat = self._rng, sent.message.chat
        author = None if rng.random() < _OWN_SHARE else self._somebody(chat)
        mark = "" if rng.random() < 0.1 else rng.choice(world.REACTIONS)
        act = Reaction(*self._act(chat, author, now_ms), sent.message, mark)
        return [Happening("message.reaction", self._payloads.reaction(act))]

    def edit(self, now_ms: int) -> list[Happening]:
        """A text is corrected by who wrote it."""
        sent = self._pick(lambda s: s.message.content.kind == "text" and not s.revoked)
        if sent is None:
            return []
        message, text = sent.message, world.text(self._rng) + " ✏️"
        act = Edit(*self._act(message.chat, message.author, now_ms), message, text)
        sent.message = replace(message, content=Content(text=text))
        return [Happening("message.edited", self._payloads.edited(act))]

    def revoke(self, now_ms: int) -> list[Happening]:
        """A message is deleted for everyone by who wrote it."""
        sent = self._pick(lambda s: not s.revoked)
        if sent is None:
            return []
        sent.revoked = True
        act = Revoke(*self._act(sent.message.chat, sent.message.author, now_ms), sent.message)
        return [Happening("message.revoked", self._payloads.revoked(act))]

    def other(self, now_ms: int) -> list[Happening]:
        """Anything else: a poll vote, an answer to an event, presence, a call, groups, labels, a reconnect."""
        rng = self._rng
        if rng.random() < 0.1:
            return self.connect(now_ms)
        if rng.random() < 0.1:
            return self._call(now_ms)
        if rng.random() < 0.3 and (votes := self._vote(now_ms) or self._response(now_ms)):
            return votes
        if self.account.engine == "WEBJS" and rng.random() < 0.1:
            return self._waiting(now_ms)
        chat = self._chat()
        return [Happening(*told) for told in sideline(rng, self.account, chat, self._somebody(chat), now_ms)]

    def _message_events(self, message: Message) -> list[Happening]:
        """message.any always; message too for incoming ones when both are subscribed."""
        payload = self._payloads.message(message)
        any_ = Happening("message.any", payload, message.id)
        if message.from_me or not self._twins:
            return [any_]
        shares_id = self.account.engine in ("NOWEB", "GOWS")
        return [
            Happening("message", payload, message.id),
            Happening("message.any", payload, message.id, shares_id),
        ]

    def _group_ack(self, sent: _Sent, now_ms: int) -> list[Happening]:
        reader = self._rng.choice(sent.message.chat.members)
        level = self._rng.choice(_GROUP_LEVELS[self.account.engine])
        who = "" if self.account.engine == "WPP" else reader.number  # WPP's receipts do not say who
        if (who, level) in sent.receipts:  # WAHA suppresses repeats
            return []
        sent.receipts.add((who, level))
        payload = self._payloads.ack(Ack(sent.message, level, now_ms, reader))
        return [Happening("message.ack.group", payload)]

    def _vote(self, now_ms: int) -> list[Happening]:
        sent = self._pick(lambda s: s.message.content.kind == "poll" and s.message.from_me and not s.revoked)
        if sent is None:
            return []
        options = sent.message.content.options
        chosen = tuple(self._rng.sample(options, self._rng.randrange(0, 2)))
        web = self.account.engine != "NOWEB"
        voter = self._somebody(sent.message.chat)
        failed = self.account.engine in ("NOWEB", "GOWS") and self._rng.random() < _FAILED_SHARE
        vote = Vote(sent.message, voter, world.raw_id(self._rng, web=web), now_ms, () if failed else chosen, failed)
        return [Happening("poll.vote.failed" if failed else "poll.vote", self._payloads.vote(vote))]

    def _response(self, now_ms: int) -> list[Happening]:
        """An answer to a calendar event: only GOWS tells of them."""
        sent = self._pick(lambda s: s.message.content.kind == "event" and not s.revoked)
        if sent is None:
            return []
        chat, failed = sent.message.chat, self._rng.random() < _FAILED_SHARE
        answer = None if failed else self._rng.choice(world.ANSWERS)
        author = self._somebody(chat) if chat.group or sent.message.from_me else None
        act = Response(*self._act(chat, author, now_ms), sent.message, answer, self._rng.randrange(3))
        return [Happening("event.response.failed" if failed else "event.response", payloads_gows.response(act))]

    def _call(self, now_ms: int) -> list[Happening]:
        """Somebody calls, or the call that rang is taken, refused or given up."""
        rng, ringing, ends = self._rng, self._ringing, _CALL_ENDS[self.account.engine]
        if ringing is not None and ends:
            event, status = rng.choice(ends)
            self._ringing = None
        else:
            ringing = Call(f"{rng.getrandbits(128):032X}", self._somebody(self._chat()), rng.random() < 0.3)
            event, status, self._ringing = "call.received", "offer", ringing
        return [Happening(event, call(self.account, ringing, status, now_ms))]

    def _waiting(self, now_ms: int) -> list[Happening]:
        chat = self._chat()
        message = Message(*self._act(chat, self._somebody(chat), now_ms))
        return [Happening("message.waiting", payloads_webjs.waiting(message))]

    def _act(self, chat: Chat, author: Person | None, now_ms: int) -> _Stamp:
        """The fields that every act has, under a new raw id."""
        web = author is None or self.account.engine != "NOWEB"
        at_ms = now_ms - self._rng.randrange(*_TEXT_DELAY_MS)
        return self.account, chat, author, world.raw_id(self._rng, web=web), at_ms

    def _quoted(self, chat: Chat, content: Content) -> Message | None:
        if content.kind != "text" or self._rng.random() >= _REPLY_SHARE:
            return None
        sent = self._pick(lambda s: s.message.chat is chat and s.message.content.kind == "text")
        return sent.message if sent else None

    def _chat(self) -> Chat:
        """Some chats are livelier than others."""
        return self._chats[int(len(self._chats) * self._rng.random() ** 2)]

    def _somebody(self, chat: Chat) -> Person:
        if chat.peer:
            return chat.peer
        return self._rng.choice(chat.members)

    def _pick(self, fits: Callable[[_Sent], bool]) -> _Sent | None:
        """A recent message that fits; a few tries, so that picking costs the same however many are kept."""
        for _ in range(min(12, len(self._recent))):
            sent = self._recent[self._rng.randrange(len(self._recent))]
            if fits(sent):
                return sent
        return None
