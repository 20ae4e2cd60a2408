"""Rows of the database as items of the API.

Pure. Details of a shape that nobody expects read as null: one odd row must not hide a page of good ones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from pipeline.api import models
from pipeline.api.cursor import Position
from pipeline.sync.coverage import Gap
from schemas.facts import ACK_NAMES, EditFact
from schemas.law.view import Message, MessageId, State

if TYPE_CHECKING:
    from asyncpg import Record

Part = TypeVar("Part", bound=BaseModel)
_PLACED = frozenset({"quoted", "location", "vcards", "poll", "media"})  # of `extra`: what has a field of its own


def position(row: Record) -> Position:
    """The place of a message in its chat."""
    return Position(row["ts"], row["received_at"], row["key"], row["chat_id"])


Include = Literal["edits", "receipts", "revoked"]
_LEVELS = ACK_NAMES
_TIMED = ("server_at", "device_at", "read_at", "played_at")


def to_gap(gap: Gap) -> models.OpenGap:
    """A gap as clients see it."""
    said = {"since": datetime.fromtimestamp(gap.since_s, UTC), "until": datetime.fromtimestamp(gap.until_s, UTC)}
    return models.OpenGap.model_validate({"chat": gap.chat, "cause": gap.cause, "status": gap.status, **said})


def to_message(
    row: Record, state: State, found: MessageId, include: frozenset[str] = frozenset(), file: Record | None = None
) -> models.Message:
    """A row of `messages` in sql/queries/api.sql and what the law says of it, as an item. `file`: the job of its file."""
    extra = _extra(row["extra"])
    shown, chat = state.messages[found], state.messages[found].content.chat
    media = models.Media(mimetype=row["mimetype"], filename=row["filename"], **_measures(extra.pop("media", None)))
    revoked = None
    if shown.revoked_by is not None and shown.revoked_ms is not None:
        behind = shown.text if "revoked" in include else None
        revoked = models.Revoked(by=shown.revoked_by, at=_time(shown.revoked_ms), text=behind)
    edits = [_edit(e) for e in shown.edits]
    poll = _part(models.Poll, extra.pop("poll", None))
    if poll is not None:
        poll.votes = shown.tally
    id_ = _serialized_id(row, chat)
    if file is not None:
        _add_file(media, file, found.session, id_, hidden=revoked is not None and "revoked" not in include)
    return models.Message(
        id=id_,
        session=found.session,
        chat=found.chat,
        sender=row["sender"],
        from_me=row["from_me"],
        timestamp=row["ts"],
        type=row["type"],
        text=shown.text if revoked is None else None,
        edited_at=edits[-1].at if edits else None,
        revoked=revoked,
        ack=_LEVELS[shown.ack] if shown.ack is not None else None,
        reactions=[models.Reaction(by=by, emoji=emoji) for by, emoji in sorted(shown.reactions.items())],
        responses=[
            models.Response(by=by, response=said, guests=guests)
            for by, (said, guests) in sorted(shown.responses.items())
        ],
        reply=shown.reply,
        edits=edits if "edits" in include else None,
        receipts=_receipts(shown) if "receipts" in include else None,
        flags=sorted({flag.reason for flag in state.flagged if flag.table == "contents" and flag.key == found}),
        reply_to=row["reply_to"],
        quoted=_quoted(extra),
        source=row["source"],
        push_name=row["push_name"],
        has_media=row["has_media"],
        media=media if row["has_media"] else None,
        location=_part(models.Location, extra.get("location")),
        vcards=_texts(extra.get("vcards")),
        poll=poll,
        details={name: extra[name] for name in sorted(extra.keys() - _PLACED)} or None,
        received_at=row["received_at"],
    )


def _add_file(media: models.Media, file: Record, session: str, id_: str, *, hidden: bool) -> None:
    """What became of the file. A message that was taken back has no link, unless what is behind it is asked for."""
    media.state, media.reason = file["download_status"], file["reason"]
    if file["sha256"] is None:
        return
    media.bytes = file["bytes"]
    media.mimetype = file["sniffed"] or media.mimetype
    if not hidden:
        media.link = media_link(session, id_)
        media.thumbnail = f"{media.link}/thumbnail" if file["thumbnail"] == "made" else None


def media_link(session: str, id_: str) -> str:
    """The path of a message's file."""
    return f"/api/media/{quote(session, safe=':')}/{quote(id_, safe='@:')}"


def picture_link(session: str, id_: str) -> str:
    """The path of a contact's profile picture."""
    return f"/api/contacts/{quote(session, safe=':')}/{quote(id_, safe='@:')}/picture"


def _edit(fact: EditFact) -> models.Edit:
    return models.Edit(text=fact.text, at=_time(fact.at_ms), text_before=fact.text_before)


def _receipts(shown: Message) -> list[models.Receipt]:
    found = []
    for recipient, (rank, times) in sorted(shown.acks.items(), key=lambda item: item[0] or ""):
        at = {name: _time(t) if t is not None else None for name, t in zip(_TIMED, times[2:], strict=True)}
        found.append(models.Receipt(recipient=recipient, level=_LEVELS[rank], **at))
    return found


def _measures(value: Any) -> dict[str, Any]:
    """bytes, width, height, seconds, sha256 of a file, where the payload says them."""
    known = models.Media.model_fields
    return {k: v for k, v in value.items() if k in known} if isinstance(value, dict) else {}


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_session(row: Record) -> models.Session:
    """A row of `sessions` as an item."""
    fields = dict(row)
    me, lid, push_name = (fields.pop(name) for name in ("me", "me_lid", "me_push_name"))
    return models.Session(me=models.Me(id=me, lid=lid, push_name=push_name) if me else None, **fields)


def _serialized_id(row: Record, chat: str) -> str:
    participant = f"_{row['participant']}" if row["participant"] else ""
    return f"{'true' if row['from_me'] else 'false'}_{chat}_{row['raw_id']}{participant}"


def _extra(text: str | None) -> dict[str, Any]:
    found = orjson.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _quoted(extra: dict[str, Any]) -> str | None:
    quoted = extra.get("quoted")
    text = quoted.get("text") if isinstance(quoted, dict) else None
    return text if isinstance(text, str) else None


def _texts(value: Any) -> list[str] | None:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else None


def _part(model: type[Part], value: Any) -> Part | None:
    try:
        return model.model_validate(value) if value is not None else None
    except ValidationError:
        return None
