"""Contacts of a session: people under their hidden id and their number once, with every name and where it is from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from pipeline.api.circle import Circle, open_circle, pair_of
from pipeline.api.directory_models import Contact, Name
from pipeline.api.items import picture_link
from pipeline.api.store import Store
from schemas.keys import ME
from schemas.law import read
from sql import queries

_SQL = queries("api_people") | queries("pictures")
_NUMBER = re.compile(r"[\d\s+().-]+")


class Wanted(NamedTuple):
    """What is searched for: a text of names, and digits of numbers ("" when it is no number)."""

    text: str
    digits: str


def to_wanted(q: str) -> Wanted:
    """`q` as a person writes it: spaces, brackets and dashes in a number are free."""
    digits = re.sub(r"\D", "", q) if _NUMBER.fullmatch(q) and q.isascii() else ""
    return Wanted(q.strip().lower(), digits)


async def read_contacts(
    store: Store, session: str, after: str, limit: int, wanted: Wanted | None, *, with_names: bool
) -> tuple[list[Contact], str | None] | None:
    """A page and the place after it, when there is more. None for an unknown session."""
    async with store.connection() as connection:
        circle = await open_circle(connection, session)
        if circle is None:
            return None
        sql, search = (_SQL["contacts"], ()) if wanted is None else (_SQL["contacts_like"], tuple(wanted))
        rows = await connection.fetch(sql, circle.session_id, after, limit + 1, *search)
        page = rows[:limit]
        await circle.learn(connection, {row["id"]: row["jid"] for row in page})
        await circle.learn_names(connection)
        await circle.learn_settings(connection)
        seen = {row["contact_id"]: row for row in await connection.fetch(_SQL["seen"], list(circle.jids))}
        pictured = {row["contact_id"] for row in await connection.fetch(_SQL["of_contacts"], list(circle.jids))}
    found = [item for item in _contacts(circle, page, seen, pictured) if wanted is None or _matches(item, wanted)]
    if not with_names:
        for item in found:
            item.names = None
    return found, page[-1]["jid"] if len(rows) > limit else None


def _contacts(circle: Circle, page: Iterable[Any], seen: dict[int, Any], pictured: set[int]) -> list[Contact]:
    sources = {source: circle.named(source) for source in ("saved", "push", "verified")}
    subjects = {group: orjson.loads(v) for (_, group, s), v in read(circle.known).settings.items() if s == "subject"}
    histories = _histories(circle)
    found = []
    for row in page:
        canonical = circle.chat(row["jid"])
        met = [number for number in circle.ids[canonical] if number in seen]
        if row["jid"] != canonical and any(circle.jids[number] == canonical for number in met):
            continue  # it is shown where its number stands
        person = circle.person(row["jid"])
        phone, lid = pair_of(circle.jids[number] for number in circle.ids[canonical])
        is_group = canonical.endswith("@g.us")
        found.append(
            Contact(
                id=canonical,
                session=circle.session,
                name=subjects.get(canonical) if is_group else circle.name(canonical),
                saved_name=sources["saved"].get(person),
                push_name=sources["push"].get(person),
                verified_name=sources["verified"].get(person),
                phone=phone,
                lid=lid,
                is_group=is_group,
                is_me=person == ME or any(seen[number]["is_me"] for number in met),
                first_seen_at=min(seen[number]["first_seen_at"] for number in met),
                last_seen_at=max(seen[number]["last_seen_at"] for number in met),
                picture=picture_link(circle.session, canonical)
                if pictured.intersection(circle.ids[canonical])
                else None,
                names=sorted(histories.get(person, []), key=lambda n: (n.last_at, n.name), reverse=True),
            )
        )
    return found


def _histories(circle: Circle) -> dict[str, list[Name]]:
    found: dict[str, list[Name]] = {}
    for (_, jid, source, name), (first_ms, last_ms) in circle.known.names.items():
        entry = Name(source=source, name=name, first_at=first_ms / 1000, last_at=last_ms / 1000)
        found.setdefault(circle.person(jid), []).append(entry)
    return found


def _matches(item: Contact, wanted: Wanted) -> bool:
    """The rows were candidates: ids that were said to be one and are not, or not any more, do not count."""
    texts = [item.name or "", *(n.name for n in item.names or ())]
    if any(wanted.text in text.lower() for text in texts):
        return True
    return bool(wanted.digits) and any(
        wanted.digits in (i or "").partition("@")[0] for i in (item.id, item.phone, item.lid)
    )
