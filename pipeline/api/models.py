"""What the API answers: pydantic models, of which its OpenAPI description is made. No database, no requests.

Field names are the contract with clients; columns may be called otherwise. Every field is always there, null
when there is nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from pipeline.sync.coverage import Complete

# fmt: off
_AN_ITEM: JsonDict = {
    "id": "false_4915123456789@c.us_3EB0C431C26A1916E07A",
    "session": "default",
    "chat": "4915123456789@c.us",
    "sender": "4915123456789@c.us",
    "from_me": False,
    "timestamp": "2026-11-22T08:30:00Z",
    "type": "image",
    "text": "The view from here",
    "reply_to": "3EB0A91C7D2F",
    "quoted": "Where are you?",
    "source": "app",
    "push_name": "Maria",
    "has_media": True,
    "media": {
        "mimetype": "image/jpeg", "filename": None, "bytes": 88211, "width": 1200, "height": 1600, "state": "stored",
        "link": "/api/media/default/false_4915123456789@c.us_3EB0C431C26A1916E07A",
        "thumbnail": "/api/media/default/false_4915123456789@c.us_3EB0C431C26A1916E07A/thumbnail",
    },
    "location": None,
    "vcards": None,
    "poll": None,
    "edited_at": None,
    "revoked": None,
    "ack": "read",
    "reactions": [{"by": "me", "emoji": "👍"}],
    "responses": [],
    "reply": "same",
    "details": {"forwarded": True},
    "edits": None,
    "receipts": None,
    "flags": [],
    "received_at": "2026-11-22T08:30:00.412000Z",
}
# fmt: on


class Media(BaseModel):
    """What is known of a message's file."""

    mimetype: str | None
    filename: str | None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    waveform: list[int] | None = Field(None, description="Of a voice note: heights from 0 to 100, to draw.")
    sha256: str | None = Field(None, description="WhatsApp's own hash of the file, hex.")
    state: str | None = Field(
        None,
        description="pending, running, stored, skipped, failed, expired; null: the media consumer has not seen it.",
    )
    reason: str | None = Field(None, description="Why it is skipped, failed or expired.")
    link: str | None = Field(None, description="Where this API has the file; null until it is stored.")
    thumbnail: str | None = Field(None, description="Where this API has a small JPEG of it.")


class Location(BaseModel):
    """A place that was sent."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    url: str | None = None
    description: str | None = None


class Poll(BaseModel):
    """A question, its options, and how often each was chosen."""

    name: str
    options: list[str]
    selectable: int | None = Field(None, description="Options that one person may choose; 0: any number.")
    votes: dict[str, int] = Field(
        default_factory=dict, description="By option; of each voter the last selection counts."
    )


class Revoked(BaseModel):
    """A message that was taken back."""

    by: str = Field(description="Who did it; `me` for the account itself.")
    at: datetime
    text: str | None = Field(description="The text behind the tombstone, with ?include=revoked.")


class Reaction(BaseModel):
    """A person's newest reaction."""

    by: str = Field(description="`me` for the account itself.")
    emoji: str


class Response(BaseModel):
    """An answer to an event message."""

    by: str
    response: str = Field(examples=["GOING", "NOT_GOING", "MAYBE"])
    guests: int


class Edit(BaseModel):
    """A text that replaced the one before."""

    text: str | None = Field(description="null: it could not be decrypted.")
    at: datetime
    text_before: str | None


class Receipt(BaseModel):
    """How far a message came with one recipient, and when it got to each level first."""

    recipient: str | None = Field(description="null in direct chats, and where WAHA names nobody.")
    level: str = Field(examples=["read"])
    server_at: datetime | None
    device_at: datetime | None
    read_at: datetime | None
    played_at: datetime | None


class Message(BaseModel):
    """One message as it was sent."""

    model_config = ConfigDict(json_schema_extra={"example": _AN_ITEM})

    id: str = Field(description="WAHA's serialized id: {true|false}_{chat}_{raw id}[_{participant}].")
    session: str
    chat: str = Field(description="Id of the chat; @c.us for a person, @g.us for a group.")
    sender: str | None = Field(description="Who wrote it; null when that is not known.")
    from_me: bool
    timestamp: datetime = Field(description="WhatsApp's own time, UTC, RFC 3339.")
    type: str = Field(description="text, image, voice, document, location, contact, poll, … or unknown.")
    text: str | None = Field(description="Text, or caption of a file, after edits; null for a revoked message.")
    edited_at: datetime | None = Field(description="When it was edited last.")
    revoked: Revoked | None
    ack: str | None = Field(
        description="The furthest that any recipient is: pending, error, server, device, read, played."
    )
    reactions: list[Reaction]
    responses: list[Response]
    reply_to: str | None = Field(description="Raw id of the quoted message.")
    quoted: str | None = Field(description="Text of the quoted message, where WAHA delivered it.")
    reply: str | None = Field(
        description="The quoted message against the stored one: same, differs (a forged quote), unknown (it is not stored)."
    )
    source: str | None = Field(description="How an own message was sent: app or api.")
    push_name: str | None = Field(description="The name that the sender chose.")
    has_media: bool
    media: Media | None
    location: Location | None
    vcards: list[str] | None
    poll: Poll | None
    details: dict[str, Any] | None = Field(
        description="mentions, forwarded, forward_score, expires_s, view_once, link, album, …"
    )
    edits: list[Edit] | None = Field(description="Every text that replaced another, with ?include=edits.")
    receipts: list[Receipt] | None = Field(description="With ?include=receipts.")
    flags: list[str] = Field(description="id_reused, id_elsewhere, quote_differs: claims that do not hold.")
    received_at: datetime = Field(description="When wapipe took the webhook, UTC.")


class Me(BaseModel):
    """The account that a session is logged in with."""

    id: str
    lid: str | None
    push_name: str | None


class Session(BaseModel):
    """A WhatsApp session of WAHA."""

    name: str = Field(examples=["default"])
    status: str | None = Field(description="As WAHA spells it: WORKING, STOPPED, SCAN_QR_CODE, …")
    status_at: datetime | None
    me: Me | None
    engine: str | None
    waha_version: str | None
    last_event_at: datetime | None = Field(description="When something was last heard of it; messages to the minute.")


NEXT = Field(description="Give it as `before` to read on; null on the last page.")


class OpenGap(BaseModel):
    """An interval in which messages may be missing; it closes when it was fetched."""

    chat: str = Field(description="`all`: any chat of the session.")
    cause: Literal[
        "not_working", "ingress_down", "lost_records", "silent", "unknown_quote", "unknown_reaction", "missed"
    ]
    since: datetime
    until: datetime
    status: Literal["open", "requested", "failed", "closed"]


class Messages(BaseModel):
    """A page of messages, newest first."""

    items: list[Message]
    next: str | None = NEXT
    complete: Complete = Field(
        description="Whether everything that WAHA has of this part of the chat is here: from the oldest item (on the last "
        "page: from the beginning) to `before`, or now. unknown: it was not fetched."
    )
    gaps: list[OpenGap] = Field(description="Where messages of this part may be missing, and are being fetched.")


class WholeMessage(Message):
    """One message with its whole history, and whether something of that may be missing."""

    complete: Complete = Field(
        description="Whether everything that WAHA has of the chat from this message on is here: edits and reactions of it come "
        "later than it. unknown: it was not fetched."
    )
    gaps: list[OpenGap] = Field(description="Where something may be missing, and is being fetched.")


class Sessions(BaseModel):
    """A page of sessions, by name."""

    items: list[Session]
    next: str | None = NEXT


class Health(BaseModel):
    """The process lives."""

    status: str = Field(examples=["ok"])
    name: str = Field(examples=["wapipe api"])
    version: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["/problems/bad-parameter"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["limit: Input should be less than or equal to 500"])
    instance: str = Field(examples=["/api/messages/default/4915123456789@c.us"])
