"""Groups of a session, and who was in one at a time: settings and roles as they were told by then, read by the law."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from pipeline.api.circle import Circle, open_circle
from pipeline.api.cursor import END
from pipeline.api.directory_models import Group, GroupWithMembers, Member
from pipeline.api.gather import ms
from pipeline.api.store import Store
from schemas.law import Stored, read
from schemas.law.people import Groups
from sql import queries

_SQL = queries("api_people") | {"session_and_chats": queries("api")["session_and_chats"]}
_END_MS = ms(END)  # the present asks for everything told: some clocks are fast


async def read_groups(store: Store, session: str, after: str, limit: int) -> tuple[list[Group], str | None] | None:
    """A page of groups as they are now, and the place after it. None for an unknown session."""
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            return None
        rows = await connection.fetch(_SQL["groups"], circle.session_id, after, limit + 1)
        page = {row["id"]: row["jid"] for row in rows[:limit]}
        circle.jids |= page
        await _learn_groups(connection, circle, page, "roles", END)
    settings = _settings(circle)
    found = [Group(**_described(circle, jid, settings), members=_count(circle, jid)) for jid in page.values()]
    return found, found[-1].id if len(rows) > limit else None


async def read_group(
    store: Store, session: str, group: str, at: datetime | None
) -> tuple[bool, GroupWithMembers | None]:
    """Whether the session is known, and one group as it was told by `at`; None for one that the session has not met."""
    until = at or END
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            return False, None
        [row] = await connection.fetch(_SQL["session_and_chats"], session, [group])
        if row["chat_id"] is None:
            return True, None
        circle.jids[row["chat_id"]] = group
        await _learn_groups(connection, circle, {row["chat_id"]: group}, "all_roles", until)
        await circle.learn_names(connection)
    members = _members(circle, group, ms(until) if at else _END_MS)
    described = _described(circle, group, _settings(circle))
    return True, GroupWithMembers(**described, at=at, members=members)


async def _learn_groups(connection: Any, circle: Circle, groups: dict[int, str], roles: str, at: datetime) -> None:
    await circle.learn_settings(connection, at)
    told = await connection.fetch(_SQL[roles], list(groups), at)
    for row in await connection.fetch(_SQL["lists"], list(groups), at):
        circle.known.settings[circle.session, groups[row["group_id"]], "member_list", ms(row["at"])] = ("", "0")
    for row in told:
        key = (circle.session, groups[row["group_id"]], row["person"], ms(row["at"]))
        circle.known.members[key] = (row["event_id"], row["role"], row["by_jid"] or "")
    await circle.learn(connection, {row["person_id"]: row["person"] for row in told})


def _settings(circle: Circle) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (_, group, setting), value in read(Stored(settings=circle.known.settings)).settings.items():
        found.setdefault(group, {})[setting] = orjson.loads(value)
    return found


def _described(circle: Circle, group: str, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings that have a field; what nobody told is null."""
    told = settings.get(group, {})
    texts = {
        name: told[name] for name in ("subject", "description", "owner", "invite") if isinstance(told.get(name), str)
    }
    flags = {n: told[n] for n in ("members_can_add", "members_can_send", "approval") if isinstance(told.get(n), bool)}
    if "owner" in texts:
        texts["owner"] = circle.person(texts["owner"])
    return {"id": group, "session": circle.session, **texts, **flags}


def _only(circle: Circle, group: str) -> Stored:
    """What was told of one group: the law looks through everything that it is given."""
    here = circle.known
    return Stored(
        settings={k: v for k, v in here.settings.items() if k[1] == group},
        members={k: v for k, v in here.members.items() if k[1] == group},
    )


def _count(circle: Circle, group: str) -> int | None:
    told = _only(circle, group)
    if not told.members:
        return None
    return len(Groups(told, circle.people).members(circle.session, group, _END_MS))


def _members(circle: Circle, group: str, at_ms: int) -> list[Member] | None:
    told = _only(circle, group)
    if not told.members:
        return None
    groups, found = Groups(told, circle.people), []
    for person, role in sorted(groups.members(circle.session, group, at_ms).items()):
        since_ms = groups.since(circle.session, group, person, at_ms)
        assert since_ms is not None
        by = {
            by for (_, _, jid, told_ms), (_, its_role, by) in told.members.items()
            if told_ms == since_ms and its_role == role and circle.person(jid) == person and by
        }  # fmt: skip
        found.append(
            Member(
                id=person,
                name=circle.names.get(person),
                role=role,
                since=datetime.fromtimestamp(since_ms / 1000, UTC),
                by=circle.person(max(by)) if by else None,
            )
        )
    return found
