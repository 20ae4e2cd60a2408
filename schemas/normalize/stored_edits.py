"""The last edit of a fetched message. WAHA's REST shows a message as it is now; two kinds of engines mark that it was edited.

| engine | mark | time of the edit |
|---|---|---|
| NOWEB | `_data.message.editedMessage` around the new content | `timestamp`, in seconds: in place of the message's own |
| WEBJS, WPP | `_data.latestEditMsgKey`, `latestEditSenderTimestampMs` | the latter |
| GOWS | none: its store keeps the first text (WAHA issue 1635) | |

A mark is part of the payload, so what is made of it depends on the payload alone. Comparing texts would not: which of two
differing texts is the newer one a text does not say, and GOWS shows the old one for ever.
"""

from __future__ import annotations

from collections.abc import Container

from schemas.facts import STORED_EDIT, EditFact
from schemas.normalize.details import Data
from schemas.normalize.references import Act
from schemas.normalize.values import time_ms
from schemas.rows import ContentFact

_WRAPPER = "editedMessage"


def is_edited(data: Data, proto: Container[str] | None) -> bool:
    """Whether the row is marked. `proto`: WhatsApp's message object, whose acts (hidden.py) are dealt with."""
    marked = data.latestEditSenderTimestampMs is not None or data.latestEditMsgKey is not None
    return marked or (proto is not None and _WRAPPER in proto)


def stored_edit(content: ContentFact, data: Data, act: Act) -> EditFact | None:
    """The edit by which the message got the text that it has; None when it has none. `act` is the message.

    A mark without a time counts from the message on: any edit that a webhook told is newer.
    """
    if content.body is None:
        return None
    at_ms = time_ms(data.latestEditSenderTimestampMs) or content.ts_ms
    return EditFact(
        content.session, act.chat, act.raw_id, act.author or "", f"{STORED_EDIT}{at_ms}", content.body, at_ms, "", None
    )
