"""Routes for people, groups, calls and lists of chats. Every path here asks for the token.

As in pipeline.api.routes: what the URL says, then rows through the store, then models.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, Field

from pipeline.api import calls, chat_list, contacts, cursor, directory_models, groups
from pipeline.api.problems import Problem, bad_parameter, problem_response
from pipeline.api.routes import (
    EVERYWHERE,
    UNKNOWN_SESSION,
    Page,
    PageOf,
    SessionName,
    StoreOf,
    check_token,
    no_session,
    parse_chat_of,
    read_cursor,
)

_UNKNOWN_GROUP: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such session, or group.")}
router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=EVERYWHERE)


class ContactsPage(Page):
    """Which contacts, and with what."""

    q: str | None = Field(
        None, min_length=1, max_length=100, pattern=r"^[^\x00]*\S[^\x00]*$",
        description="A part of a name or number; capitals, and spaces and dashes of a number, are free.",
    )  # fmt: skip
    include: list[Literal["names"]] = Field(default_factory=list, description="names: every name and when it was used.")


class ChatsPage(Page):
    """Which part of a list of chats; each brings a message with all that is said of it."""

    limit: int = Field(50, ge=1, le=100, description="Items on a page.")


@router.get("/contacts/{session}", responses=UNKNOWN_SESSION, operation_id="list_contacts")
async def list_contacts(
    session: SessionName, page: Annotated[ContactsPage, Query()], store: StoreOf
) -> directory_models.Contacts:
    """People and groups that a session has met, by id; those with `q` in a name or number."""
    wanted = contacts.to_wanted(page.q) if page.q is not None else None
    scope = ("contacts", session, *(wanted or ()))
    after = read_cursor(cursor.decode_text, page.before, scope) or ""
    found = await contacts.read_contacts(store, session, after, page.limit, wanted, with_names="names" in page.include)
    if found is None:
        raise no_session()
    return directory_models.Contacts(items=found[0], next=cursor.encode_text(found[1], *scope) if found[1] else None)


@router.get("/groups/{session}", responses=UNKNOWN_SESSION, operation_id="list_groups")
async def list_groups(session: SessionName, page: PageOf, store: StoreOf) -> directory_models.Groups:
    """Groups that a session has met, by id."""
    scope = ("groups", session)
    after = read_cursor(cursor.decode_text, page.before, scope) or ""
    found = await groups.read_groups(store, session, after, page.limit)
    if found is None:
        raise no_session()
    return directory_models.Groups(items=found[0], next=cursor.encode_text(found[1], *scope) if found[1] else None)


@router.get("/groups/{session}/{group}", responses=_UNKNOWN_GROUP, operation_id="read_group")
async def read_group(
    session: SessionName,
    group: Annotated[str, Path(description="The group's id.", examples=["120363041234567890@g.us"])],
    store: StoreOf,
    at: Annotated[
        AwareDatetime | None, Query(description="As it was told by then: RFC 3339 with an offset (`Z`). Without: now.")
    ] = None,
) -> directory_models.GroupWithMembers:
    """One group and who was in it, each with his role and since when."""
    jid = parse_chat_of(group)
    if not jid.endswith("@g.us"):
        raise bad_parameter("group", "a group's id ends with @g.us; /api/groups/{session} lists them")
    known, found = await groups.read_group(store, session, jid, _in_utc(at))
    if not known:
        raise no_session()
    if found is None:
        raise Problem(404, "no-such-group", "The session has not met a group of this id.")
    return found


@router.get("/calls/{session}", responses=UNKNOWN_SESSION, operation_id="list_calls")
async def list_calls(session: SessionName, page: PageOf, store: StoreOf) -> directory_models.Calls:
    """Calls, newest first."""
    scope = ("calls", session)

    def decode(text: str, *of: str) -> calls.Place:
        return calls.Place(*cursor.decode_values(text, (datetime, str, int), *of))

    before = read_cursor(decode, page.before, scope) or calls.NEWEST
    found = await calls.read_calls(store, session, before, page.limit)
    if found is None:
        raise no_session()
    return directory_models.Calls(items=found[0], next=_encode(found[1], scope))


@router.get("/chats/{session}", responses=UNKNOWN_SESSION, operation_id="list_chats")
async def list_chats(
    session: SessionName, page: Annotated[ChatsPage, Query()], store: StoreOf
) -> directory_models.Chats:
    """Chats that have messages, the newest message first."""
    scope = ("chats", session)

    def decode(text: str, *of: str) -> chat_list.Place:
        return chat_list.Place(*cursor.decode_values(text, (datetime, int), *of))

    before = read_cursor(decode, page.before, scope) or chat_list.NEWEST
    found = await chat_list.read_chats(store, session, before, page.limit)
    if found is None:
        raise no_session()
    return directory_models.Chats(items=found[0], next=_encode(found[1], scope))


def _encode(place: tuple[Any, ...] | None, scope: tuple[str, ...]) -> str | None:
    """A place begins with a time."""
    return cursor.encode_values([cursor.to_us(place[0]), *place[1:]], *scope) if place is not None else None


def _in_utc(at: datetime | None) -> datetime | None:
    try:
        return at.astimezone(UTC) if at is not None else None
    except OverflowError:
        raise bad_parameter("at", "a time between the years 1 and 9999") from None
