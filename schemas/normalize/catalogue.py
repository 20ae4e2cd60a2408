"""What every event states, which engines send it, and what of it is not kept. docs/events.md is made from this table.

Tests hold it to what the normalisers do. The engines are those of WAHA 2026.7.1.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
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
    SeenFact,
    StatusFact,
    VersionFact,
    VoteFact,
)
from schemas.rows import SessionFact

ENGINES = ("WEBJS", "WPP", "NOWEB", "GOWS")
ALL = frozenset(ENGINES)


class Described(NamedTuple):
    """One event. `tagged`: engines that need `webjs.tagsEventsOn` for (some of) it."""

    states: tuple[type, ...]
    not_kept: str
    engines: frozenset[str] = ALL
    tagged: frozenset[str] = frozenset()


_WEBJS, _NOWEB, _GOWS = frozenset({"WEBJS"}), frozenset({"NOWEB"}), frozenset({"GOWS"})
_WHOLE = "nothing: the body is kept whole"
_PEOPLE = (IdentityFact, NameFact)
_IN_MESSAGES = (EditFact, RevokeFact, ReactionFact, VoteFact)  # acts that come as messages
_MESSAGE = Described(
    (RankedContent, AckFact, *_PEOPLE, *_IN_MESSAGES),
    "thumbnails, media keys, `media.error`, `mediaUrl`, raw parts of `_data` that no field of content names",
)
_VOTE = Described((VoteFact,), "`vote.id`, `_data`")
_RESPONSE = Described((ResponseFact, *_PEOPLE), "the message around the response", _GOWS)
_MEMBERS = (MemberFact, IdentityFact, OtherFact)
_GROUP = Described((GroupFact, *_MEMBERS), "`_data`")

CATALOGUE: dict[str, Described] = {
    "message": _MESSAGE,
    "message.any": _MESSAGE,
    "message.waiting": Described((RankedContent, NameFact, IdentityFact), "as `message`", _WEBJS),
    "message.ack": Described((AckFact,), "the message that WEBJS sends along, `_data`"),
    "message.ack.group": Described((AckFact,), "`_data`", tagged=_WEBJS),
    "message.edited": Described((EditFact, *_PEOPLE), "the message around the text: media, location, ack"),
    "message.revoked": Described((RevokeFact, *_PEOPLE), "`after` and `before` but for ids, sender, time and text"),
    "message.reaction": Described((ReactionFact,), "the reaction's own id, `_data`"),
    "poll.vote": _VOTE,
    "poll.vote.failed": Described((VoteFact,), "`vote.id`, `_data`", ALL - {"WPP"}),
    "event.response": _RESPONSE,
    "event.response.failed": _RESPONSE,
    "call.received": Described((CallFact, IdentityFact), "`_data` but for status, group and caller"),
    "call.accepted": Described((CallFact, IdentityFact), "as `call.received`", _NOWEB | _GOWS),
    "call.rejected": Described((CallFact, IdentityFact), "as `call.received`", ALL - {"WPP"}),
    "group.v2.join": _GROUP,
    "group.v2.leave": Described((MemberFact, OtherFact), "`_data` but for who did it"),
    "group.v2.update": _GROUP,
    "group.v2.participants": Described(_MEMBERS, "`role`, which NOWEB gets wrong for demotions; `_data`"),
    "group.v2.participants.join-request": Described((JoinRequestFact, IdentityFact), "`_data`"),
    "group.join": Described((GroupFact, *_MEMBERS), "the group's other metadata", _WEBJS | _NOWEB),
    "group.leave": Described((MemberFact, OtherFact), "the notification's text", _WEBJS),
    "label.upsert": Described((LabelFact,), "nothing", _NOWEB | _GOWS),
    "label.deleted": Described((LabelFact,), "nothing", _NOWEB | _GOWS),
    "label.chat.added": Described((ChatLabelFact, LabelFact), "nothing", ALL - _WEBJS),
    "label.chat.deleted": Described((ChatLabelFact, LabelFact), "nothing", ALL - _WEBJS),
    "chat.archive": Described((ArchiveFact,), "nothing", _WEBJS),
    "presence.update": Described((PresenceFact, OtherFact), "earlier states, unless history is on", tagged=_WEBJS),
    "session.status": Described(
        (SessionFact, StatusFact, VersionFact, *_PEOPLE), "`data`: it can hold pairing codes; `metadata`, `environment`"
    ),
    "state.change": Described((OtherFact,), _WHOLE),
    "engine.event": Described((OtherFact,), _WHOLE),
}

# Every kind of fact, the tables it is merged into, and how (docs/merge-law.md).
TABLES: dict[type, tuple[tuple[str, ...], str]] = {
    RankedContent: (("message_keys", "message_content"), "lowest rank; first received: least"),
    AckFact: (("message_acks",), "level: greatest; times: least"),
    EditFact: (("message_edits",), "all; of one edit the readable, then the earliest"),
    RevokeFact: (("message_revokes",), "earliest; the text before: greatest"),
    ReactionFact: (("reactions",), "newest"),
    VoteFact: (("poll_votes",), "newest that could be read; newest that could not"),
    ResponseFact: (("event_responses",), "newest that could be read; newest that could not"),
    CallFact: (("calls",), "times: least; the rest: greatest"),
    GroupFact: (("group_settings",), "all; of one time the later envelope"),
    MemberFact: (("group_members",), "all; of one time the later envelope"),
    JoinRequestFact: (("group_join_requests",), "all"),
    LabelFact: (("labels",), "newest description; newest presence"),
    ChatLabelFact: (("chat_labels",), "newest"),
    ArchiveFact: (("chat_archive",), "newest"),
    PresenceFact: (("presence", "presence_history"), "newest; last seen: greatest; history (off by default): all"),
    SessionFact: (("sessions",), "newest state; newest account"),
    StatusFact: (("session_status",), "all"),
    VersionFact: (("session_versions",), "first time: least; last: greatest"),
    IdentityFact: (("identities",), 'newest; of one hour "no longer"'),
    NameFact: (("contact_names",), "first time: least; last: greatest"),
    SeenFact: (("contacts_seen",), "first day: least; last: greatest"),
    OtherFact: (("other_events",), "first"),
}
