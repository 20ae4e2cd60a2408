"""A member of a consumer group: FastStream's subscriber over aiokafka, with fetching of our own. The only file that knows
FastStream.

Three things of FastStream's are replaced: acknowledging (every policy loses a batch in some case), its parser (one bad
header loses a batch) and its way to fetch (unbounded in bytes; an error ends in a silent loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka import Topic as StreamTopic
from faststream.kafka.message import KafkaAckableMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from pipeline.broker import client_options
from pipeline.errors import FatalError
from pipeline.fetch import Batcher, bound_buffer
from pipeline.settings import Settings
from schemas.topics import BACKFILL

log = logging.getLogger("wapipe.stream")

REBALANCE_TIMEOUT_S = 30.0  # below aiokafka's request timeout of 40 s, with which it waits for JoinGroup
_MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000  # an outage is waited out with a batch in hand
_HEARTBEAT_MS = 3000
_RETRY_S = 1.0
_HOPELESS_AFTER_S = 120.0


class Reader(Protocol):
    """Who reads the stream. All are awaited by aiokafka's or FastStream's tasks, never two of the first three at once."""

    async def take(self, records: list[Any]) -> None:
        """A batch, in order in each partition; the next one is fetched when this returns. Must not raise."""

    async def idle(self) -> None:
        """Nothing came for a while. Must not raise."""

    async def unfetched(self, exc: Exception) -> None:
        """Fetching failed; records may have been passed over, so the reader must seek. It is tried again by itself."""

    async def revoked(self) -> None:
        """All partitions are taken away; returning lets the rebalance go on."""

    async def assigned(self, partitions: set[TopicPartition], member_id: str) -> None:
        """These are ours from now on, and no other."""


class Stream:
    """One subscription, from `start` to `stop`."""

    def __init__(self, group: str, topics: Sequence[str], settings: Settings, reader: Reader) -> None:
        own = settings.consumer
        self._reader = reader
        behind = {settings.kafka.topic_prefix + BACKFILL.name}.intersection(topics)
        self._batcher = Batcher(own.batch_rows, own.batch_bytes, own.batch_age_ms / 1000, behind=behind)
        self._failing_since: float | None = None
        self._bounded: Any = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        options = client_options(settings.kafka)
        self._broker = KafkaBroker(
            options["bootstrap_servers"],
            client_id="wapipe",
            security=security_of(options),
            retry_backoff_ms=options["retry_backoff_ms"],
            metadata_max_age_ms=options["metadata_max_age_ms"],
            graceful_timeout=5.0,
            consumer_only=True,
            allow_auto_create_topics=False,
            apply_types=False,
            log_level=logging.DEBUG,
            logger=logging.getLogger("wapipe.faststream"),
        )
        subscriber: Any = self._broker.subscriber(
            *[StreamTopic(name, declare=False) for name in topics],
            group_id=group,
            group_instance_id=own.instance_id,
            batch=True,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            listener=_Listener(self, reader),
            partition_assignment_strategy=(_private_assignor(),),
            session_timeout_ms=own.session_timeout_ms,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT_S * 1000),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            fetch_max_bytes=own.fetch_max_bytes,
            fetch_max_wait_ms=100,
            parser=self._parse,
            decoder=_as_it_is,
        )
        subscriber(self._handle)
        self._subscriber = subscriber
        self._subscriber.get_msg = self._fetch  # called in FastStream's loop, which knows what to do with its answer

    @property
    def client(self) -> Any:
        """aiokafka's consumer; None before the start."""
        return self._subscriber.consumer

    async def start(self) -> None:
        """Joins the group; returns with the first assignment. Raises KafkaError or OSError when the broker is away."""
        try:
            await self._broker.start()
        except (KafkaError, OSError):
            with contextlib.suppress(KafkaError, OSError):
                await self._broker.stop()
            raise

    async def stop(self) -> None:
        """Leaves the group (a static member stays in it until its session ends)."""
        if not self._ended.done():
            self._ended.set_result(None)
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(10):
                await self._broker.stop()

    async def ended(self) -> None:
        """Returns after `stop`. Raises what means that nothing will ever be read again: the process must end."""
        await self._ended

    def fail(self, exc: Exception) -> None:
        """Makes `ended` raise."""
        if not self._ended.done():
            self._ended.set_exception(exc)

    # ------------------------------------------------------------ FastStream's task
    async def _fetch(self, client: Any) -> Sequence[Any]:
        """Replaces BatchSubscriber.get_msg."""
        if self._bounded is not client:
            bound_buffer(client)
            self._bounded = client
        try:
            batch = await self._batcher.next(client)
        except ConsumerStoppedError:
            raise
        except Exception as exc:  # noqa: BLE001 - aiokafka's errors, and whatever its parsing of damaged records raises
            await self._failed(exc)
            return ()
        self._failing_since = None
        if not batch:
            await self._reader.idle()
        return batch

    async def _failed(self, exc: Exception) -> None:
        """An error that lasts is the end: aiokafka reports a dead coordinator task, or a damaged record, for ever."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        log.error("fetch.failed", extra={"error": f"{type(exc).__name__}: {exc}"[:300]})
        if now - self._failing_since > _HOPELESS_AFTER_S:
            self.fail(FatalError(f"nothing can be fetched for {_HOPELESS_AFTER_S:.0f} s: {type(exc).__name__}: {exc}"))
        await self._reader.unfetched(exc)
        await asyncio.sleep(_RETRY_S)

    async def _parse(self, records: Any) -> KafkaAckableMessage:
        return KafkaAckableMessage(
            raw_message=records, body=b"", message_id="-", correlation_id="-", consumer=self.client
        )

    async def _handle(self, message: Any) -> None:
        records: list[Any] = message.raw_message
        try:
            await self._reader.take(records)
        finally:
            records.clear()  # FastStream's loop keeps the list until the next batch is there


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka's task. An exception here would only be logged."""

    def __init__(self, stream: Stream, reader: Reader) -> None:
        self._stream, self._reader = stream, reader

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._reader.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            await self._reader.assigned(assigned, self._stream.client._coordinator.member_id)
        except Exception as exc:  # noqa: BLE001 - goes on to whoever waits for the end
            self._stream.fail(exc)


def _private_assignor() -> type[StickyPartitionAssignor]:
    """Moves only what must move. A class of its own for each member: it keeps its memory in class attributes, and members
    that share them swap their partitions (aiokafka issue 1175)."""
    return type("Sticky", (StickyPartitionAssignor,), {})


def security_of(options: dict[str, Any]) -> BaseSecurity | None:
    """FastStream's words for the client options that concern security."""
    protocol, tls = options["security_protocol"], options.get("ssl_context")
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=tls) if tls else None
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kinds[options["sasl_mechanism"]](
        options["sasl_plain_username"], options["sasl_plain_password"], ssl_context=tls, use_ssl=tls is not None
    )


async def _as_it_is(message: Any) -> Any:
    return message
