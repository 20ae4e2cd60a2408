"""What a consumer is to the engine: topics, events, and how a record becomes a fact and facts become rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from pipeline.batch import Event, Partition
from pipeline.postgres import Connection
from schemas.topics import Topic

F = TypeVar("F")


class Consumer(Protocol[F]):
    """What a file in consumers/ provides."""

    @property
    def name(self) -> str:
        """Consumer group, and last part of the dead-letter topic."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What is read."""

    @property
    def events(self) -> frozenset[str] | None:
        """Event names that are decoded; all others are skipped by header and counted. None: every event is."""

    def decode(self, event: Event) -> F:
        """One record into one fact; pure. Raises MalformedError or UnreadableError for what can never be stored."""

    async def prepare(self, facts: list[F]) -> Any:
        """What `write` takes: facts merged among themselves, ids looked up; outside the transaction.

        Raises TransientError or PoisonError.
        """

    async def stage(self, connection: Connection, prepared: Any) -> None:
        """COPYs what `write` merges, into temporary tables of the books' transaction, before anything is locked: a client
        that vanishes in the middle of a COPY is waited for, and must hold nobody up meanwhile."""

    async def write(self, connection: Connection, prepared: Any) -> dict[Partition, int]:
        """Merges what is staged into the tables; answers how many records were new, by partition."""


def is_wanted(consumer: Consumer[Any], event: str) -> bool:
    """False for an event that the consumer skips by its name."""
    return consumer.events is None or event in consumer.events


@dataclass(frozen=True, slots=True)
class Compared:
    """A table of a consumer whose rows `replay --shadow` holds against the live ones.

    `key` identifies a row. Rows that name their record (topic, partition, offset) need no more; of others `decided_by`
    names the columns that are equal when the same record decided both rows, and `rising` those in which no replay of
    some records can have more than live has of all. `ignore`: columns that records outside the replayed range have a
    part in, or that are the installation's own. `shown`: texts that may be shown as they are.
    """

    table: str
    key: tuple[str, ...]
    decided_by: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def by_place(self) -> bool:
        """Whether rows name their record."""
        return not self.decided_by and not self.rising


@runtime_checkable
class Comparable(Protocol):
    """A consumer that says what a shadow replay of it compares."""

    @property
    def compared(self) -> tuple[Compared, ...]:
        """Every table that it writes, but for dictionaries."""
