"""What the API answers of people, groups, calls and lists of chats: pydantic models. See pipeline.api.models."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from pipeline.api.models import NEXT, Message


class Name(BaseModel):
    """A name that somebody goes or went by."""

    source: str = Field(description="saved (in the account's address book), push (his own), verified (a business).")
    name: str
    first_at: datetime = Field(description="To the hour.")
    last_at: datetime = Field(description="To the hour.")


class Contact(BaseModel):
    """A person or group as one session has met it; a hidden id and its phone number are one."""

    id: str = Field(examples=["4915123456789@c.us"])
    session: str
    name: str | None = Field(description="The saved name, else the push name, the verified one, the number; a subject.")
    saved_name: str | None
    push_name: str | None
    verified_name: str | None
    phone: str | None = Field(description="…@c.us, where it is known.")
    lid: str | None = Field(description="The hidden id …@lid, where it is known.")
    is_group: bool
    is_me: bool
    first_seen_at: datetime = Field(description="Kept to the day.")
    last_seen_at: datetime = Field(description="Kept to the day.")
    picture: str | None = Field(description="Where this API has the profile picture; null where none is stored.")
    names: list[Name] | None = Field(description="Every name, the newest first, with ?include=names.")


class Contacts(BaseModel):
    """A page of contacts, by id."""

    items: list[Contact]
    next: str | None = NEXT


class _Described(BaseModel):
    id: str = Field(examples=["120363041234567890@g.us"])
    session: str
    subject: str | None = None
    description: str | None = None
    owner: str | None = None
    invite: str | None = Field(None, description="The invite link or code, where the engine told it.")
    members_can_add: bool | None = None
    members_can_send: bool | None = None
    approval: bool | None = Field(None, description="Whether who joins must be let in.")


class Group(_Described):
    """A group as it was told last; what nobody told is null."""

    members: int | None = Field(description="How many are in it; null where nobody was ever named.")


class Groups(BaseModel):
    """A page of groups, by id."""

    items: list[Group]
    next: str | None = NEXT


class Member(BaseModel):
    """Somebody in a group."""

    id: str = Field(description="`me` for the account itself.")
    name: str | None
    role: str = Field(examples=["participant", "admin", "superadmin"])
    since: datetime = Field(description="From when on he is known to have had this role without a break.")
    by: str | None = Field(description="Who gave it to him, where the engine says so.")


class GroupWithMembers(_Described):
    """A group as it was told by a time."""

    at: datetime | None = Field(description="The time that was asked for; null: now.")
    members: list[Member] | None = Field(description="By id; null where nobody was named by then.")


class Call(BaseModel):
    """A call with the first time that each of its states was told."""

    id: str
    session: str
    caller: str | None = Field(description="`me` for the account itself; null where no event names him.")
    group: str | None
    state: str = Field(description="The newest: received, accepted, rejected (also: ended, nobody took it).")
    detail: str | None = Field(description="The engine's own word for the rejection: reject, terminate, timeout.")
    is_video: bool
    is_group: bool
    received_at: datetime | None
    accepted_at: datetime | None
    rejected_at: datetime | None


class Calls(BaseModel):
    """A page of calls, newest first."""

    items: list[Call]
    next: str | None = NEXT


class Label(BaseModel):
    """A label that a chat carries."""

    id: str
    name: str | None = Field(description="null where no event described it.")


class Chat(BaseModel):
    """A chat with its newest message."""

    id: str = Field(examples=["4915123456789@c.us"])
    session: str
    name: str | None
    is_group: bool
    archived: bool
    labels: list[Label]
    unread: int = Field(
        description="A guess: messages of others after the newest own one or the newest that was read here, at most 100, "
        "at most 30 days back."
    )
    last_message: Message | None


class Chats(BaseModel):
    """A page of chats, the newest message first (to the minute)."""

    items: list[Chat]
    next: str | None = NEXT
