"""What a consumer is to the engine: topics, events, and how a record becomes a fact and facts become rows."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

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
    def events(self) -> frozenset[str]:
        """Event names that are decoded; all others are skipped by header and counted."""

    def decode(self, event: Event) -> F:
        """One record into one fact; pure. Raises MalformedError or UnreadableError for what can never be stored."""

    async def prepare(self, facts: list[F]) -> Any:
        """What `write` takes: facts merged among themselves, ids looked up; outside the transaction.

        Raises TransientError or PoisonError.
        """

    async def write(self, connection: Connection, prepared: Any) -> dict[Partition, int]:
        """Merges into the tables; answers how many records were new, by partition. Runs in the books' transaction."""
