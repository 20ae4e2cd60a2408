"""Events for the tests of schemas/normalize, as short as a trap needs them, and the facts they state."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from schemas.errors import MalformedError
from schemas.facts import Fact
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record

T = TypeVar("T")

ANA, ANA_LID, BOB = "5511988887777@c.us", "123456789012345@lid", "447700900123@c.us"
MY_NUMBER, MY_LID = "4915112345678@c.us", "99887766554433@lid"
GROUP, STATUS = "120363040000000001@g.us", "status@broadcast"
ME = {"id": MY_NUMBER, "lid": MY_LID, "pushName": "Acme"}
AT = 1_784_973_600_000  # of the envelope
RECEIVED = 1_800_000_000_000
HOUR = 3_600_000


def jid(text: str) -> str:
    """As the engines' own messages write a person: @s.whatsapp.net."""
    return text.replace("@c.us", "@s.whatsapp.net")


def tell(event: str, payload: Any, engine: str = "NOWEB", **envelope: Any) -> list[Fact]:
    """All facts of an event. An envelope's field of None is left out."""
    body = {"id": "evt_1", "timestamp": AT, "event": event, "session": "default", "me": ME, "engine": engine}
    body = {k: v for k, v in (body | envelope | {"payload": payload}).items() if v is not None}
    return to_facts(json.dumps(body).encode(), Record(event, "default", RECEIVED))


def one(kind: type[T], event: str, payload: Any, engine: str = "NOWEB", **envelope: Any) -> T:
    """The only fact of that kind that an event states."""
    (found,) = [fact for fact in tell(event, payload, engine, **envelope) if isinstance(fact, kind)]
    return found


def refusal(event: str, payload: Any, engine: str = "NOWEB", **envelope: Any) -> tuple[str, str]:
    """Why an event states nothing: reason and path of the field."""
    try:
        tell(event, payload, engine, **envelope)
    except MalformedError as exc:
        return exc.reason, exc.field
    raise AssertionError("it was not refused")
