"""What the headers of a dead letter say: where its record stood first, why and how often it died, and how it was found.

They stay with the record when it is redriven, so that all deaths of one record are one letter with a history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.envelope import to_header

PREFIX = "dead-"
_MAX_HISTORY = 10  # the first death and the newest nine
_MAX_INTEGER_DIGITS = 18  # what fits into bigint


class Past(NamedTuple):
    """An earlier death of the same record."""

    at_ms: int
    reason: str
    version: str


class Death(NamedTuple):
    """One death. (consumer, topic, partition, offset) of the first record is the letter's identity."""

    consumer: str
    topic: str
    partition: int
    offset: int
    time_ms: int  # the broker's time of the first record
    at_ms: int  # of this death; greater than that of every earlier one
    reason: str  # slug
    detail: str = ""  # may quote the payload when the database complains
    error: str = ""  # exception type
    version: str = ""  # of wapipe
    stage: str = ""  # decode | write: alone by itself, or found among others
    batch_records: int = 0  # how many facts were in the batch
    halvings: int = 0  # how often the batch was halved until this record stood alone
    attempts: int = 1
    history: tuple[Past, ...] = ()  # earlier deaths, oldest first

    @property
    def first_at_ms(self) -> int:
        """When the record died for the first time."""
        return self.history[0].at_ms if self.history else self.at_ms

    def after(self, earlier: Death) -> Death:
        """This death of a record that had died before: its place and time of old, its history, a later time."""
        past = (*earlier.history, Past(earlier.at_ms, earlier.reason, earlier.version))
        kept = past if len(past) <= _MAX_HISTORY else (past[0], *past[1 - _MAX_HISTORY :])
        return self._replace(
            topic=earlier.topic, partition=earlier.partition, offset=earlier.offset, time_ms=earlier.time_ms,
            at_ms=max(self.at_ms, earlier.at_ms + 1),  # clocks of two machines differ
            attempts=earlier.attempts + 1, history=kept,
        )  # fmt: skip


def death_headers(death: Death) -> list[tuple[str, bytes]]:
    """As headers, ASCII."""
    values = death._asdict() | {"history": ",".join(f"{p.at_ms} {p.reason} {p.version}" for p in death.history)}
    return [
        (PREFIX + name.replace("_", "-"), str(value).encode() if name == "history" else to_header(str(value)))
        for name, value in values.items()
    ]


def read_death(headers: Sequence[tuple[str, bytes | None]]) -> Death | None:
    """The death that headers tell of; None when they name no origin. What is missing or odd reads as empty."""
    texts = {n: v.decode("ascii", "replace") for n, v in headers if v is not None and n.startswith(PREFIX)}
    origin = (_text(texts, "topic"), _number(texts, "partition"), _number(texts, "offset"))
    if not origin[0] or origin[1] is None or origin[2] is None:
        return None
    at_ms = _number(texts, "at-ms") or 0
    return Death(
        _text(texts, "consumer"), origin[0], origin[1], origin[2], _number(texts, "time-ms") or at_ms, at_ms,
        _text(texts, "reason"), _text(texts, "detail"), _text(texts, "error"), _text(texts, "version"),
        _text(texts, "stage"), _number(texts, "batch-records") or 0, _number(texts, "halvings") or 0,
        _number(texts, "attempts") or 1, _history(_text(texts, "history")),
    )  # fmt: skip


def _text(texts: Mapping[str, str], name: str) -> str:
    return texts.get(PREFIX + name, "")


def _number(texts: Mapping[str, str], name: str) -> int | None:
    return _integer(_text(texts, name))


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_INTEGER_DIGITS else None


def _history(text: str) -> tuple[Past, ...]:
    past: list[Past] = []
    for entry in text.split(",") if text else ():
        at_ms, _, rest = entry.partition(" ")
        reason, _, version = rest.partition(" ")
        past.append(Past(_integer(at_ms) or 0, reason, version))
    return tuple(past)
