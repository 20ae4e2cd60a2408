"""What a replay is asked to read: consumer, topics, from where to where, which sessions, chats and events. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter

_AGO = re.compile(r"^(\d{1,9})([smhd])$")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: an offset in each partition, or the broker's time of a record; neither is the log's own end."""

    offset: int | None = None
    time_ms: int | None = None

    def __str__(self) -> str:
        if self.offset is not None:
            return f"offset {self.offset}"
        if self.time_ms is not None:
            return datetime.fromtimestamp(self.time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return "-"


def parse_bound(text: str, now_ms: int) -> Bound:
    """`1200` an offset; `90s`, `30m`, `2h`, `7d` so long ago; else ISO 8601, UTC unless it says otherwise.

    Raises ValueError that says what is possible.
    """
    if text.isascii() and text.isdigit():
        if int(text) > _MAX_OFFSET:
            raise ValueError(f"{text} is no offset")
        return Bound(offset=int(text))
    ago = _AGO.match(text)
    if ago:
        return Bound(time_ms=now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an offset (1200), nor a time (2026-07-25T10:00, UTC unless it says otherwise), nor "
            "how long ago (90s, 30m, 2h, 7d)"
        ) from None
    return Bound(time_ms=int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class Spec:
    """A replay as it was ordered. Empty tuples are everything; `rate_per_s` None is as fast as it goes.

    `start` is included, `end` is not. `shadow` writes into a scratch schema, which `keep` keeps.
    """

    consumer: str
    topics: tuple[str, ...]
    partitions: tuple[int, ...] = ()
    start: Bound = Bound()
    end: Bound = Bound()
    sessions: tuple[str, ...] = ()
    chats: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    rate_per_s: float | None = None
    shadow: bool = False
    keep: bool = False

    @property
    def filtered(self) -> bool:
        """True when not every record of the ranges is wanted."""
        return bool(self.sessions or self.chats or self.events)

    def to_json(self) -> str:
        """For the table of replays."""
        return _ADAPTER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> Spec:
        """What `to_json` made."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(Spec)


def books_name(consumer: str, replay_id: int) -> str:
    """Under which a replay's progress rows stand. No live consumer has an @ in its name."""
    return f"{consumer}@replay-{replay_id}"


def is_replay(consumer: str) -> bool:
    """Whether progress rows of this name are a replay's."""
    return "@replay-" in consumer
