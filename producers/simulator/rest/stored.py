"""What the simulated WAHA reads from a session's store: chats, messages, people, groups, hidden ids, labels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.simulator.facts import Chat, Json, Message
from producers.simulator.rest import shapes
from producers.simulator.rest.answers import error, json, no_store, not_working
from producers.simulator.rest.media import Files
from producers.simulator.rest.pages import Query, page
from producers.simulator.rest.world import Rows, SimulatedSession, SimulatedWaha
from producers.simulator.world import LABELS
from schemas.ids import normalize_jid, parse_message_id

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")
Handler = Callable[[SimulatedSession, Request], Response | Awaitable[Response]]

_SORTS = ("conversationTimestamp", "id", "name", None)


class Server(Protocol):
    """What the endpoints need of the server."""

    waha: SimulatedWaha
    files: Files
    rng: Random
    page_s: float
    row_s: float


def routes(server: Server) -> list[Route]:
    """Of one server."""
    reading = Reading(server)

    def of(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            name = request.path_params.get("session") or request.query_params.get("session") or "default"
            session = server.waha.sessions.get(name)
            if session is None:
                return error(422, f'Session "{name}" does not exist')
            if session.status != "WORKING":
                return not_working(name, session.status)
            if not session.store_enabled:
                return no_store()
            try:
                answer = handler(session, request)
                return answer if isinstance(answer, Response) else await answer
            except ValueError as exc:
                return error(400, str(exc))

        return endpoint

    return [
        Route("/api/contacts/all", of(_contacts)),
        Route("/api/contacts", of(_contact)),
        Route("/api/{session}/contacts/{contact}", of(_contact)),
        Route("/api/{session}/chats", of(_chats)),
        Route("/api/{session}/chats/overview", of(reading.overview)),
        Route("/api/{session}/chats/{chat}/messages", of(reading.messages)),
        Route("/api/{session}/chats/{chat}/messages/{message}", of(reading.message)),
        Route("/api/{session}/chats/{chat}/picture", of(_picture)),
        Route("/api/{session}/groups", of(_groups)),
        Route("/api/{session}/groups/count", of(_group_count)),
        Route("/api/{session}/groups/refresh", of(_refresh), methods=["POST"]),
        Route("/api/{session}/groups/{group}", of(_group)),
        Route("/api/{session}/groups/{group}/participants/v2", of(_members)),
        Route("/api/{session}/lids", of(_lids)),
        Route("/api/{session}/lids/count", of(_lid_count)),
        Route("/api/{session}/lids/pn/{number}", of(_lid_of)),
        Route("/api/{session}/lids/{lid}", of(_number_of)),
        Route("/api/{session}/labels", of(_labels)),
        Route("/api/{session}/labels/{label}/chats", of(_label_chats)),
    ]


class Reading:
    """The endpoints that show messages."""

    def __init__(self, server: Server) -> None:
        self._server, self._files, self._rng = server, server.files, server.rng

    def overview(self, session: SimulatedSession, request: Request) -> Response:
        """Chats with their last message, newest first."""
        found = sorted(session.chats, key=lambda c: -(_last_s(session, c) or 0))
        return json([self._overviewed(session, c) for c in _paged(found, request, default=20)])

    async def messages(self, session: SimulatedSession, request: Request) -> Response:
        """A page; with downloadMedia, which is WAHA's default, the files of all of it are fetched first."""
        query = Query.read(request.query_params.get)
        chat = request.path_params["chat"]
        rows: Rows | None = session.rows_of(normalize_jid(chat), merge=query.merge)
        if chat == "all" and session.account.engine in ("NOWEB", "GOWS"):
            rows = session.all
        found = page(rows or Rows(), query, self._rng)
        if takes_s := self._server.page_s + self._server.row_s * len(found):
            await asyncio.sleep(takes_s)
        return json([self._shown(session, r.message, query.download_media) for r in found])

    def message(self, session: SimulatedSession, request: Request) -> Response:
        """By serialized id; by raw id on NOWEB and GOWS."""
        text = request.path_params["message"]
        parsed = parse_message_id(text)
        if parsed is None and session.account.engine not in ("NOWEB", "GOWS"):
            return error(404, "Message not found")
        found = session.by_raw_id.get(parsed.raw if parsed else text)
        if found is None:
            return error(404, "Message not found")
        return json(self._shown(session, found, request.query_params.get("downloadMedia", "true") == "true"))

    def _shown(self, session: SimulatedSession, message: Message, download: bool) -> Json:
        if download and message.content.has_media:
            self._files.download(message)
        edits, reactions = session.edits.get(message.raw_id), session.reactions.get(message.raw_id, ())
        return shapes.message(message, downloaded=download, reactions=reactions, edit=edits[-1] if edits else None)

    def _overviewed(self, session: SimulatedSession, chat: Chat) -> Json:
        last = _last(session, chat)
        shown = shapes.message(last, downloaded=False) if last else None
        name = chat.subject or (chat.peer.name if chat.peer else "")
        return {"id": chat.id, "name": name, "picture": None, "lastMessage": shown, "_chat": {}}


def _chats(session: SimulatedSession, request: Request) -> Response:
    sort = request.query_params.get("sortBy")
    if sort not in _SORTS:
        return error(400, f"sortBy must be one of the following values: {', '.join(s for s in _SORTS if s)}")
    found = sorted(session.chats, key=lambda c: c.id if sort == "id" else str(_last_s(session, c) or 0))
    rows = [shapes.chat(session.account.engine, c, _last_s(session, c)) for c in _paged(found, request)]
    return json(rows)


def _contacts(session: SimulatedSession, request: Request) -> Response:
    return json([shapes.contact(session.account.engine, p) for p in _paged(session.people, request)])


def _contact(session: SimulatedSession, request: Request) -> Response:
    """Of an unknown contact an empty 200."""
    id_ = normalize_jid(request.path_params.get("contact") or request.query_params.get("contactId") or "")
    found = next((p for p in session.people if id_ in (p.id, p.lid, p.number)), None)
    return json(shapes.contact(session.account.engine, found)) if found else Response(b"")


def _picture(session: SimulatedSession, request: Request) -> Response:
    return json({"url": session.pictures.get(normalize_jid(request.path_params["chat"]))})


def _groups_of(session: SimulatedSession) -> list[Chat]:
    return sorted((c for c in session.chats if c.group), key=lambda c: c.id)


def _groups(session: SimulatedSession, request: Request) -> Response:
    return json(shapes.groups(session.account.engine, _paged(_groups_of(session), request)))


def _group_count(session: SimulatedSession, _request: Request) -> Response:
    return json({"count": len(_groups_of(session))})


def _refresh(_session: SimulatedSession, _request: Request) -> Response:
    return json({"success": True}, 201)


def _group(session: SimulatedSession, request: Request) -> Response:
    found = _group_named(session, request)
    return json(shapes.group(session.account.engine, found)) if found else error(404, "Group not found")


def _members(session: SimulatedSession, request: Request) -> Response:
    found = _group_named(session, request)
    return json([shapes.member(found, p) for p in found.members]) if found else error(404, "Group not found")


def _group_named(session: SimulatedSession, request: Request) -> Chat | None:
    return next((c for c in _groups_of(session) if c.id == request.path_params["group"]), None)


def _lids(session: SimulatedSession, request: Request) -> Response:
    return json([{"lid": p.lid, "pn": p.id} for p in _paged(session.people, request, default=100)])


def _lid_count(session: SimulatedSession, _request: Request) -> Response:
    return json({"count": len(session.people)})


def _number_of(session: SimulatedSession, request: Request) -> Response:
    lid = request.path_params["lid"].partition("@")[0] + "@lid"
    return json({"lid": lid, "pn": next((p.id for p in session.people if p.lid == lid), None)})


def _lid_of(session: SimulatedSession, request: Request) -> Response:
    number = request.path_params["number"].partition("@")[0]
    return json({"lid": next((p.lid for p in session.people if p.number == number), None), "pn": f"{number}@c.us"})


def _labels(_session: SimulatedSession, _request: Request) -> Response:
    return json([shapes.label(n, name) for n, name in enumerate(LABELS, start=1)])


def _label_chats(session: SimulatedSession, request: Request) -> Response:
    number = int(request.path_params["label"])
    found = [c for n, c in enumerate(session.chats) if n % len(LABELS) + 1 == number]
    return json([shapes.chat(session.account.engine, c, _last_s(session, c)) for c in found])


def _paged(found: list[T], request: Request, default: int | None = None) -> list[T]:
    limit, offset = request.query_params.get("limit"), int(request.query_params.get("offset") or 0)
    count = int(limit) if limit else default
    return found[offset:] if count is None else found[offset : offset + count]


def _last(session: SimulatedSession, chat: Chat) -> Message | None:
    rows = session.by_chat[chat.id].rows
    return next((row.message for row in reversed(rows) if not row.hidden), None)


def _last_s(session: SimulatedSession, chat: Chat) -> int | None:
    last = _last(session, chat)
    return last.timestamp if last else None
