"""The calls of WAHA's REST that wapipe needs, typed. Every one raises the errors of waha.errors."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pipeline.waha import answers
from pipeline.waha.client import WahaClient

ALL_CHATS = "all"  # in place of a chat, on NOWEB and GOWS: one sweep over all chats
SWEEPING_ENGINES = frozenset({"NOWEB", "GOWS"})


class Waha:
    """One server. Sessions are named as that server names them, without a source."""

    def __init__(self, client: WahaClient) -> None:
        self._client = client

    @property
    def client(self) -> WahaClient:
        """Its HTTP."""
        return self._client

    async def version(self) -> answers.Version:
        """What runs there."""
        return await self._client.get("version", "/api/server/version", answers.read_version)

    async def sessions(self) -> list[answers.SessionInfo]:
        """All sessions, stopped ones included."""
        return await self._client.get("sessions", "/api/sessions", answers.read_sessions, [("all", "true")])

    async def session(self, session: str) -> answers.SessionInfo | None:
        """One session with its engine. Raises NotThereError or SessionNotReadyError for an unknown one (by version)."""
        return await self._client.get("session", f"/api/sessions/{_part(session)}", answers.read_one_session)

    async def restart(self, session: str) -> None:
        """Restarts a session; done when WAHA accepted it."""
        await self._client.post("restart", f"/api/sessions/{_part(session)}/restart")

    async def configure(self, session: str, config: dict[str, Any]) -> None:
        """Gives a session these settings in place of all it had; a running one restarts. Done when WAHA accepted it."""
        await self._client.put("configure", f"/api/sessions/{_part(session)}", {"name": session, "config": config})

    async def chats(self, session: str, limit: int, offset: int) -> list[answers.ChatInfo]:
        """A page of chats, by id: an order that does not move while it is paged."""
        params = [("limit", str(limit)), ("offset", str(offset)), ("sortBy", "id"), ("sortOrder", "asc")]
        return await self._client.get("chats", f"/api/{_part(session)}/chats", answers.read_chats, params)

    async def overview(self, session: str, limit: int, offset: int) -> list[answers.ChatInfo]:
        """A page of chats with the time of the last message, newest first."""
        params = [("limit", str(limit)), ("offset", str(offset))]
        return await self._client.get(
            "overview", f"/api/{_part(session)}/chats/overview", answers.read_overview, params
        )

    async def messages(
        self, session: str, chat: str, *, since_s: int, until_s: int, limit: int, offset: int = 0
    ) -> list[answers.Row]:
        """A page of the messages from `since_s` to `until_s` (both inclusive), oldest first, files left alone.

        A page may be short or empty while more follow: WAHA filters after it cut the page. Twins of a chat under a hidden
        id and a number come together (merge) where the version can.
        """
        params = [
            ("limit", str(limit)), ("offset", str(offset)), ("downloadMedia", "false"), ("merge", "true"),
            ("sortBy", "timestamp"), ("sortOrder", "asc"),
            ("filter.timestamp.gte", str(since_s)), ("filter.timestamp.lte", str(until_s)),
        ]  # fmt: skip
        path = f"/api/{_part(session)}/chats/{_part(chat)}/messages"
        return await self._client.get("messages", path, answers.read_page, params)

    async def message(
        self, session: str, chat: str, message_id: str, *, download_media: bool = False
    ) -> answers.MessageAnswer | None:
        """One message. With `download_media` WAHA fetches its file from WhatsApp again and names a fresh URL. None or
        NotThereError when WAHA does not have it."""
        params = [("downloadMedia", "true" if download_media else "false")]
        path = f"/api/{_part(session)}/chats/{_part(chat)}/messages/{_part(message_id)}"
        return await self._client.get("message", path, answers.read_message, params)

    async def picture(self, session: str, chat: str) -> str | None:
        """Where the profile picture of a person or group is; None when there is none that this account may see."""
        path = f"/api/{_part(session)}/chats/{_part(chat)}/picture"
        return await self._client.get("picture", path, answers.read_picture)

    async def contacts(self, session: str, limit: int, offset: int) -> list[answers.ContactInfo]:
        """A page of people, by id."""
        params = [
            ("session", session),
            ("limit", str(limit)),
            ("offset", str(offset)),
            ("sortBy", "id"),
            ("sortOrder", "asc"),
        ]
        return await self._client.get("contacts", "/api/contacts/all", answers.read_contacts, params)

    async def groups(self, session: str, limit: int, offset: int) -> list[answers.GroupInfo]:
        """A page of groups without their members, by id."""
        params = [("limit", str(limit)), ("offset", str(offset)), ("sortBy", "id"), ("sortOrder", "asc"),
                  ("exclude", "participants")]  # fmt: skip
        return await self._client.get("groups", f"/api/{_part(session)}/groups", answers.read_groups, params)

    async def members(self, session: str, group: str) -> list[answers.Member]:
        """All members of a group."""
        path = f"/api/{_part(session)}/groups/{_part(group)}/participants/v2"
        return await self._client.get("members", path, answers.read_members)

    async def lids(self, session: str, limit: int, offset: int) -> list[answers.LidInfo]:
        """A page of hidden ids and their numbers."""
        params = [("limit", str(limit)), ("offset", str(offset))]
        return await self._client.get("lids", f"/api/{_part(session)}/lids", answers.read_lids, params)

    async def labels(self, session: str) -> list[answers.LabelInfo]:
        """All labels."""
        return await self._client.get("labels", f"/api/{_part(session)}/labels", answers.read_labels)

    async def label_chats(self, session: str, label: str) -> list[answers.ChatInfo]:
        """The chats that carry a label."""
        path = f"/api/{_part(session)}/labels/{_part(label)}/chats"
        return await self._client.get("label_chats", path, answers.read_chats)


def _part(text: str) -> str:
    return quote(text, safe="@")
