"""What happened in WhatsApp, whichever engine reports it: people, chats, messages and acts on them.

Plain frozen records; the payload modules turn one of them into the JSON of one engine. Nothing here draws
random numbers or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Engine = Literal["WEBJS", "WPP", "NOWEB", "GOWS"]
ENGINES: tuple[Engine, ...] = ("WEBJS", "WPP", "NOWEB", "GOWS")
Json = dict[str, Any]

Kind = Literal[
    "text", "image", "video", "voice", "audio", "document", "sticker",
    "location", "live_location", "vcard", "poll", "event",
]  # fmt: skip
MEDIA_KINDS: tuple[Kind, ...] = ("image", "video", "voice", "audio", "document", "sticker")

# MIME type and the extension WAHA derives from it (2026.4.1: image/jpeg -> jpeg, opus -> oga).
MEDIA_TYPES: Mapping[Kind, tuple[str, str]] = {
    "image": ("image/jpeg", "jpeg"),
    "video": ("video/mp4", "mp4"),
    "voice": ("audio/ogg; codecs=opus", "oga"),
    "audio": ("audio/mp4", "m4a"),
    "document": ("application/pdf", "pdf"),
    "sticker": ("image/webp", "webp"),
}

# payload.ack -> payload.ackName
ACK_NAMES = {-1: "ERROR", 0: "PENDING", 1: "SERVER", 2: "DEVICE", 3: "READ", 4: "PLAYED"}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a phone number, a hidden id and a push name."""

    number: str
    lid_number: str
    name: str

    @property
    def id(self) -> str:
        """WAHA's id by phone number."""
        return f"{self.number}@c.us"

    @property
    def lid(self) -> str:
        """The hidden id."""
        return f"{self.lid_number}@lid"


@dataclass(frozen=True, slots=True)
class Account:
    """A session of a WAHA server: its engine, who is paired to it, what its envelopes say of the server."""

    session: str
    engine: Engine
    me: Person
    device: int = 23
    metadata: Mapping[str, str] | None = None
    version: str = "2026.7.1"
    worker: str | None = None
    base_url: str = "http://localhost:3000"
    tier: str = "CORE"
    platform: str = "linux/x64"


@dataclass(frozen=True, slots=True)
class Chat:
    """A direct chat (`peer`) or a group (`members`). With `lid` people are addressed by their hidden ids."""

    lid: bool = False
    peer: Person | None = None
    group: str | None = None
    subject: str = ""
    members: tuple[Person, ...] = ()

    @property
    def id(self) -> str:
        """Chat id as it stands in message ids."""
        if self.group:
            return f"{self.group}@g.us"
        assert self.peer
        return self.address(self.peer)

    def address(self, person: Person) -> str:
        """The id under which `person` appears in this chat."""
        return person.lid if self.lid else person.id


@dataclass(frozen=True, slots=True)
class Content:
    """What a message holds. `text` is the body or caption; the other fields belong to single kinds."""

    kind: Kind = "text"
    text: str | None = None
    filename: str | None = None
    latitude: float = 0.0
    longitude: float = 0.0
    place: str = ""
    vcards: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of a poll; its question is `text`
    start_s: int = 0  # of an event; its name is `text`

    @property
    def has_media(self) -> bool:
        """True for kinds with a file."""
        return self.kind in MEDIA_TYPES

    @property
    def body(self) -> str | None:
        """The normalised body: text or caption. Places, contacts and polls have none (but see WEBJS)."""
        return self.text if self.kind == "text" or self.has_media else None


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody (`author`; None is the paired account) did something in a chat under a raw message id."""

    account: Account
    chat: Chat
    author: Person | None
    raw_id: str
    at_ms: int

    @property
    def from_me(self) -> bool:
        """True for the paired account."""
        return self.author is None

    @property
    def timestamp(self) -> int:
        """WhatsApp's time, whole seconds."""
        return self.at_ms // 1000

    @property
    def participant(self) -> str | None:
        """Sender in a group (the account itself always by number [obs]); None in a direct chat."""
        if not self.chat.group:
            return None
        return self.chat.address(self.author) if self.author else self.account.me.id

    @property
    def id(self) -> str:
        """WAHA's serialized id: {fromMe}_{chat}_{raw}[_{participant}]."""
        return serialized(self.from_me, self.chat.id, self.raw_id, self.participant)


@dataclass(frozen=True, slots=True)
class Message(Act):
    """A message. `source` is `api` when it was sent through this WAHA."""

    content: Content = Content()
    ack: int = 2
    source: Literal["app", "api"] = "app"
    reply_to: Message | None = None


@dataclass(frozen=True, slots=True)
class Reaction(Act):
    """A reaction; empty `text` takes it back."""

    target: Message
    text: str


@dataclass(frozen=True, slots=True)
class Edit(Act):
    """An edit of `target`: its new text."""

    target: Message
    text: str


@dataclass(frozen=True, slots=True)
class Revoke(Act):
    """`target` was deleted for everyone."""

    target: Message


@dataclass(frozen=True, slots=True)
class Ack:
    """An own message reached `level`; in a group `reader` is who received or read it."""

    target: Message
    level: int
    at_ms: int
    reader: Person | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote on the poll `target`: the full current selection. `failed`: the engine could not decrypt it."""

    target: Message
    voter: Person
    raw_id: str
    at_ms: int
    selected: tuple[str, ...]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Response(Act):
    """An answer to the event `target`; None when the engine could not decrypt it."""

    target: Message
    answer: str | None
    guests: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A call that rang."""

    id: str
    caller: Person
    video: bool


def serialized(from_me: bool, chat_id: str, raw_id: str, participant: str | None) -> str:
    """WAHA's serialized message id."""
    parts = ["true" if from_me else "false", chat_id, raw_id]
    return "_".join([*parts, participant] if participant else parts)


def jid(waha_id: str) -> str:
    """The id as WhatsApp itself writes it, as in `_data`: numbers end in @s.whatsapp.net."""
    return waha_id.replace("@c.us", "@s.whatsapp.net")


def media(act: Act, content: Content, file_id: str) -> Json | None:
    """The `media` object of a downloaded file (producers.simulator.files); None for content without one. `file_id` differs
    by engine."""
    if not content.has_media:
        return None
    mimetype, extension = MEDIA_TYPES[content.kind]
    account = act.account
    url = f"{account.base_url}/api/files/{account.session}/{file_id}.{extension}"
    return {"url": url, "filename": content.filename, "mimetype": mimetype}
