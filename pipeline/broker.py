"""Kafka at the edge: client options, topics, and a publisher that survives its broker. Only this file, its lanes and
those that read topics import aiokafka.

The publisher exists because an aiokafka producer alone is not enough: it has no delivery deadline, cannot be started
while the broker is away, and one whose sequence broke never delivers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAlreadyExistsError,
    for_code,
)

from pipeline import metrics
from pipeline.errors import ConfigError, PoisonError, TransientError
from pipeline.lanes import Lanes, Sent
from pipeline.sends import Send, hand_over
from pipeline.settings import KafkaSettings
from pipeline.silence import watched
from schemas.topics import MAX_RECORD_BYTES, Topic

log = logging.getLogger("wapipe.broker")

Headers = list[tuple[str, bytes]]
Sending = tuple[bytes, bytes, Headers]  # key, value, headers

# An expired batch breaks an idempotent producer's sequence; with a deadline of our own around every send, the
# producer's may be long (reference measurement: not below 120 s).
_PRODUCER_REQUEST_TIMEOUT_MS = 120_000
# No acknowledgement for so long while something waits: the producer is taken for broken and replaced.
_SILENCE_BEFORE_RESTART_S = 15.0
_DEADLINE_TICK_S = 0.1


def _expecting_uvloop(send: Callable[..., Any]) -> Callable[..., Any]:
    """Of a connection that is closed already aiokafka expects OSError, and uvloop raises RuntimeError: unforeseen, it ends
    the background task of a consumer or producer for good (aiokafka issue 1038)."""

    @wraps(send)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return send(self, *args, **options)
        except RuntimeError as exc:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=exc)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} broken: {exc}") from exc

    return call


AIOKafkaConnection.connect = watched(AIOKafkaConnection.connect)
AIOKafkaConnection.send = _expecting_uvloop(AIOKafkaConnection.send)
AIOKafkaConnection._send_sasl_token = _expecting_uvloop(AIOKafkaConnection._send_sasl_token)


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options that every Kafka client shares: addresses and security."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "retry_backoff_ms": 500,
        "metadata_max_age_ms": 30_000,  # partitions that are added are used, and read, so much later at most
    }
    if kafka.security_protocol.endswith("SSL"):
        cafile = str(kafka.ssl_ca_file) if kafka.ssl_ca_file else None
        options["ssl_context"] = ssl.create_default_context(cafile=cafile)
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    return options


@contextlib.asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns what aiokafka raises into PoisonError (too large for ever) or TransientError."""
    try:
        yield
    except MessageSizeTooLargeError as exc:
        raise PoisonError("too_large_for_broker", str(exc)) from exc
    except (KafkaError, OSError, TimeoutError) as exc:
        raise TransientError("kafka", f"{type(exc).__name__}: {exc}"[:300]) from exc


# ---------------------------------------------------------------- topics
@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: `partitions` is 0 when it does not exist."""

    topic: Topic
    name: str  # with the installation's prefix
    partitions: int
    wanted: int


@contextlib.asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client. Raises TransientError when the broker is away."""
    client = AIOKafkaAdminClient(**client_options(kafka), request_timeout_ms=15_000)
    async with translated():
        try:
            await client.start()
            yield client
        finally:
            await client.close()


def wanted_partitions(topic: Topic, kafka: KafkaSettings) -> int:
    """Partitions that `topic` should have: the table's, or WAPIPE_KAFKA_PARTITIONS for live topics."""
    return kafka.partitions if topic.live and kafka.partitions else topic.partitions


async def topic_states(kafka: KafkaSettings, topics: Sequence[Topic]) -> list[TopicState]:
    """What the broker has of `topics`."""
    async with admin_client(kafka) as client:
        names = [kafka.topic_prefix + t.name for t in topics]
        found = {d["topic"]: len(d["partitions"]) for d in await client.describe_topics(names) if not d["error_code"]}
    return [TopicState(t, n, found.get(n, 0), wanted_partitions(t, kafka)) for t, n in zip(topics, names, strict=True)]


async def apply_topics(kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    """Creates what is missing and grows what is too small; never shrinks, never deletes. Says what it did."""
    done: list[str] = []
    states = await topic_states(kafka, topics)
    async with admin_client(kafka) as client:
        for state in states:
            if state.partitions == 0:
                if await _create(client, state, kafka):
                    done.append(f"created {state.name} with {state.wanted} partitions")
            elif state.partitions < state.wanted:
                await client.create_partitions({state.name: NewPartitions(state.wanted)})
                done.append(f"grew {state.name} from {state.partitions} to {state.wanted} partitions")
    await _settled(kafka, topics)
    return done


async def _create(client: AIOKafkaAdminClient, state: TopicState, kafka: KafkaSettings) -> bool:
    """False when somebody else created it meanwhile. Raises ConfigError with the broker's words when it refuses."""
    new = NewTopic(state.name, state.wanted, kafka.replication_factor, topic_configs=state.topic.config())
    response = await client.create_topics([new])
    for name, code, *detail in response.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            return False
        if code:
            raise ConfigError(f"the broker refuses topic {name}: {error.__name__} {detail[0] if detail else ''}")
    return True


async def _settled(kafka: KafkaSettings, topics: Sequence[Topic]) -> None:
    """Waits until the broker shows every topic with its partitions: metadata follows creation by a moment."""
    async with translated(), asyncio.timeout(30):
        while any(s.partitions < s.wanted for s in await topic_states(kafka, topics)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def require_topics(kafka: KafkaSettings, topics: Sequence[Topic]) -> None:
    """Raises ConfigError when a topic is missing, TransientError when the broker is away."""
    missing = [s.name for s in await topic_states(kafka, topics) if s.partitions == 0]
    if missing:
        raise ConfigError(f"topics are missing: {', '.join(missing)}. Create them with: wapipe topics apply")


async def read_retention_s(kafka: KafkaSettings, names: Sequence[str]) -> dict[str, float]:
    """For how long the broker keeps each topic (full names), infinity for ever; one that it does not tell is left out.

    Raises TransientError.
    """
    async with admin_client(kafka) as client:
        answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    found: dict[str, float] = {}
    for code, _, _, name, entries in (resource for answer in answers for resource in answer.resources):
        value = next((entry[1] for entry in entries if entry[0] == "retention.ms"), None)
        if code == 0 and value is not None:
            found[name] = math.inf if int(value) < 0 else int(value) / 1000
    return found


# ---------------------------------------------------------------- publishing
class Publisher:
    """Sends records and waits for the broker's acknowledgement (idempotent, acks=all), within a deadline of ours.

    Starts without a broker and keeps trying; while nothing is acknowledged, `ready` is False and sends fail at once but
    for a probe every `probe_every_s`. A record whose deadline passed may still be delivered later: consumers deduplicate.
    """

    probe_every_s = 0.25

    def __init__(self, kafka: KafkaSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka, self._clock = kafka, clock
        self._producer: AIOKafkaProducer | None = None
        self._lanes: Lanes  # of that producer
        self._last_ack = clock()  # or the moment at which something began to wait
        self._failing = False
        self._broken = False  # its sequence: after a batch that was refused (too large), its partition refuses the rest
        self._next_probe = 0.0
        self._sends: set[Send] = set()
        self._deadlines: dict[Sent, float] = {}  # of records that wait in a lane
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """True when the broker answered the last time it was asked."""
        return self._producer is not None and not self._failing

    async def __aenter__(self) -> Publisher:
        self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._keep_deadlines())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close(flush=self.ready)

    async def wait_ready(self, timeout_s: float) -> bool:
        """Waits for the first connection."""
        end = self._clock() + timeout_s
        while not self.ready and self._clock() < end:  # noqa: ASYNC110 - at start only
            await asyncio.sleep(0.05)
        return self.ready

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        """Returns when the broker has the record. Raises TransientError (away, or too slow) or PoisonError (too large).

        `topic` is without the installation's prefix.
        """
        producer, lanes, now = self._admit(), self._lanes, self._clock()
        if not (self._deadlines or self._sends or self._failing):
            self._last_ack = now
        name, sent = self._kafka.topic_prefix + topic, None
        # The hot path of the ingress, hence no context manager for errors, and one timer for all.
        try:
            if not lanes.knows(name):
                async with asyncio.timeout(deadline_s):
                    await lanes.learn(name)
            sent = lanes.put(name, key, value, headers)
            self._deadlines[sent] = now + deadline_s
            await sent
        except MessageSizeTooLargeError as exc:
            raise PoisonError("too_large_for_broker", str(exc)) from exc
        except (KafkaError, OSError, TimeoutError) as exc:
            raise self._failed(producer, exc) from exc
        finally:
            if sent is not None:
                del self._deadlines[sent]
        self._last_ack, self._failing = self._clock(), False

    async def publish_all(self, topic: str, records: Sequence[Sending], *, deadline_s: float) -> list[PoisonError]:
        """Returns when the broker has all of them, but for those that it refuses for ever: their errors. They share a partition.

        One task and one deadline for all. Raises TransientError when any is not acknowledged; others may have been.
        """
        producer, now = self._admit(), self._clock()
        if not (self._deadlines or self._sends or self._failing):
            self._last_ack = now
        send = Send(now + deadline_s)
        self._sends.add(send)
        name = self._kafka.topic_prefix + topic
        waiting: list[asyncio.Future[Any]] = []
        try:
            refused = await hand_over(producer, name, records, waiting)
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            refused += [o for o in outcomes if isinstance(o, MessageSizeTooLargeError)]
            if failed := [o for o in outcomes if isinstance(o, BaseException) and o not in refused]:
                raise failed[0]
        except asyncio.CancelledError:
            if not send.is_late():
                raise
            raise self._failed(producer, TimeoutError()) from None
        except (KafkaError, OSError, TimeoutError) as exc:
            raise self._failed(producer, exc) from exc
        finally:
            self._sends.discard(send)
            for one in waiting:
                one.cancel()  # of no effect when it is done
        self._last_ack, self._failing = self._clock(), False
        return [PoisonError("too_large_for_broker", str(exc)) for exc in refused]

    def _failed(self, producer: AIOKafkaProducer, exc: Exception) -> TransientError:
        if producer is self._producer:
            self._failing, self._broken = True, self._broken or isinstance(exc, OutOfOrderSequenceNumber)
        self._next_probe = self._clock() + self.probe_every_s
        return TransientError("kafka", f"{type(exc).__name__}: {exc}"[:300])

    async def _keep_deadlines(self) -> None:
        while True:
            await asyncio.sleep(_DEADLINE_TICK_S)
            now = self._clock()
            for send in [s for s in self._sends if s.deadline <= now]:
                send.cancel()
            for sent in [s for s, deadline in self._deadlines.items() if deadline <= now and not s.done()]:
                sent.set_exception(TimeoutError())

    def _admit(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise TransientError("kafka", "no connection yet")
        if self._failing:
            now = self._clock()
            if now < self._next_probe:
                raise TransientError("kafka", "the last send was not acknowledged in time")
            self._next_probe = now + self.probe_every_s
        return self._producer

    async def _supervise(self) -> None:
        """Connects, and replaces a producer that got no acknowledgement for too long."""
        attempt = 0
        while True:
            if self._producer is None:
                attempt = 0 if await self._connect() else attempt + 1
            elif self._broken or (self._failing and self._clock() - self._last_ack > _SILENCE_BEFORE_RESTART_S):
                log.warning("producer.replaced", extra={"silent_s": round(self._clock() - self._last_ack, 1)})
                metrics.PRODUCER_RESTARTS.inc()
                await self._close(flush=False)
                continue
            await asyncio.sleep(min(5.0, 0.25 * 2 ** min(attempt, 5)))

    async def _connect(self) -> bool:
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=256 * 1024,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=_PRODUCER_REQUEST_TIMEOUT_MS,
        )
        try:
            async with translated():
                await producer.start()
        except TransientError as exc:
            log.warning("broker.away", extra={"detail": exc.detail})
            with contextlib.suppress(KafkaError, OSError):
                await producer.stop()
            return False
        except asyncio.CancelledError:
            with contextlib.suppress(KafkaError, OSError):
                await producer.stop()
            raise
        self._producer, self._lanes = producer, Lanes(producer)
        self._failing, self._broken, self._last_ack = False, False, self._clock()
        log.info("broker.connected")
        return True

    async def _close(self, *, flush: bool) -> None:
        """Ends the producer; without `flush` what waits in it is given up (its senders were told so long ago)."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if not flush:
            # stop() would wait for batches that a broken producer can never deliver
            producer._message_accumulator.fail_all(ConnectionError("producer replaced"))
        try:
            async with asyncio.timeout(10):
                await producer.stop()
        except (KafkaError, OSError, TimeoutError, KeyError):
            # KeyError: aiokafka's sender trips over a batch that was failed while it waited for its next try
            with contextlib.suppress(KafkaError, OSError):
                await producer.client.close()


# ---------------------------------------------------------------- reading positions
async def log_bounds(consumer: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Begin and end offset of each partition. Raises TransientError."""
    async with translated():
        begin = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
    return {tp: (begin[tp], end[tp]) for tp in partitions}
