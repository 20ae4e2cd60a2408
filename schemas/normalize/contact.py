"""Whom the session met: the people and chats that facts name, whatever the facts are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from schemas.facts import (
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
    Fact,
    GroupFact,
    JoinRequestFact,
    MemberFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    SeenFact,
    VoteFact,
)

_DAY_MS = 86_400_000


class _Met(NamedTuple):
    """Whom a fact names. `me`: one of them, as the account itself."""

    session: str
    at_ms: int
    jids: tuple[str | None, ...]
    me: str | None = None


def _of_content(fact: RankedContent) -> _Met:
    content = fact.content
    me = content.sender if content.from_me else None
    return _Met(content.session, content.ts_ms, (content.chat, content.sender), me)


# Nobody else than the actor and the chat: an act may claim any author. AckFacts name readers, who are met as members.
_MET: dict[type, Callable[[Any], _Met]] = {
    RankedContent: _of_content,
    EditFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.author)),
    RevokeFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.by)),
    ReactionFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.by)),
    VoteFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.voter)),
    ResponseFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.by)),
    CallFact: lambda f: _Met(f.session, f.at_ms, (f.group, f.caller)),
    GroupFact: lambda f: _Met(f.session, f.at_ms, (f.group,)),
    MemberFact: lambda f: _Met(f.session, f.at_ms, (f.group, f.person)),
    JoinRequestFact: lambda f: _Met(f.session, f.at_ms, (f.group, f.person)),
    ChatLabelFact: lambda f: _Met(f.session, f.at_ms, (f.chat,)),
    ArchiveFact: lambda f: _Met(f.session, f.at_ms, (f.chat,)),
    PresenceFact: lambda f: _Met(f.session, f.at_ms, (f.chat, f.person)),
}


def met_in(facts: Iterable[Fact]) -> list[SeenFact]:
    """Everybody whom the facts of one event name; ME and PEER are nobody's ids."""
    found: dict[SeenFact, None] = {}
    for fact in facts:
        if (reader := _MET.get(type(fact))) is not None:
            met = reader(fact)
            day_ms = met.at_ms - met.at_ms % _DAY_MS
            for jid in met.jids:
                if jid is not None and "@" in jid:
                    found[SeenFact(met.session, jid, jid == met.me, day_ms)] = None
    return list(found)
