"""Who is who and what people are called: told by events of many topics, so any consumer stores it."""

from __future__ import annotations

from pipeline.batch import Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import FactTable, Part, Rows, to_time
from schemas.facts import IdentityFact, NameFact

IDENTITIES = FactTable(
    "identities", ("lid_id", "phone_id"), (Part("newest", ("at", "fallen", "source")),), frozenset({"source"})
)
NAMES = FactTable(
    "contact_names", ("contact_id", "source", "name"), (Part("least", ("first_at",)), Part("greatest", ("last_at",)))
)
COMPARED = (
    Compared(IDENTITIES.name, IDENTITIES.key, ("at", "fallen"), rising=("source",), shown=("source",)),
    Compared(NAMES.name, NAMES.key, rising=("last_at",), ignore=("first_at",), shown=("source",)),
)


def stage_identity(fact: IdentityFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    """One row a pair of ids."""
    key = ids.jid(fact.session, fact.lid), ids.jid(fact.session, fact.phone)
    rows.put(IDENTITIES, key, (*key, to_time(fact.at_ms), not fact.holds, fact.source, origin))


def stage_name(fact: NameFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    """One row a name that somebody goes by."""
    key, at = (ids.jid(fact.session, fact.person), fact.source, fact.name), to_time(fact.at_ms)
    rows.put(NAMES, key, (*key, at, at, origin))
