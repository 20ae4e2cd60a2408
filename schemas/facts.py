"""Every kind of fact that an event can state: one struct a kind, one narrow table a kind, ids still as text.

A fact is what somebody said, not what is true: schemas.law merges facts (in any order, doubled, in any batches) and says
which of them count. Facts about a message name it by (session, chat, author, raw_id): see schemas.keys. Times are Unix
milliseconds in UTC. `event_id` is the envelope's id, "" before 2024-11; it only breaks ties between equal times, and it is
a ULID, so the later event wins.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.rows import ContentFact, SessionFact

# Levels of an ack as WAHA numbers them, weakest first: an error outdoes "pending", and any progress outdoes an error.
ACK_LEVELS = (0, -1, 1, 2, 3, 4)
ACK_NAMES = ("pending", "error", "server", "device", "read", "played")


def ack_rank(level: int) -> int:
    """Position of WAHA's level in ACK_LEVELS: what is stored, and compared. The greatest wins."""
    return ACK_LEVELS.index(level)


# Begins the id of an edit that WAHA's store shows, without its own id: the time follows.
STORED_EDIT = "stored "


class RankedContent(Struct, frozen=True, gc=False):
    """Content of a message, a placeholder for it included; of several the one with the lowest rank is shown."""

    content: ContentFact
    rank: bytes  # schemas.rows.content_rank
    received_at_ms: int
    lane: int


class AckFact(Struct, frozen=True, gc=False):
    """Somebody (or the server) got, read or played a message."""

    session: str
    chat: str
    raw_id: str
    author: str | None
    recipient: str | None  # who got it, in groups; None: the peer, the server, or nobody says who
    level: int  # as WAHA numbers it: -1 error, 0 pending, 1 server, 2 device, 3 read, 4 played
    at_ms: int | None  # None when only the level is known (it stands in a message's content)


class EditFact(Struct, frozen=True, gc=False):
    """A new text for a message. `author` is who edits: an edit by another names a message that does not exist."""

    session: str
    chat: str
    raw_id: str
    author: str
    edit_id: str  # raw id of the edit itself; the envelope's id where the engine gives it none (WEBJS); or STORED_EDIT…
    text: str | None  # None: could not be decrypted
    at_ms: int
    event_id: str
    text_before: str | None  # as WEBJS remembers it

    @property
    def is_stored(self) -> bool:
        """True of one that WAHA's store shows; a webhook may have told the same edit."""
        return not self.event_id and self.edit_id.startswith(STORED_EDIT)


class RevokeFact(Struct, frozen=True, gc=False):
    """Somebody took a message back."""

    session: str
    chat: str
    raw_id: str
    author: str | None  # whose message it is, where somebody who knows says so; by others it is None
    by: str  # ME or a person's id
    at_ms: int
    event_id: str
    revoke_id: str | None  # raw id of the act
    text_before: str | None  # as WEBJS remembers it


class ReactionFact(Struct, frozen=True, gc=False):
    """Somebody's reaction to a message; "" takes it away."""

    session: str
    chat: str
    raw_id: str
    author: str | None
    by: str  # ME or a person's id
    emoji: str
    at_ms: int
    event_id: str


class VoteFact(Struct, frozen=True, gc=False):
    """A voter's whole selection in a poll. `failed`: he voted, but what could not be decrypted."""

    session: str
    chat: str
    raw_id: str  # of the poll
    author: str | None  # of the poll
    voter: str  # ME or a person's id
    options: tuple[str, ...]  # names; () cleared
    failed: bool
    at_ms: int
    event_id: str


class ResponseFact(Struct, frozen=True, gc=False):
    """An answer to an event message (GOWS)."""

    session: str
    chat: str
    raw_id: str  # of the event message
    author: str | None
    by: str  # ME or a person's id
    response: str | None  # GOING | NOT_GOING | MAYBE | UNKNOWN; None when failed
    guests: int
    failed: bool
    at_ms: int
    event_id: str


class CallFact(Struct, frozen=True, gc=False):
    """A call reached a state. The caller belongs to its key: another's call cannot be changed by reusing its id."""

    session: str
    call_id: str
    caller: str | None  # absent in some events of GOWS
    state: str  # received | accepted | rejected
    detail: str | None  # the engine's own word for it: offer, accept, reject, terminate, timeout
    group: str | None
    is_video: bool
    is_group: bool
    at_ms: int


class GroupFact(Struct, frozen=True, gc=False):
    """One setting of a group from a time on. `member_list` says that all members were listed then."""

    session: str
    group: str
    setting: str  # subject | description | invite | owner | members_can_add | members_can_send | approval | member_list
    value: str  # JSON text
    at_ms: int
    event_id: str


class MemberFact(Struct, frozen=True, gc=False):
    """A person's role in a group from a time on."""

    session: str
    group: str
    person: str
    role: str  # left | participant | admin | superadmin
    by: str | None
    at_ms: int
    event_id: str


class JoinRequestFact(Struct, frozen=True, gc=False):
    """Somebody asked to join a group, or that was decided."""

    session: str
    group: str
    person: str
    action: str  # created | rejected | revoked
    method: str | None  # invite_link | non_admin_add | linked_group_join
    at_ms: int
    event_id: str


class LabelFact(Struct, frozen=True, gc=False):
    """A label as it is from a time on, or that it is gone."""

    session: str
    label_id: str
    deleted: bool
    name: str | None  # None: the event does not say
    color: int | None
    color_hex: str | None
    at_ms: int
    event_id: str


class ChatLabelFact(Struct, frozen=True, gc=False):
    """A chat carries a label from a time on, or no longer."""

    session: str
    chat: str
    label_id: str
    carried: bool
    at_ms: int
    event_id: str


class ArchiveFact(Struct, frozen=True, gc=False):
    """A chat was archived, or brought back."""

    session: str
    chat: str
    archived: bool
    at_ms: int
    event_id: str


class PresenceFact(Struct, frozen=True, gc=False):
    """What a person does in a chat, as last seen."""

    session: str
    chat: str
    person: str
    state: str  # offline | online | typing | recording | paused
    last_seen_ms: int | None
    at_ms: int
    event_id: str


class StatusFact(Struct, frozen=True, gc=False):
    """A session reached a status: its history. SessionFact is its present."""

    session: str
    status: str
    at_ms: int


class VersionFact(Struct, frozen=True, gc=False):
    """A session ran on this engine and version at that time."""

    session: str
    engine: str | None
    version: str | None
    at_ms: int


class IdentityFact(Struct, frozen=True, gc=False):
    """A hidden id and a phone number are the same person, or (holds = False) no longer."""

    session: str
    lid: str
    phone: str
    holds: bool
    source: str  # message | group | request | call | account | contacts | lids | operator
    at_ms: int  # to the hour where every message says it again


class NameFact(Struct, frozen=True, gc=False):
    """A name that somebody goes by."""

    session: str
    person: str
    source: str  # saved | push | verified
    name: str
    at_ms: int  # to the hour: a busy contact is not rewritten for each message


class SeenFact(Struct, frozen=True, gc=False):
    """The session met a person or a chat. Not told by events themselves: schemas.normalize.contact makes it of facts."""

    session: str
    jid: str
    is_me: bool
    day_ms: int  # the beginning of the day: a busy contact is not rewritten for each message


class OtherFact(Struct, frozen=True, gc=False):
    """An event that has no table of its own, whole."""

    session: str
    event: str
    event_id: str
    engine: str | None
    chat: str | None
    at_ms: int
    body: str  # JSON text without NUL and lone surrogates


MessageFact = AckFact | EditFact | RevokeFact | ReactionFact | VoteFact | ResponseFact
Fact = (
    RankedContent
    | MessageFact
    | CallFact
    | GroupFact
    | MemberFact
    | JoinRequestFact
    | LabelFact
    | ChatLabelFact
    | ArchiveFact
    | PresenceFact
    | SessionFact
    | StatusFact
    | VersionFact
    | IdentityFact
    | NameFact
    | SeenFact
    | OtherFact
)
