"""`GET /api/coverage/{session}` and `…/{chat}`: how complete the archive is, and where messages may be missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from pipeline.api.items import to_gap
from pipeline.api.models import OpenGap
from pipeline.api.routes import EVERYWHERE, SessionName, StoreOf, check_token, parse_chat_of
from pipeline.sync import coverage as sync_coverage
from pipeline.sync.coverage import Complete


class CoverageAnswer(BaseModel):
    """How complete the archive is, as far as anybody can tell."""

    complete: Complete = Field(description="unknown: nothing was fetched yet.")
    why: str
    since: datetime | None = Field(description="From here on every page that WAHA has was seen …")
    until: datetime | None = Field(description="… up to here; later messages come by webhook.")
    looked_at: int = Field(description="Messages that look-backs read again.")
    missed: int = Field(description="Of them, those that no webhook had brought.")
    gaps: list[OpenGap]


router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=EVERYWHERE)


@router.get("/coverage/{session}", operation_id="session_coverage")
async def session_coverage(session: SessionName, store: StoreOf) -> CoverageAnswer:
    """Of a session, all its chats together."""
    return await _read(store, session, None)


@router.get("/coverage/{session}/{chat}", operation_id="chat_coverage")
async def chat_coverage(
    session: SessionName, chat: Annotated[str, Path(description="As in /api/messages.")], store: StoreOf
) -> CoverageAnswer:
    """Of one chat."""
    return await _read(store, session, parse_chat_of(chat))


async def _read(store: StoreOf, session: str, chat: str | None) -> CoverageAnswer:
    async with store.connection() as connection:
        found = await sync_coverage.read_coverage(connection, session, chat)
    gaps = [to_gap(gap) for gap in found.gaps]
    return CoverageAnswer(
        complete=found.complete, why=found.why, since=_at(found.since_s), until=_at(found.until_s),
        looked_at=found.looked_at, missed=found.missed, gaps=gaps,
    )  # fmt: skip


def _at(at_s: int | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
