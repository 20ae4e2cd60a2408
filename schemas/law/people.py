"""Who is one person, and who was in a group: questions of reading, answered from the rows as they are now.

A mapping between a hidden id and a phone number holds when it is the newest thing said of both. So a number that changes hands
leaves its former owner, an operator's "no longer" parts two histories, and whatever was stored before stays as it was told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import NamedTuple

from schemas.keys import ME
from schemas.law.stored import Stored

NAME_SOURCES = ("saved", "push", "verified")  # whose name is shown first; then the number

_SECOND_MS = 1000


class Standing(NamedTuple):
    """What is known of a person in a group at a time."""

    inside: bool | None  # None: nobody said
    role: str | None


class People:
    """Canonical ids by session. A canonical person is ME, else the phone number where it is known, else the id itself."""

    def __init__(self, stored: Stored) -> None:
        self._phones = _holding(stored)
        self._me = {
            (session, jid)
            for (session,), row in stored.sessions.items()
            if row.account is not None
            for jid in row.account[1:3]
            if jid
        }

    def person(self, session: str, jid: str) -> str:
        """The canonical id of a person."""
        phone = self._phones.get((session, jid), jid)
        return ME if (session, jid) in self._me or (session, phone) in self._me else phone

    def chat(self, session: str, jid: str) -> str:
        """The canonical id of a chat: a direct chat is named after the peer, a chat with oneself stays what it is."""
        return self._phones.get((session, jid), jid)


def _holding(stored: Stored) -> dict[tuple[str, str], str]:
    """(session, hidden id) -> phone number, of the mappings that hold."""
    newest: dict[tuple[str, str], tuple[int, bool, str, str]] = {}
    for (session, lid, phone), (at_ms, fallen, _) in stored.identities.items():
        for one in (lid, phone):
            said = (at_ms, fallen, lid, phone)
            newest[session, one] = max(newest.get((session, one), said), said)
    return {
        (session, lid): phone
        for (session, lid, phone), (at_ms, fallen, _) in stored.identities.items()
        if not fallen and newest[session, lid] == newest[session, phone] == (at_ms, fallen, lid, phone)
    }


class Groups:
    """Members over time."""

    def __init__(self, stored: Stored, people: People) -> None:
        self._lists: dict[tuple[str, str], list[int]] = defaultdict(list)
        for session, group, setting, at_ms in stored.settings:
            if setting == "member_list":
                self._lists[session, group].append(at_ms)
        self._roles: dict[tuple[str, str, str], list[tuple[int, str, str]]] = defaultdict(list)
        for (session, group, jid, at_ms), (event_id, role, _) in stored.members.items():
            self._roles[session, group, people.person(session, jid)].append((at_ms, event_id, role))
        for times in self._lists.values():
            times.sort()
        for roles in self._roles.values():
            roles.sort()

    def standing(self, session: str, group: str, person: str, at_ms: int) -> Standing:
        """The person's newest role that was told by then. Who is not in the newest list of all members told by then, and
        was not named since, is outside; where no list was told, nobody knows."""
        listed = [at for at in self._lists.get((session, group), []) if at <= at_ms]
        roles = self._roles.get((session, group, person), [])
        told = roles[: bisect_right(roles, at_ms, key=lambda r: r[0])]
        if not told:
            return Standing(False if listed else None, None)
        last_ms, _, role = told[-1]
        if role == "left" or (listed and last_ms < listed[-1]):
            return Standing(False, None)
        return Standing(True, role)

    def since(self, session: str, group: str, person: str, at_ms: int) -> int | None:
        """From when on the person had the role of that time without a break; None for who is outside."""
        role = self.standing(session, group, person, at_ms).role
        if role is None:
            return None
        told = [r for r in self._roles[session, group, person] if r[0] <= at_ms]
        first_ms = told[-1][0]
        for earlier_ms, _, its_role in reversed(told):
            if earlier_ms < first_ms and not self.standing(session, group, person, first_ms - 1).inside:
                break
            if its_role != role:
                break
            first_ms = earlier_ms
        return first_ms

    def is_outside(self, session: str, group: str, person: str, at_ms: int) -> bool:
        """Known not to be a member. Some engines say seconds, others milliseconds: at the end of the second as well."""
        times = (at_ms, at_ms + _SECOND_MS)
        return all(self.standing(session, group, person, at).inside is False for at in times)

    def members(self, session: str, group: str, at_ms: int) -> dict[str, str]:
        """Person -> role at that time."""
        people = (p for s, g, p in self._roles if (s, g) == (session, group))
        found = {p: self.standing(session, group, p, at_ms) for p in people}
        return {p: st.role for p, st in found.items() if st.inside and st.role}


def names_of(stored: Stored, people: People) -> dict[tuple[str, str], str]:
    """(session, person) -> the name shown: saved before push before verified; of one source the one told last."""
    best: dict[tuple[str, str], tuple[int, int, str]] = {}
    for (session, jid, source, name), (_, last_ms) in stored.names.items():
        key, rated = (session, people.person(session, jid)), (-NAME_SOURCES.index(source), last_ms, name)
        best[key] = max(best.get(key, rated), rated)
    return {key: name for key, (_, _, name) in best.items()}
