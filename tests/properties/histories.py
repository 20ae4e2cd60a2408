"""Random sets of facts from small pools, so that keys meet: ids that collide, twins, equal times, late and forged acts.

For tests of the law in Python and in SQL alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.facts import (
    STORED_EDIT,
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
    Fact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    StatusFact,
    VersionFact,
    VoteFact,
)
from schemas.ids import is_group_like
from schemas.keys import ME, PEER
from schemas.rows import ContentFact, SessionFact, content_rank

SESSIONS = ("default", "berlin:acme")
ANA, ANA_LID = "5511988887777@c.us", "123456789012345@lid"
BOB, BOB_LID = "447700900123@c.us", "223456789012346@lid"
MY_NUMBER, MY_LID = "4915112345678@c.us", "99887766554433@lid"
GROUP, STATUS, CHANNEL = "120363040000000001@g.us", "status@broadcast", "120363111111111111@newsletter"
PEOPLE = (ANA, ANA_LID, BOB, BOB_LID)
CHATS = (ANA, ANA_LID, BOB, GROUP, STATUS, CHANNEL)
T0 = 1_784_973_600_000
HOUR = 3_600_000

sessions = st.sampled_from((SESSIONS[0],) * 9 + (SESSIONS[1],))
chats = st.sampled_from((ANA,) * 3 + (ANA_LID,) * 3 + (GROUP,) * 6 + (BOB, STATUS, CHANNEL))
raw_ids = st.sampled_from(("3EB0A1", "3EB0A1", "3EB0A1", "AC_2"))
people = st.sampled_from(PEOPLE)
actors = st.sampled_from((ME, *PEOPLE))
times = st.sampled_from((T0, T0 + 1, T0 + 500, T0 + 1000, T0 + 60_000, T0 + HOUR))
hours = st.sampled_from((T0, T0 + HOUR, T0 + 2 * HOUR))
event_ids = st.sampled_from(("", "evt_1", "evt_2", "evt_3"))
texts = st.sampled_from(("hi", "hi there", "bye", "😀"))
maybe_texts = st.none() | texts


@st.composite
def authors(draw: st.DrawFn, chat: str, *, unknown: bool = False) -> Any:
    """An author as keys of that chat have one."""
    known = [ME, ANA, ANA, ANA_LID, BOB, BOB_LID] if is_group_like(chat) else [ME, PEER, PEER]
    return draw(st.sampled_from([*known, None] if unknown and is_group_like(chat) else known))


@st.composite
def contents(draw: st.DrawFn) -> RankedContent:
    """Content of a message. What is told of one event (its id and when it was received) is told alike."""
    session, chat = draw(sessions), draw(chats)
    author = draw(authors(chat))
    from_me = author == ME
    sender = MY_NUMBER if from_me else author if is_group_like(chat) else chat
    kind, body, poverty = draw(
        st.sampled_from((("text", "hi", 0), ("text", "hi there", 0), ("waiting", None, 2), ("image", None, 1)))
    )
    extra = draw(st.none() | st.just('{"quoted":{"participant":"5511988887777@c.us","text":"hi"}}'))
    received, lane = draw(st.integers(T0, T0 + 5)), draw(st.sampled_from((0, 1)))
    content = ContentFact(
        session=session, chat=chat, sender=sender, participant=None, key_sender="" if from_me else author,
        ts_ms=draw(times), from_me=from_me, has_media=poverty == 1, raw_id=draw(raw_ids), type=kind, body=body,
        reply_to=draw(st.none() | raw_ids), source=None, push_name=None, mimetype=None, filename=None,
        event_id=None, extra=extra, poverty=poverty,
    )  # fmt: skip
    apart = repr(content).encode()
    return RankedContent(content, content_rank(poverty, lane, received, apart), received, lane)


@st.composite
def acks(draw: st.DrawFn) -> AckFact:
    chat = draw(chats)
    recipient = draw(st.none() | people) if is_group_like(chat) else None
    return AckFact(
        draw(sessions), chat, draw(raw_ids), draw(authors(chat)), recipient, draw(st.sampled_from((-1, 0, 1, 2, 3, 4))),
        draw(st.none() | times),
    )  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> EditFact:
    chat = draw(chats)
    if draw(st.booleans()) and draw(st.booleans()):  # as WAHA's store shows one
        at_ms = draw(times)
        return EditFact(
            draw(sessions), chat, draw(raw_ids), draw(authors(chat)), f"{STORED_EDIT}{at_ms}", draw(texts), at_ms, "", None
        )  # fmt: skip
    edit_id = draw(st.sampled_from(("E1", "E2", "evt_9")))
    return EditFact(
        draw(sessions), chat, draw(raw_ids), draw(authors(chat)), edit_id, draw(maybe_texts), draw(times),
        draw(event_ids), draw(maybe_texts),
    )  # fmt: skip


@st.composite
def revokes(draw: st.DrawFn) -> RevokeFact:
    """As the normalisers make them: outside groups the author is whoever revokes."""
    chat = draw(chats)
    if chat == GROUP:
        author, by = draw(authors(chat, unknown=True)), draw(actors)
    else:
        author = draw(authors(chat))
        by = chat if author == PEER else author
    return RevokeFact(
        draw(sessions), chat, draw(raw_ids), author, by, draw(times), draw(event_ids), None, draw(maybe_texts)
    )


def _by(draw: st.DrawFn, chat: str) -> str:
    return draw(actors) if is_group_like(chat) else draw(st.sampled_from((ME, chat)))


@st.composite
def reactions(draw: st.DrawFn) -> ReactionFact:
    chat = draw(chats)
    return ReactionFact(
        draw(sessions), chat, draw(raw_ids), draw(authors(chat, unknown=True)), _by(draw, chat),
        draw(st.sampled_from(("", "❤️", "👍"))), draw(times), draw(event_ids),
    )  # fmt: skip


@st.composite
def votes(draw: st.DrawFn) -> VoteFact:
    chat, failed = draw(chats), draw(st.booleans())
    options = () if failed else draw(st.sampled_from(((), ("Pizza",), ("Pizza", "Sushi"))))
    return VoteFact(
        draw(sessions), chat, draw(raw_ids), draw(authors(chat, unknown=True)), _by(draw, chat), options, failed,
        draw(times), draw(event_ids),
    )  # fmt: skip


@st.composite
def responses(draw: st.DrawFn) -> ResponseFact:
    chat, failed = draw(chats), draw(st.booleans())
    return ResponseFact(
        draw(sessions), chat, draw(raw_ids), draw(authors(chat, unknown=True)), _by(draw, chat),
        None if failed else draw(st.sampled_from(("GOING", "NOT_GOING", "MAYBE"))), draw(st.integers(0, 2)), failed,
        draw(times), draw(event_ids),
    )  # fmt: skip


labels = st.builds(
    LabelFact, sessions, st.sampled_from(("6", "7")), st.booleans(), st.none() | st.sampled_from(("Lead", "Kunde")),
    st.none() | st.integers(0, 3), st.none() | st.just("#dfaef0"), times, event_ids,
)  # fmt: skip
states = st.sampled_from(("received", "accepted", "rejected"))
roles = st.sampled_from(("left", "participant", "admin", "superadmin"))
settings_of_groups = st.sampled_from(("subject", "member_list"))
session_facts = st.builds(
    SessionFact, sessions, st.sampled_from(("WORKING", "STOPPED")),
    times.map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC)), st.none() | st.just(MY_NUMBER),
    st.none() | st.just(MY_LID), st.none() | st.just("Acme"), st.sampled_from(("NOWEB", "GOWS")), st.just("2026.7.1"),
)  # fmt: skip
identities = st.builds(
    IdentityFact, sessions, st.sampled_from((ANA_LID, BOB_LID)), st.sampled_from((ANA, BOB)), st.booleans(),
    st.sampled_from(("message", "group")), hours,
)  # fmt: skip

calls = st.builds(
    CallFact, sessions, st.sampled_from(("C1", "C2")), st.none() | people, states, st.none() | texts,
    st.none() | st.just(GROUP), st.booleans(), st.booleans(), times,
)  # fmt: skip
settings_facts = st.builds(
    GroupFact, sessions, st.just(GROUP), settings_of_groups, st.sampled_from(('"a"', '"b"')), times, event_ids
)
members = st.builds(MemberFact, sessions, st.just(GROUP), people, roles, st.none() | people, times, event_ids)
join_requests = st.builds(
    JoinRequestFact, sessions, st.just(GROUP), people, st.sampled_from(("created", "rejected")),
    st.none() | st.just("invite_link"), times, event_ids,
)  # fmt: skip
chat_labels = st.builds(ChatLabelFact, sessions, chats, st.sampled_from(("6", "7")), st.booleans(), times, event_ids)
archives = st.builds(ArchiveFact, sessions, chats, st.booleans(), times, event_ids)
presences = st.builds(
    PresenceFact, sessions, chats, people, st.sampled_from(("online", "typing")), st.none() | times, times, event_ids
)
statuses = st.builds(StatusFact, sessions, st.sampled_from(("WORKING", "STOPPED")), times)
versions = st.builds(VersionFact, sessions, st.sampled_from(("NOWEB", "GOWS")), st.just("2026.7.1"), times)
names = st.builds(
    NameFact, sessions, people, st.sampled_from(("saved", "push", "verified")), st.sampled_from(("Ana", "A")), hours
)
others = st.builds(
    OtherFact, sessions, st.just("message.pinned"), event_ids, st.none() | st.just("GOWS"), st.none() | chats, times,
    st.sampled_from(("{}", '{"a":1}')),
)  # fmt: skip

KINDS: tuple[st.SearchStrategy[Any], ...] = (
    contents(), acks(), edits(), revokes(), reactions(), votes(), responses(), calls, settings_facts, members,
    join_requests, labels, chat_labels, archives, presences, session_facts, statuses, versions, identities, names, others,
)  # fmt: skip


_MESSAGE = ("session", "chat", "raw_id", "author")
_KEYS: dict[type, tuple[str, ...]] = {
    AckFact: (*_MESSAGE, "recipient"),
    EditFact: (*_MESSAGE, "edit_id"),
    RevokeFact: (*_MESSAGE, "by"),
    ReactionFact: (*_MESSAGE, "by"),
    VoteFact: (*_MESSAGE, "voter"),
    ResponseFact: (*_MESSAGE, "by"),
    CallFact: ("session", "call_id", "caller"),
    GroupFact: ("session", "group", "setting", "at_ms"),
    MemberFact: ("session", "group", "person", "at_ms"),
    JoinRequestFact: ("session", "group", "person", "at_ms", "action"),
    LabelFact: ("session", "label_id"),
    ChatLabelFact: ("session", "chat", "label_id"),
    ArchiveFact: ("session", "chat"),
    PresenceFact: ("session", "chat", "person"),
    VersionFact: ("session", "engine", "version"),
    IdentityFact: ("session", "lid", "phone"),
    NameFact: ("session", "person", "source", "name"),
    OtherFact: ("session", "event", "event_id"),
}


def crossed(facts: list[Fact]) -> list[Fact]:
    """Of each two neighbours of a kind: what the second says, about what the first is about. So every key has company."""
    found: list[Fact] = []
    for kind, key in _KEYS.items():
        same: list[Any] = [f for f in facts if type(f) is kind]
        for one, other in zip(same, same[1:] + same[:1], strict=True):
            found.append(replace(other, **{name: getattr(one, name) for name in key}))
    ranked = [f for f in facts if isinstance(f, RankedContent)]
    found += [about(one, other) for one, other in zip(ranked, ranked[1:] + ranked[:1], strict=True)]
    return found


def about(one: RankedContent, other: RankedContent, **changes: Any) -> RankedContent:
    """What `other` says, as a message with the ids of `one`."""
    ids = ("session", "chat", "raw_id", "key_sender", "from_me", "sender")
    content = replace(other.content, **{name: getattr(one.content, name) for name in ids} | changes)
    rank = content_rank(content.poverty, other.lane, other.received_at_ms, repr(content).encode())
    return RankedContent(content, rank, other.received_at_ms, other.lane)


@st.composite
def _histories(draw: st.DrawFn) -> list[Fact]:
    """Few kinds at a time, and company for every key; contents and identities are nearly always there."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    facts = draw(st.lists(st.one_of(kinds), max_size=8))
    facts += draw(st.lists(contents(), max_size=4)) + draw(st.lists(st.one_of(identities, members), max_size=3))
    return facts + crossed(facts)


histories = _histories()
