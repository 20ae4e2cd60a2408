"""The lists that clients read: messages of a chat, and sessions. Every path here asks for the token.

A route parses what the URL says, reads rows through the store and turns them into models; SQL and errors are
elsewhere.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field

from pipeline.api import cursor, items, models
from pipeline.api.chats import HOW_TO_WRITE_A_CHAT, parse_chat
from pipeline.api.items import Include
from pipeline.api.problems import Problem, bad_parameter, problem_response
from pipeline.api.store import Store
from schemas.ids import parse_message_id

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


class MessagesPage(Page):
    """Which part of a chat, and with what."""

    include: list[Include] = Field(
        default_factory=list,
        description="edits: the history of texts; receipts: how far it came with each recipient; revoked: the text behind "
        "a tombstone. May be repeated.",
    )


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


EVERYWHERE: dict[int | str, dict[str, Any]] = {
    401: problem_response("The token is missing or wrong."),
    422: problem_response("A parameter cannot be read; `detail` says which and how to mend it."),
    503: problem_response("The database does not answer; `Retry-After` says when to try again."),
}
_UNKNOWN_MESSAGE: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such session, or message.")}
UNKNOWN_SESSION: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such session.")}
StoreOf = Annotated[Store, Depends(_store)]
PageOf = Annotated[Page, Query()]
MessagesPageOf = Annotated[MessagesPage, Query()]
MessageName = Annotated[
    str, Path(description="The message's id, serialized or raw.", examples=["3EB0C431C26A1916E07A"])
]
SessionName = Annotated[str, Path(description="The session; `source:name` for a second WAHA.", examples=["default"])]
Chat = Annotated[str, Path(description=HOW_TO_WRITE_A_CHAT, examples=["4915123456789@c.us", "+49 151 23456789"])]
router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=EVERYWHERE)


@router.get("/messages/{session}/{chat}", responses=UNKNOWN_SESSION, operation_id="list_messages")
async def list_messages(session: SessionName, chat: Chat, page: MessagesPageOf, store: StoreOf) -> models.Messages:
    """Messages of a chat, newest first. A chat that the session has not met is an empty list."""
    jid, include = parse_chat_of(chat), frozenset(page.include)
    scope = ("messages", session, jid)
    before = read_cursor(cursor.decode_position, page.before, scope)
    part = await store.messages(session, jid, before, page.limit + 1)
    if part is None:
        raise no_session()
    over = part.rows[page.limit :]  # one row more says whether there are more
    shown = [(row, found) for row, found in part.page.shown if not over or row is not over[0]]
    last = items.position(part.rows[page.limit - 1]) if over else None
    return models.Messages(
        items=[
            items.to_message(row, part.page.state, found, include, part.page.files.get(found)) for row, found in shown
        ],
        next=cursor.encode_position(last, *scope) if last else None,
        complete=part.coverage.complete,
        gaps=[items.to_gap(gap) for gap in part.coverage.gaps],
    )


@router.get("/messages/{session}/{chat}/{message}", responses=_UNKNOWN_MESSAGE, operation_id="read_message")
async def read_message(session: SessionName, chat: Chat, message: MessageName, store: StoreOf) -> models.WholeMessage:
    """One message with its whole history."""
    jid, wanted = parse_chat_of(chat), parse_message_id(message)
    page = await store.message(session, jid, wanted.raw if wanted else message)
    if page is None:
        raise no_session()
    everything = frozenset(get_args(Include))
    found = [items.to_message(row, page.state, place, everything, page.files.get(place)) for row, place in page.shown]
    exact = [m for m in found if m.id == message]
    if not found:
        raise Problem(404, "no-such-message", "The chat has no message of this id, or it has not come yet.")
    item = (exact or found)[0]
    coverage = await store.coverage(session, jid, int(item.timestamp.timestamp()))
    gaps = [items.to_gap(gap) for gap in coverage.gaps]
    return models.WholeMessage(**dict(item), complete=coverage.complete, gaps=gaps)


@router.get("/sessions", operation_id="list_sessions")
async def list_sessions(page: PageOf, store: StoreOf) -> models.Sessions:
    """All sessions that wapipe has heard of, by name."""
    scope = ("sessions",)
    after = read_cursor(cursor.decode_text, page.before, scope) or ""
    rows = await store.sessions(after, page.limit + 1)
    found = [items.to_session(row) for row in rows[: page.limit]]
    return models.Sessions(
        items=found, next=cursor.encode_text(found[-1].name, *scope) if len(rows) > page.limit else None
    )


def parse_chat_of(text: str) -> str:
    """The stored id of a chat in a path. Raises Problem."""
    try:
        return parse_chat(text)
    except ValueError as exc:
        raise bad_parameter("chat", str(exc)) from exc


def read_cursor(decode: Any, text: str | None, scope: tuple[str, ...]) -> Any:
    """The place in `before`, None without one. Raises Problem."""
    try:
        return decode(text, *scope) if text is not None else None
    except ValueError as exc:
        raise bad_parameter("before", _BAD_CURSOR) from exc


def no_session() -> Problem:
    """404 for a session that nobody has heard of."""
    return Problem(404, "no-such-session", "There is no session of this name; /api/sessions lists them.")
