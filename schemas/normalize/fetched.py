"""`wapipe.people`: contacts and hidden ids as WAHA's REST lists them, for which it has no event. Made by pipeline.sync.people.

payload: {"contacts": [{"id", "name", "push_name", "lid"}], "lids": [{"lid", "phone"}]}; the envelope's time is when it was read.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import Fact
from schemas.normalize.head import Body, Record, head_of, jid_at
from schemas.normalize.people import identity, name
from schemas.reading import Reader

PEOPLE_EVENT = "wapipe.people"


class _Contact(Struct, gc=False):
    id: str | None = None
    name: str | None = None
    push_name: str | None = None
    lid: str | None = None


class _Lid(Struct, gc=False):
    lid: str | None = None
    phone: str | None = None


class _Payload(Struct):
    contacts: list[_Contact] = []
    lids: list[_Lid] = []


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_people(body: bytes, record: Record) -> list[Fact]:
    """Names and identities. Raises MalformedError without a payload."""
    event = _read(body)
    if event.payload is None:
        raise MalformedError("payload_missing", "payload")
    head = head_of(event, record)
    facts: list[Fact] = []
    for number, contact in enumerate(event.payload.contacts):
        if (person := jid_at(contact.id, f"payload.contacts[{number}].id")) is None:
            continue
        facts += name(head.session, person, "saved", contact.name, head.at_ms)
        facts += name(head.session, person, "push", contact.push_name, head.at_ms)
        facts += identity(head.session, person, contact.lid, "contacts", head.at_ms)
    for lid in event.payload.lids:
        facts += identity(head.session, lid.lid, lid.phone, "lids", head.at_ms)
    return facts
