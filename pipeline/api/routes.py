"""The lists that clients read: messages of a chat, contacts and sessions. Every path here asks for the token.

A route parses what the URL says, reads rows through the store and turns them into models; SQL and errors are
elsewhere.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field

from pipeline.api import cursor, items, models
from pipeline.api.chats import HOW_TO_WRITE_A_CHAT, parse_chat
from pipeline.api.problems import Problem, bad_parameter, problem_response
from pipeline.api.store import Store

_BAD_CURSOR = "no cursor of this list: give the `next` of an earlier page of the same list, or leave it out"
_token_header = APIKeyHeader(
    name="X-Api-Token",
    scheme_name="token",
    auto_error=False,
    description="WHATSAPP_GATEWAY_API_TOKEN's value.",
)


class Page(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")  # `offset=50` must not silently read the first page again

    limit: int = Field(50, ge=1, le=500, description="Items on a page.")
    before: str | None = Field(None, description="`next` of the page before; without it, the first page.")


async def check_token(request: Request, given: Annotated[str | None, Security(_token_header)]) -> None:
    """Raises a 401 problem unless the request carries the token. Compares in constant time."""
    wanted: bytes = request.app.state.token
    # Header bytes arrive decoded as Latin-1; this gives the bytes back.
    if given is None or not hmac.compare_digest(given.encode("latin-1"), wanted):
        detail = "X-Api-Token is missing." if given is None else "X-Api-Token is not this server's token."
        raise Problem(401, "unauthorized", detail, {"WWW-Authenticate": 'ApiKey header="X-Api-Token"'})


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


_EVERYWHERE: dict[int | str, dict[str, Any]] = {
    401: problem_response("The token is missing or wrong."),
    422: problem_response("A parameter cannot be read; `detail` says which and how to mend it."),
    503: problem_response("The database does not answer; `Retry-After` says when to try again."),
}
_UNKNOWN_SESSION: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such session.")}
StoreOf = Annotated[Store, Depends(_store)]
PageOf = Annotated[Page, Query()]
SessionName = Annotated[str, Path(description="The session; `source:name` for a second WAHA.", examples=["default"])]
Chat = Annotated[str, Path(description=HOW_TO_WRITE_A_CHAT, examples=["4915123456789@c.us", "+49 151 23456789"])]
router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=_EVERYWHERE)


@router.get("/messages/{session}/{chat}", responses=_UNKNOWN_SESSION, operation_id="list_messages")
async def list_messages(session: SessionName, chat: Chat, page: PageOf, store: StoreOf) -> models.Messages:
    """Messages of a chat, newest first. A chat that the session has not met is an empty list."""
    jid = _parse_chat(chat)
    scope = ("messages", session, jid)
    before = _read_cursor(cursor.decode_position, page.before, scope)
    session_id, chat_id = await store.session_and_chat(session, jid)
    if session_id is None:
        raise _no_session()
    rows = [] if chat_id is None else await store.messages(chat_id, before, page.limit + 1)
    found = [items.to_message(row, session, jid) for row in rows[: page.limit]]
    last = items.position(rows[page.limit - 1]) if len(rows) > page.limit else None
    return models.Messages(items=found, next=cursor.encode_position(last, *scope) if last else None)


@router.get("/contacts/{session}", responses=_UNKNOWN_SESSION, operation_id="list_contacts")
async def list_contacts(session: SessionName, page: PageOf, store: StoreOf) -> models.Contacts:
    """People and groups that a session has met, by id."""
    scope = ("contacts", session)
    after = _read_cursor(cursor.decode_text, page.before, scope) or ""
    session_id = await store.session_id(session)
    if session_id is None:
        raise _no_session()
    rows = await store.contacts(session_id, after, page.limit + 1)
    found = [items.to_contact(row, session) for row in rows[: page.limit]]
    return models.Contacts(
        items=found, next=cursor.encode_text(found[-1].id, *scope) if len(rows) > page.limit else None
    )


@router.get("/sessions", operation_id="list_sessions")
async def list_sessions(page: PageOf, store: StoreOf) -> models.Sessions:
    """All sessions that wapipe has heard of, by name."""
    scope = ("sessions",)
    after = _read_cursor(cursor.decode_text, page.before, scope) or ""
    rows = await store.sessions(after, page.limit + 1)
    found = [items.to_session(row) for row in rows[: page.limit]]
    return models.Sessions(
        items=found, next=cursor.encode_text(found[-1].name, *scope) if len(rows) > page.limit else None
    )


def _parse_chat(text: str) -> str:
    try:
        return parse_chat(text)
    except ValueError as exc:
        raise bad_parameter("chat", str(exc)) from exc


def _read_cursor(decode: Any, text: str | None, scope: tuple[str, ...]) -> Any:
    try:
        return decode(text, *scope) if text is not None else None
    except ValueError as exc:
        raise bad_parameter("before", _BAD_CURSOR) from exc


def _no_session() -> Problem:
    return Problem(404, "no-such-session", "There is no session of this name; /api/sessions lists them.")
