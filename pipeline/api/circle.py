"""Who is who on a page: ids of a session with everything that was said of their being one, and their names.

Rows of the page are put into `known`; schemas.law reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.api.cursor import END
from pipeline.api.gather import fetch_identities, know_account, ms
from schemas.law.people import NAME_SOURCES, People, names_of
from schemas.law.stored import Stored
from sql import queries

_SQL = queries("api") | queries("api_people")


@dataclass(slots=True)
class Circle:
    """People and chats of a session, as far as a page names them. `people` is right after `learn`."""

    session: str
    session_id: int
    known: Stored
    people: People
    jids: dict[int, str] = field(default_factory=dict)  # id -> jid, twins among them
    names: dict[str, str] = field(default_factory=dict)  # canonical person -> the name shown
    ids: dict[str, list[int]] = field(default_factory=dict)  # canonical chat -> all its ids

    def chat(self, jid: str) -> str:
        """The canonical id of a chat or contact."""
        return self.people.chat(self.session, jid)

    def person(self, jid: str) -> str:
        """The canonical id of a person; `me` for the account itself."""
        return self.people.person(self.session, jid)

    def name(self, jid: str) -> str | None:
        """The name shown for a person; his number where there is no name."""
        return self.names.get(self.person(jid)) or number_of(self.chat(jid))

    def named(self, source: str) -> dict[str, str]:
        """Names of one source: canonical person -> name."""
        one = Stored(names={key: span for key, span in self.known.names.items() if key[2] == source})
        return {person: name for (_, person), name in names_of(one, self.people).items()}

    async def learn(self, connection: Any, met: Mapping[int, str]) -> None:
        """Who these are, and who was said to be one with them."""
        self.jids |= met
        self.jids |= await fetch_identities(connection, self.session, met, self.known)
        self.people = People(self.known)
        self.ids = {}
        for number, jid in self.jids.items():
            self.ids.setdefault(self.chat(jid), []).append(number)

    async def learn_names(self, connection: Any) -> None:
        """What everybody here is called."""
        for row in await connection.fetch(_SQL["names"], list(self.jids)):
            key = (self.session, self.jids[row["contact_id"]], row["source"], row["name"])
            if row["source"] in NAME_SOURCES:
                self.known.names[key] = (ms(row["first_at"]), ms(row["last_at"]))
        self.names = {person: name for (_, person), name in names_of(self.known, self.people).items()}

    async def learn_settings(self, connection: Any, at: datetime = END) -> None:
        """Subjects and other settings of the groups here, as they were told by then."""
        groups = self.groups()
        for row in await connection.fetch(_SQL["settings"], groups, at) if groups else ():
            key = (self.session, self.jids[row["group_id"]], row["setting"], ms(row["at"]))
            self.known.settings[key] = (row["event_id"], row["value"])

    def groups(self) -> list[int]:
        """Ids of the groups here."""
        return [number for number, jid in self.jids.items() if jid.endswith("@g.us")]


async def open_circle(connection: Any, session: str) -> Circle | None:
    """An empty circle that knows the session's account; None for an unknown session."""
    row = await connection.fetchrow(_SQL["session_and_chats"], session, []) if "\x00" not in session else None
    if row is None:
        return None
    known = Stored()
    know_account(row, session, known)
    return Circle(session, row["session_id"], known, People(known))


def number_of(jid: str) -> str | None:
    """A phone number as people write it, of an id that has one."""
    return f"+{jid[: -len('@c.us')]}" if jid.endswith("@c.us") else None


def pair_of(jids: Iterable[str]) -> tuple[str | None, str | None]:
    """Phone id and hidden id among the ids of one person."""
    found = sorted(jids)
    phone = next((jid for jid in found if jid.endswith("@c.us")), None)
    return phone, next((jid for jid in found if jid.endswith("@lid")), None)
