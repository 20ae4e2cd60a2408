"""Which message an event is about, and who acts on it: serialized ids, raw ids, and message keys of the engines.

The author of a message is ME, PEER (the other side of a direct chat), the person in a group, or None when nobody says; see
schemas.keys. `fromMe` fields are not read where a serialized id says it: WEBJS inverts them in group acks.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS, MAX_RAW_ID_CHARS, MessageId, is_group_like, normalize_jid, parse_message_id
from schemas.keys import ME, PEER
from schemas.normalize.head import BROWSER_ENGINES, Head, chat_at, jid_at, who


class Target(Struct, frozen=True, gc=False):
    """A message as facts refer to it."""

    chat: str
    raw_id: str
    author: str | None


class Act(Struct, frozen=True, gc=False):
    """What somebody did in a chat: `author` as a key needs him, `by` as a person."""

    chat: str
    raw_id: str
    author: str
    by: str  # ME or a person's id


class ActPayload(Struct, gc=False, rename={"from_": "from"}):
    """The fields by which any message-like payload names its chat and its sender."""

    id: str | None = None
    from_: str | None = None
    to: str | None = None
    fromMe: bool | None = None
    participant: str | None = None


def checked(found: MessageId, path: str) -> MessageId:
    """Raises MalformedError when a part is too long to be what it should be."""
    if len(found.chat) > MAX_JID_CHARS or (found.participant is not None and len(found.participant) > MAX_JID_CHARS):
        raise MalformedError("jid_too_long", path)
    if len(found.raw) > MAX_RAW_ID_CHARS:
        raise MalformedError("message_id_too_long", path)
    return found


def raw_at(value: str | None, path: str) -> str:
    """The raw id in a raw or serialized one. Raises MalformedError when there is none."""
    if not value:
        raise MalformedError("message_id_missing", path)
    parsed = parse_message_id(value)
    return checked_raw(parsed.raw if parsed else value, path)


def checked_raw(raw_id: str, path: str) -> str:
    """Raises MalformedError when the raw id is too long to be one."""
    if len(raw_id) > MAX_RAW_ID_CHARS:
        raise MalformedError("message_id_too_long", path)
    return raw_id


def target_of(value: str | None, path: str, me: tuple[str, ...]) -> Target | None:
    """The message of a serialized id; None when it is a raw one, or missing."""
    parsed = parse_message_id(value) if value else None
    if parsed is None or value is None:
        return None
    if len(value) > MAX_JID_CHARS:  # else no part of it can be too long
        checked(parsed, path)
    return Target(parsed.chat, parsed.raw, author_of(parsed.chat, parsed.from_me, parsed.participant, me))


def meant(target: Target | None, chat: str, me: tuple[str, ...]) -> Target | None:
    """The target of an act in `chat`. An act reaches no other chat, whatever id it names: a peer writes the id. Only
    what is said of a status is sent elsewhere. An id that names the account as its chat is the peer's view of it: his
    `fromMe` is not ours."""
    if target is None or target.chat in (chat, "status@broadcast"):
        return target
    swapped = target.chat in me or is_group_like(target.chat) != is_group_like(chat)
    return Target(chat, target.raw_id, None if swapped else target.author)


def author_of(chat: str, from_me: bool, participant: str | None, me: tuple[str, ...]) -> str | None:
    """Whose message it is. A group's messages by others are unknown without a participant."""
    if from_me:
        return ME
    if not is_group_like(chat):
        return PEER
    return who(participant, me) if participant is not None else None


def act_of(payload: ActPayload, head: Head, path: str) -> Act:
    """The act that a message-like payload is. Raises MalformedError when it has no id, or no chat."""
    if not payload.id:
        raise MalformedError("message_id_missing", f"{path}.id")
    parsed = checked(parse_message_id(payload.id) or _from_fields(payload, head.engine, path), f"{path}.id")
    chat = parsed.chat
    if parsed.from_me:
        return Act(chat, parsed.raw, ME, ME)
    if not is_group_like(chat):
        return Act(chat, parsed.raw, PEER, chat)
    # Without a participant the group itself stands for the sender, as in content.
    sender = jid_at(payload.participant, f"{path}.participant") or parsed.participant or chat
    return Act(chat, parsed.raw, sender, who(sender, head.me))


def _from_fields(payload: ActPayload, engine: str | None, path: str) -> MessageId:
    """A raw id is completed from the fields: WEBJS and WPP name sender and receiver, NOWEB and GOWS the chat."""
    from_me = payload.fromMe is True
    outgoing = from_me and engine in BROWSER_ENGINES
    chat = chat_at(payload.to if outgoing else payload.from_, f"{path}.{'to' if outgoing else 'from'}")
    participant = payload.participant
    return MessageId(from_me, chat, payload.id or "", normalize_jid(participant) if participant else None)
