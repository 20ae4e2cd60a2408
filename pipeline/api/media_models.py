"""What the API answers of files, beside what a message says of its own. See pipeline.api.models."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from pipeline.api.models import NEXT


class MediaJob(BaseModel):
    """The file of a message and what became of it."""

    session: str
    message: str = Field(description="WAHA's serialized id of the message.")
    type: str = Field(examples=["image"])
    state: str = Field(description="pending, running, stored, skipped, failed, expired")
    reason: str | None = Field(description="Why it is skipped, failed or expired.")
    attempts: int
    asked: int = Field(description="How often WAHA was asked for it in vain.")
    last_error: str | None
    deadline: datetime | None = Field(description="When WAHA deletes its file; null: not known, or never.")
    next_at: datetime | None = Field(description="When it is tried next; null once it is over.")
    mimetype: str | None = Field(description="By its bytes once it is stored, else as it was claimed.")
    filename: str | None
    bytes: int | None
    sha256: str | None = Field(description="Of its bytes, hex; the name of its object.")
    link: str | None
    created_at: datetime
    finished_at: datetime | None


class MediaJobs(BaseModel):
    """A page of files, newest first."""

    items: list[MediaJob]
    next: str | None = NEXT
