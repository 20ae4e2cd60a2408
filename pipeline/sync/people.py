"""Reads who people are from WAHA: contacts, hidden ids, groups with their members, labels and the chats that carry them.

Groups and labels become the events that WAHA has for them; contacts and hidden ids, which have none, become `wapipe.people`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pipeline.sync.envelopes import Fetched, Wrapper
from pipeline.waha import Waha
from pipeline.waha.answers import GroupInfo, LabelInfo, Member
from pipeline.waha.errors import EngineError, NotThereError, RefusedError
from schemas.normalize.fetched import PEOPLE_EVENT
from schemas.sync import ALL_CHATS

T = TypeVar("T")

_PAGE = 100


class People:
    """Of one session. Of what an engine cannot tell (labels of a private account, say) nothing is read."""

    def __init__(self, waha: Waha, wrapper: Wrapper, publish: Callable[[Sequence[Fetched]], Awaitable[None]]) -> None:
        self._waha, self._wrapper, self._publish = waha, wrapper, publish
        self._name = wrapper.info.name
        self._at_ms = time.time_ns() // 1_000_000

    async def fetch(self, chat: str = ALL_CHATS) -> int:
        """Everything once, or the members of one group; answers how many things were told. Raises errors of waha.errors."""
        told = 0
        parts = [self._contacts(), self._lids(), self._groups(), self._labels()]
        for part in parts if chat == ALL_CHATS else [self._members(chat)]:
            try:
                async for records in part:
                    await self._publish(records)
                    told += len(records)
            except (NotThereError, RefusedError, EngineError):  # what this engine or this account does not have
                continue
        return told

    async def _contacts(self) -> AsyncIterator[list[Fetched]]:
        async for number, page in pages(lambda limit, offset: self._waha.contacts(self._name, limit, offset)):
            contacts = [{"id": c.id, "name": c.name, "push_name": c.push_name, "lid": c.lid} for c in page]
            yield [self._event(PEOPLE_EVENT, f"contacts {number}", {"contacts": contacts})]

    async def _lids(self) -> AsyncIterator[list[Fetched]]:
        async for number, page in pages(lambda limit, offset: self._waha.lids(self._name, limit, offset)):
            lids = [{"lid": one.lid, "phone": one.phone} for one in page if one.phone]
            yield [self._event(PEOPLE_EVENT, f"lids {number}", {"lids": lids})]

    async def _groups(self) -> AsyncIterator[list[Fetched]]:
        async for _, page in pages(lambda limit, offset: self._waha.groups(self._name, limit, offset)):
            yield [await self._group(group) for group in page]

    async def _members(self, group: str) -> AsyncIterator[list[Fetched]]:
        """Of a group that the account has left, nobody is listed."""
        if members := await self._waha.members(self._name, group):
            yield [self._told(GroupInfo(group, None, None, None), members)]

    async def _group(self, group: GroupInfo) -> Fetched:
        return self._told(group, await self._waha.members(self._name, group.id))

    def _told(self, group: GroupInfo, members: Sequence[Member]) -> Fetched:
        told: dict[str, Any] = {
            "id": group.id,
            "subject": group.subject,
            "description": group.description,
            "participants": [{"id": m.id, "pn": m.phone, "role": m.role} for m in members],
        }
        payload = {"timestamp": self._at_ms, "group": {k: v for k, v in told.items() if v is not None}}
        return self._event("group.v2.join", group.id, payload, group.id)

    async def _labels(self) -> AsyncIterator[list[Fetched]]:
        for label in await self._waha.labels(self._name):
            yield await self._label(label)

    async def _label(self, label: LabelInfo) -> list[Fetched]:
        look = {"id": label.id, "name": label.name, "color": label.color, "colorHex": label.color_hex}
        records = [self._event("label.upsert", label.id, {k: v for k, v in look.items() if v is not None})]
        for chat in await self._waha.label_chats(self._name, label.id):
            payload = {"labelId": label.id, "chatId": chat.id, "label": None}
            records.append(self._event("label.chat.added", f"{label.id} {chat.id}", payload, chat.id))
        return records

    def _event(self, event: str, identity: str, payload: Any, chat: str = "") -> Fetched:
        return self._wrapper.event(event, f"{identity} {self._at_ms}", payload, self._at_ms, chat)


async def pages(read: Callable[[int, int], Awaitable[list[T]]]) -> AsyncIterator[tuple[int, list[T]]]:
    """Until an empty page; a server that ignores the offset is noticed by the same page coming again."""
    offset, last = 0, None
    while page := await read(_PAGE, offset):
        if page == last:
            return
        yield offset, page
        last = page
        offset += _PAGE
