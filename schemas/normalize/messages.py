"""`message`, `message.any` and `message.waiting`: content (message.py), and everything that comes with it.

What `_data` alone tells (details.py), the ids and names of people, the ack of an own message, and the acts that come as
messages (hidden.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.facts import ACK_LEVELS, AckFact, Fact, RankedContent, RevokeFact
from schemas.ids import is_group_like, raw_message_id
from schemas.keys import ME, PEER
from schemas.normalize.content import proto_message
from schemas.normalize.details import Data, content_part, is_plain, more_details, quoted_id
from schemas.normalize.head import Head, Record, head_of
from schemas.normalize.hidden import KEYS, hidden_acts
from schemas.normalize.message import to_content
from schemas.normalize.people import identities, name
from schemas.normalize.references import Act
from schemas.normalize.stored_edits import is_edited, stored_edit
from schemas.normalize.stored_reactions import stored_reactions
from schemas.reading import Reader
from schemas.rows import ContentFact, content_rank
from schemas.webhook import Payload, Webhook


class _Payload(Payload, rename={"data": "_data"}, gc=False):
    ack: int | None = None
    data: Data | None = None


class _Body(Webhook, gc=False):
    payload: _Payload | None = None


_read = Reader(_Body)
_encode = msgspec.json.Encoder().encode
_NO_DATA = Data()
_NOBODY: list[Fact] = []


def to_messages(body: bytes, record: Record) -> list[Fact]:
    """The content, or the acts that hide in it, and side facts. Raises MalformedError as to_content does."""
    event = _read(body)
    content = to_content(event, record.source, record.received_at_ms)
    payload = event.payload or _Payload()
    data = payload.data or _NO_DATA
    people = _people(content, data) if record.people else _NOBODY
    proto = data.proto_noweb or data.proto_gows
    if proto and not KEYS.isdisjoint(proto):
        head = head_of(event, record)
        if acts := hidden_acts(proto, _act(content), head, content.ts_ms):
            return acts + people
    if not is_plain(content.type, data, proto):
        content = _enriched(content, data)
    facts: list[Fact] = [_ranked(content, record, body)]
    if record.event == "message.waiting" and content.poverty == 2:
        facts = [_ranked(msgspec.structs.replace(content, type="waiting"), record, body)]
    if data.type == "revoked":
        facts.append(_tombstone(content, head_of(event, record)))
    if is_edited(data, proto) and (edit := stored_edit(content, data, _act(content))) is not None:
        facts.append(edit)
    if content.from_me and payload.ack in ACK_LEVELS:
        facts.append(AckFact(content.session, content.chat, content.raw_id, ME, None, payload.ack, None))
    if data.reactions:
        facts += stored_reactions(
            data.reactions, _act(content), head_of(event, record), content.ts_ms, record.received_at_ms
        )
    return facts + people if people else facts


def _people(content: ContentFact, data: Data) -> list[Fact]:
    at_ms = content.ts_ms
    found = identities(content.session, data.key, data.info, at_ms)
    if content.sender is not None and not content.from_me:
        if content.push_name is not None:
            found += name(content.session, content.sender, "push", content.push_name, at_ms)
        if data.verifiedBizName is not None:
            found += name(content.session, content.sender, "verified", data.verifiedBizName, at_ms)
    return found


def _ranked(content: ContentFact, record: Record, body: bytes) -> RankedContent:
    # Twins (message, message.any) share their envelope id, so the name belongs to what tells them apart.
    apart = f"{record.event}|{content.event_id}".encode() if content.event_id else body
    rank = content_rank(content.poverty, record.lane, record.received_at_ms, apart)
    return RankedContent(content, rank, record.received_at_ms, record.lane)


def _act(content: ContentFact) -> Act:
    """The message as an act of its sender: what hides in it is done by him."""
    if content.from_me:
        return Act(content.chat, content.raw_id, ME, ME)
    if not is_group_like(content.chat):
        return Act(content.chat, content.raw_id, PEER, content.chat)
    return Act(content.chat, content.raw_id, content.key_sender, content.sender or content.chat)


def _enriched(content: ContentFact, data: Data) -> ContentFact:
    part = content_part(proto_message(data))
    extra = more_details(content.type, data, part)
    changes: dict[str, Any] = {}
    if content.reply_to is None and (quoted := quoted_id(part)):
        changes["reply_to"] = raw_message_id(quoted)
    if data.type == "revoked":
        changes |= {"type": "revoked", "body": None, "poverty": 2}
    if extra:
        more = _encode(extra).decode()
        # Two objects without a key in common become one.
        changes["extra"] = more if content.extra is None else f"{content.extra[:-1]},{more[1:]}"
    return msgspec.structs.replace(content, **changes) if changes else content


def _tombstone(content: ContentFact, head: Head) -> RevokeFact:
    """WEBJS' type `revoked` is all that is left of a message. Who took it back is not said: its author, it is taken."""
    act = _act(content)
    return RevokeFact(
        content.session, content.chat, content.raw_id, act.author, act.by, head.at_ms, head.event_id, None, None
    )
