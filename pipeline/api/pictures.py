"""Profile pictures of people and groups: as files of messages are read (media.py), but by the contact who shows it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pipeline.api.circle import open_circle
from pipeline.api.media import FILE, DeskOf, Found, answer_file
from pipeline.api.problems import Problem, problem_response
from pipeline.api.routes import EVERYWHERE, Chat, SessionName, StoreOf, check_token, no_session, parse_chat_of
from pipeline.media.kinds import file_name
from pipeline.media.objects import object_key
from sql import queries

_SQL = queries("pictures")
_NONE = problem_response("No such session, or no picture of this contact is stored.")
_PICTURE: dict[int | str, dict[str, Any]] = {**FILE, 404: _NONE}
router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=EVERYWHERE)


@router.get(
    "/contacts/{session}/{chat}/picture", responses=_PICTURE, operation_id="read_picture", response_class=Response
)
async def read_picture(request: Request, session: SessionName, chat: Chat, *, store: StoreOf, desk: DeskOf) -> Response:
    """The newest profile picture of a person or group: a redirect to the store, or the picture itself."""
    jid = parse_chat_of(chat)
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            raise no_session()
        rows = await connection.fetch(_SQL["contact"], circle.session_id, jid)
        await circle.learn(connection, {row["id"]: row["jid"] for row in rows})
        met = circle.ids.get(circle.chat(jid), [])
        found = await connection.fetchrow(_SQL["of_contact"], met)
    if found is None:
        raise Problem(404, "no-picture", "No profile picture of this contact is stored.")
    name = file_name(None, found["extension"], jid.partition("@")[0])
    file = Found(object_key(found["sha256"]), found["sha256"], found["mimetype"], name, found["bytes"])
    return await answer_file(request, desk, file)
