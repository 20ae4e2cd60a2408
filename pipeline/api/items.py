"""Rows of the database as items of the API.

Pure. Details of a shape that nobody expects read as null: one odd row must not hide a page of good ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from pipeline.api import models
from pipeline.api.cursor import Position

if TYPE_CHECKING:
    from asyncpg import Record

Part = TypeVar("Part", bound=BaseModel)


def position(row: Record) -> Position:
    """The place of a message in its chat."""
    return Position(row["ts"], row["received_at"], row["key"])


def to_message(row: Record, session: str, chat: str) -> models.Message:
    """A row of `messages` in sql/queries/api.sql as an item."""
    extra = _extra(row["extra"])
    media = models.Media(mimetype=row["mimetype"], filename=row["filename"])
    return models.Message(
        id=_serialized_id(row, chat),
        session=session,
        chat=chat,
        sender=row["sender"],
        from_me=row["from_me"],
        timestamp=row["ts"],
        type=row["type"],
        text=row["body"],
        reply_to=row["reply_to"],
        quoted=_quoted(extra),
        source=row["source"],
        push_name=row["push_name"],
        has_media=row["has_media"],
        media=media if row["has_media"] else None,
        location=_part(models.Location, extra.get("location")),
        vcards=_texts(extra.get("vcards")),
        poll=_part(models.Poll, extra.get("poll")),
        received_at=row["received_at"],
    )


def to_contact(row: Record, session: str) -> models.Contact:
    """A row of `contacts` as an item."""
    fields = dict(row)
    return models.Contact(id=fields.pop("jid"), session=session, **fields)


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
