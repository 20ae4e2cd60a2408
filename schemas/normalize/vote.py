"""`poll.vote`, `poll.vote.failed`, `event.response`, `event.response.failed`: somebody's answer to a poll or an event message.

| | the poll | the voter | time |
|---|---|---|---|
| NOWEB | `poll.id` | `vote.participant`, else `vote.from`; the account is the word "me" | ms; failed ones s |
| GOWS | `poll.id` | `vote.participant`, else `vote.from` (in direct chats the chat) | ms |
| WEBJS | `poll.id` | `vote.from`; `vote.id` is built from the poll's | ms |
| WPP | `poll.id` without participant; `vote.id` is the same | `vote.participant`, else `vote.from` | ms |

Responses are GOWS' alone: a whole message by who answers, `eventCreationKey` for the event message (as the answering side sees
it: its chat may be the account itself) and `eventResponse`. A failed one could not be decrypted: that somebody answered is
known, and what he answered before is not taken for his answer.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import Fact, ResponseFact, VoteFact
from schemas.ids import is_group_like
from schemas.keys import ME
from schemas.normalize.engine import EngineData
from schemas.normalize.head import Body, Head, Number, Record, head_of, jid_at, who
from schemas.normalize.people import people_of
from schemas.normalize.references import ActPayload, Target, act_of, meant, raw_at, target_of
from schemas.normalize.values import count, time_ms
from schemas.reading import Reader

_MAX_GUESTS = 2**31 - 1


class _Vote(ActPayload):
    selectedOptions: list[Any] | None = None
    timestamp: Number = None


class _VotePayload(Struct):
    poll: ActPayload | None = None
    vote: _Vote | None = None


class _VoteBody(Body):
    payload: _VotePayload | None = None


class _Answer(Struct, gc=False):
    response: str | None = None
    timestampMs: Number = None
    extraGuestCount: Number = None


class _ResponsePayload(ActPayload, rename={"data": "_data"}):
    timestamp: Number = None
    eventCreationKey: ActPayload | None = None
    eventResponse: _Answer | None = None
    data: EngineData | None = None


class _ResponseBody(Body):
    payload: _ResponsePayload | None = None


_read_vote = Reader(_VoteBody)
_read_response = Reader(_ResponseBody)


def to_votes(body: bytes, record: Record) -> list[Fact]:
    """One VoteFact. Raises MalformedError without poll, vote or voter."""
    event = _read_vote(body)
    head, payload = head_of(event, record), event.payload or _VotePayload()
    poll, vote = payload.poll, payload.vote
    if poll is None:
        raise MalformedError("poll_missing", "payload.poll")
    if vote is None:
        raise MalformedError("vote_missing", "payload.vote")
    cast = target_of(vote.id, "payload.vote.id", head.me)
    target = target_of(poll.id, "payload.poll.id", head.me)
    chat = cast.chat if cast is not None else target.chat if target is not None else _chat_of(vote)
    target = meant(target, chat, head.me) or Target(chat, raw_at(poll.id, "payload.poll.id"), None)
    options = vote.selectedOptions
    failed = record.event == "poll.vote.failed" or options is None
    selected = () if failed else tuple(dict.fromkeys(o for o in options or () if type(o) is str))
    return [
        VoteFact(
            head.session, target.chat, target.raw_id, target.author, _voter(vote, cast, chat, head), selected, failed,
            time_ms(vote.timestamp) or head.at_ms, head.event_id,
        )
    ]  # fmt: skip


def _chat_of(vote: _Vote) -> str:
    chat = jid_at(vote.from_, "payload.vote.from") or jid_at(vote.to, "payload.vote.to")
    if chat is None:
        raise MalformedError("chat_missing", "payload.vote.from")
    return chat


def _voter(vote: _Vote, cast: Target | None, chat: str, head: Head) -> str:
    if vote.fromMe is True or vote.from_ == ME:
        return ME
    person = jid_at(vote.participant, "payload.vote.participant") or jid_at(vote.from_, "payload.vote.from")
    if person is not None and (person != chat or not is_group_like(chat)):
        return who(person, head.me)
    # The group stands where the voter should: his own id may name him.
    if cast is not None and cast.author not in (None, "") and is_group_like(cast.chat):
        return str(cast.author)
    raise MalformedError("voter_missing", "payload.vote.from")


def to_responses(body: bytes, record: Record) -> list[Fact]:
    """A ResponseFact, and what `_data` says of people. Raises MalformedError without the event's id, or who answers."""
    event = _read_response(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    act, path = act_of(payload, head, "payload"), "payload.eventCreationKey.id"
    key = payload.eventCreationKey or ActPayload()
    target = meant(target_of(key.id, path, head.me), act.chat, head.me) or Target(act.chat, raw_at(key.id, path), None)
    if target.author is None and not is_group_like(act.chat) and key.from_ and who(key.from_, head.me) == ME:
        target = Target(target.chat, target.raw_id, ME)  # the answering side names the account as the event's sender
    answer = payload.eventResponse or _Answer()
    failed = record.event == "event.response.failed" or answer.response is None
    at_ms = time_ms(answer.timestampMs) or time_ms(payload.timestamp) or head.at_ms
    guests = count(answer.extraGuestCount) or 0
    fact = ResponseFact(
        head.session, target.chat, target.raw_id, target.author, act.by, None if failed else answer.response,
        min(guests, _MAX_GUESTS), failed, at_ms, head.event_id,
    )  # fmt: skip
    return [fact, *people_of(payload.data or EngineData(), head, act.by, at_ms)]
