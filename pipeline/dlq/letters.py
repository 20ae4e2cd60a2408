"""Dead letters as an operator sees them: all deaths of one record are one letter, and letters of one reason one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from schemas.deadletters import Death, read_death
from schemas.topics import HEADER_EVENT, HEADER_REASON, HEADER_SESSION, PARKED

State = Literal["open", "redriven", "dropped"]
PARKED_BOX = "parked"  # signed bodies that are no events: they belong to no consumer


class Address(NamedTuple):
    """Where a record stands; `topic` is without the installation's prefix."""

    topic: str
    partition: int
    offset: int


class Origin(NamedTuple):
    """A letter's identity: where its record stood first, and since when: offsets begin again in a topic made anew."""

    topic: str
    partition: int
    offset: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Letter:
    """The newest death of a record. `at` is where that stands among the dead letters; the origin is in `death`."""

    death: Death
    at: Address
    key: bytes
    event: str
    session: str
    size_bytes: int
    state: State = "open"
    decision: int | None = None  # that made the state

    @property
    def origin(self) -> Origin:
        """With the consumer, the letter's identity."""
        death = self.death
        return Origin(death.topic, death.partition, death.offset, death.time_ms)

    @property
    def id(self) -> str:
        """The origin's address as text: waha.message/3/1042."""
        return "/".join(map(str, self.origin[:3]))


class Decided(NamedTuple):
    """The newest decision about a letter; it holds for deaths up to `dead_at_ms`."""

    dead_at_ms: int
    action: State
    number: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; what is None does not matter."""

    reason: str | None = None
    key: str | None = None
    ids: frozenset[str] | None = None
    state: State | None = "open"

    def takes(self, letter: Letter) -> bool:
        """True when every condition holds."""
        return (
            (self.state is None or letter.state == self.state)
            and (self.reason is None or letter.death.reason == self.reason)
            and (self.key is None or letter.key.decode("utf-8", "replace") == self.key)
            and (self.ids is None or letter.id in self.ids)
        )

    @property
    def text(self) -> str:
        """For the audit. A key names a person, so it is not written down."""
        parts = [f"reason {self.reason}"] if self.reason is not None else []
        parts += ["a key"] if self.key is not None else []
        parts += [f"id {i}" for i in sorted(self.ids)[:20]] if self.ids is not None else []
        parts += [] if self.state == "open" else [f"state {self.state or 'any'}"]
        return ", ".join(parts) or "all"


@dataclass(slots=True)
class Group:
    """Letters of one consumer, reason and state. `sample` is the newest."""

    consumer: str
    reason: str
    state: State
    sample: Letter
    letters: int = 0
    oldest_at_ms: int = 0
    attempts: int = 0  # the most
    events: Counter[str] = field(default_factory=Counter)


def to_letter(record: Any, topic: str, consumer: str) -> Letter:
    """The letter of a record of a dead-letter topic, or of the parked bodies. One without an origin is its own."""
    at = Address(topic, record.partition, record.offset)
    headers = {name: value.decode("ascii", "replace") for name, value in record.headers if value is not None}
    death = read_death(record.headers) if consumer != PARKED_BOX else None
    if death is None:
        reason = headers.get(HEADER_REASON, "") if topic == PARKED.name else ""
        time_ms = record.timestamp or 0
        death = Death(consumer, *at, time_ms=time_ms, at_ms=time_ms, reason=reason or "unknown")
    return Letter(
        death, at, record.key or b"", headers.get(HEADER_EVENT, ""), headers.get(HEADER_SESSION, ""),
        len(record.value or b""),
    )  # fmt: skip


class Letters:
    """Collects the records of one box; the newest death of each record stays."""

    def __init__(self, decided: Mapping[Origin, Decided]) -> None:
        self._decided = decided
        self._newest: dict[Origin, Letter] = {}

    def add(self, letter: Letter) -> None:
        """One more death."""
        known = self._newest.get(letter.origin)
        if known is None or (letter.death.at_ms, letter.at) >= (known.death.at_ms, known.at):
            self._newest[letter.origin] = letter

    def chosen(self, selection: Selection) -> list[Letter]:
        """The letters that are meant, with their states, in the order of their topic."""
        decided = (self._with_state(letter) for letter in self._newest.values())
        return sorted((letter for letter in decided if selection.takes(letter)), key=lambda letter: letter.at)

    def _with_state(self, letter: Letter) -> Letter:
        decided = self._decided.get(letter.origin)
        if decided is None or decided.dead_at_ms < letter.death.at_ms:  # it died again
            return letter
        return replace(letter, state=decided.action, decision=decided.number)


def to_groups(consumer: str, letters: Iterable[Letter]) -> list[Group]:
    """By reason and state, the largest first."""
    groups: dict[tuple[str, State], Group] = {}
    for letter in letters:
        at_ms = letter.death.at_ms
        key = (letter.death.reason, letter.state)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(consumer, *key, sample=letter, oldest_at_ms=at_ms)
        group.letters += 1
        group.oldest_at_ms = min(group.oldest_at_ms, at_ms)
        group.attempts = max(group.attempts, letter.death.attempts)
        group.events[letter.event] += 1
        if at_ms >= group.sample.death.at_ms:
            group.sample = letter
    return sorted(groups.values(), key=lambda g: (-g.letters, g.reason, g.state))
