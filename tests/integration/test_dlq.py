"""Decisions about dead letters on a real broker and database: no letter is lost or stored twice, whoever dies or races."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from consumers.messages import Messages
from pipeline.batch import Dead, Event, Place
from pipeline.broker import Publisher, admin_client, apply_topics
from pipeline.deadletter import publish_dead
from pipeline.dlq.box import Box, open_box
from pipeline.dlq.decide import Decision, drop, redrive
from pipeline.dlq.letters import Letter, Selection
from pipeline.dlq.overview import decisions, explain, summarise
from pipeline.dlq.trial import try_letters
from pipeline.errors import ConfigError, PoisonError, TransientError
from pipeline.migrate import migrate
from pipeline.postgres import Pool, open_pool
from pipeline.process import Process
from pipeline.reader import read_bounds, read_records
from pipeline.registry import registry
from pipeline.settings import Settings, load_settings
from schemas.topics import MESSAGE, dead_letter_topic, redrive_topic
from tests.integration.written import Desk, Record, message, new_desk, rows
from tests.warm import start

DEAD, REDRIVE = dead_letter_topic("messages"), redrive_topic("messages")
SESSION = "default"
REDRIVEN = Decision("redriven", "all", by="tester@here")
TABLES = ("sessions", "jids", "message_keys", "message_content", "contacts_seen", "progress", "dead_letter_decisions")


@dataclass(frozen=True)
class Fetched(Record):
    """A record of the broker, under its topic's own name."""

    own: tuple[tuple[str, bytes], ...] = ()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.own)


@dataclass
class Office:
    """What a test works with."""

    settings: Settings
    environment: dict[str, str]
    pool: Pool
    publisher: Publisher
    box: Box

    async def bury(self, count: int, *, reason: str = "refused_by_database", start: int = 0) -> None:
        """So many messages as dead letters of `messages`."""
        for number in range(start, start + count):
            record = Record(message(f"A{number}", session=SESSION), partition=number % 3, offset=number)
            dead = Dead(Place(MESSAGE.name, record.partition, record.offset), record, PoisonError(reason), 500, 9)
            await publish_dead(self.publisher, "messages", dead)

    async def open(self, **selection: Any) -> list[Letter]:
        return await self.box.read(Selection(**selection))

    async def redriven(self) -> list[Record]:
        """Everything on the redrive topic."""
        found: list[Record] = []
        spans = await read_bounds(self.settings.kafka, REDRIVE)
        async with aclosing(read_records(self.settings.kafka, REDRIVE, spans)) as chunks:
            async for records in chunks:
                found += [
                    Fetched(
                        r.value,
                        "message",
                        REDRIVE.name,
                        r.partition,
                        r.offset,
                        r.timestamp,
                        None,
                        r.key,
                        tuple(r.headers),
                    )
                    for r in records
                ]
        return found

    async def consume(self) -> Desk:
        """What the consumer makes of the redrive topic."""
        desk = new_desk(self.pool, "messages")
        records = await self.redriven()
        at = next(iter((await desk.next_offsets()).values()), 0)
        await desk.store(records[at:])
        return desk

    async def counts(self) -> dict[str, int]:
        return {t: await self.pool.fetchval(f"SELECT count(*) FROM whatsapp_gateway.{t}") for t in TABLES}


@pytest.fixture
async def office(settings_env: dict[str, str]) -> AsyncIterator[Office]:
    settings = load_settings(settings_env)
    await migrate(settings.database)
    await apply_topics(settings.kafka, [DEAD, REDRIVE])
    pool = await open_pool(settings.database, name="tests")
    async with Publisher(settings.kafka) as publisher:
        assert await publisher.wait_ready(30)
        yield Office(settings, settings_env, pool, publisher, open_box("messages", settings.kafka, pool))
    await pool.close()


def id_of(record: Record) -> str:
    """The letter's, by the headers of a redriven record."""
    headers = dict(record.headers)
    return b"/".join(headers[f"dead-{name}"] for name in ("topic", "partition", "offset")).decode()


# ---------------------------------------------------------------- dying half-way
@pytest.mark.parametrize("acknowledged", [1, 137, 200, 250])
async def test_a_command_killed_half_way_loses_and_doubles_nothing(office: Office, acknowledged: int) -> None:
    """Killed by signal 9 between the broker's acknowledgement and the record of the decision, in a chunk or at its end."""
    await office.bury(250)
    process = await start("tests.integration.killed_redrive", str(acknowledged), env=office.environment)
    assert await process.wait() == -signal.SIGKILL

    left = await office.open()
    sent = await office.redriven()
    assert len(sent) >= acknowledged
    known = {letter.id for letter in await office.open(state="redriven")}
    assert known <= {id_of(record) for record in sent}
    assert len(known) + len(left) == 250
    assert len(left) >= 250 - acknowledged

    outcome = await redrive(office.box, office.publisher, left, REDRIVEN)
    assert (outcome.decided, outcome.taken, outcome.gone) == (len(left), 0, 0)
    assert await office.open() == []
    desk = await office.consume()
    assert Counter(r["raw_id"] for r in await rows(office.pool, SESSION)) == {f"A{n}": 1 for n in range(250)}
    books = await desk.books()
    assert books["records"] == len(sent) + len(left)
    assert (books["written"], books.get("merged", 0)) == (250, len(sent) + len(left) - 250)


async def test_an_outage_of_the_broker_leaves_the_letters_open(office: Office) -> None:
    await office.bury(5)
    letters = await office.open()

    class Away(Publisher):
        async def publish(self, *_: Any, **__: Any) -> None:
            raise TransientError("kafka", "away")

    with pytest.raises(TransientError):
        await redrive(office.box, Away(office.settings.kafka), letters, REDRIVEN)
    assert await office.open() == letters
    assert await decisions("messages", office.pool, 10) == []


# ---------------------------------------------------------------- several at once
async def test_of_two_redrives_at_once_each_letter_is_sent_once(office: Office) -> None:
    await office.bury(300)
    letters = await office.open()
    one, two = await asyncio.gather(
        redrive(office.box, office.publisher, letters, REDRIVEN),
        redrive(office.box, office.publisher, letters, REDRIVEN),
    )
    assert one.decided + two.decided == one.taken + two.taken == 300
    assert len(await office.redriven()) == 300
    await office.consume()
    assert len(await rows(office.pool, SESSION)) == 300


async def test_a_letter_is_redriven_or_dropped_never_both(office: Office) -> None:
    await office.bury(300)
    letters = await office.open()
    sent, dropped = await asyncio.gather(
        redrive(office.box, office.publisher, letters, REDRIVEN),
        drop(office.box, letters[::-1], Decision("dropped", "all", "a test", "tester@here")),
    )
    assert sent.decided + dropped.decided == 300
    assert len(await office.redriven()) == sent.decided
    states = Counter(letter.state for letter in await office.open(state=None))
    assert states == Counter(redriven=sent.decided, dropped=dropped.decided)


async def test_of_two_that_revive_a_dropped_letter_one_gets_it(office: Office) -> None:
    await office.bury(2)
    await drop(office.box, await office.open(), Decision("dropped", "all", "a test"))
    letters = await office.open(state="dropped")
    one, two = await asyncio.gather(
        redrive(office.box, office.publisher, letters, REDRIVEN),
        redrive(office.box, office.publisher, letters, REDRIVEN),
    )
    # The second finds what it chose superseded: it takes nothing away from the first.
    assert sorted((one.decided, two.decided)) == [0, 2]
    assert len(await office.redriven()) == 2
    found = await explain(office.box, (await office.open(state="redriven"))[0])
    assert [d["action"] for d in found["decisions"]] == ["dropped", "redriven"]


# ---------------------------------------------------------------- what a letter is
async def test_what_dies_again_is_one_open_letter_with_its_history(office: Office) -> None:
    await office.bury(3)
    await redrive(office.box, office.publisher, await office.open(), REDRIVEN)
    for number, record in enumerate(await office.redriven()):
        if number == 1:
            dead = Dead(Place(REDRIVE.name, 0, record.offset), record, PoisonError("chat_missing"))
            await publish_dead(office.publisher, "messages", dead)
            await publish_dead(office.publisher, "messages", dead)  # killed before its transaction, and met again
    [letter] = await office.open()
    assert (letter.death.attempts, letter.death.reason, letter.death.topic) == (2, "chat_missing", MESSAGE.name)
    assert [p.reason for p in letter.death.history] == ["refused_by_database"]
    assert len(await office.open(state="redriven")) == 2
    box = await summarise(office.box, None)
    assert (box["letters"], box["redriven_not_read_yet"], len(box["groups"])) == (3, 3, 2)


async def test_what_retention_took_is_counted_and_no_failure(office: Office) -> None:
    await office.bury(20)
    letters = await office.open()
    name = office.settings.kafka.topic_prefix + DEAD.name
    async with admin_client(office.settings.kafka) as client:
        await client.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=15)})
    outcome = await redrive(office.box, office.publisher, letters, REDRIVEN)
    assert (outcome.decided, outcome.gone) == (5, 15)
    assert (await explain(office.box, letters[0]))["payload"] == {}
    async with admin_client(office.settings.kafka) as client:
        await client.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=20)})
    assert await office.open(state=None) == []
    assert (await redrive(office.box, office.publisher, letters[-5:], REDRIVEN)).gone == 5


async def test_without_the_redrive_topic_nothing_is_sent(settings_env: dict[str, str]) -> None:
    settings = load_settings(settings_env)
    await migrate(settings.database)
    async with await open_pool(settings.database, name="tests") as pool, Publisher(settings.kafka) as publisher:
        with pytest.raises(ConfigError, match="wapipe topics apply"):
            await redrive(open_box("messages", settings.kafka, pool), publisher, [], REDRIVEN)
        assert await open_box("messages", settings.kafka, pool).read(Selection()) == []


# ---------------------------------------------------------------- trying
async def test_a_trial_says_which_would_pass_and_leaves_nothing(office: Office) -> None:
    """Also no session and no person that its messages were the first to name."""
    await office.bury(40)
    await office.pool.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.body IN ('text of A7', 'text of A23') THEN RAISE EXCEPTION 'no' USING ERRCODE = '22023'; END IF;
             RETURN NEW; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON whatsapp_gateway.message_content FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )
    for name in ("messages", "contacts"):  # of contacts, a session must be there before its people
        pairs = [pair async for chunk in office.box.fetch(await office.open()) for pair in chunk]
        before = await office.counts()
        verdicts = await try_letters(office.pool, registry()[name], pairs)
        failing = [v.letter.origin.offset for v in verdicts if not v.passes]
        assert failing == ([7, 23] if name == "messages" else [])
        assert [v.letter for v in verdicts] == [letter for letter, _ in pairs]
        assert await office.counts() == before == dict.fromkeys(TABLES, 0)


class Choosy(Messages):
    """A consumer that does not want every event."""

    events = frozenset({"message"})  # type: ignore[assignment] # all, in the class


async def test_a_trial_of_what_cannot_be_decoded_or_is_not_wanted(office: Office) -> None:
    letters = [("message", b"{"), ("message", message("A1", session=SESSION)), ("message.ack", b"{}")]
    for offset, (event, value) in enumerate(letters):
        record = replace(Record(value, offset=offset), event=event)
        dead = Dead(Place(MESSAGE.name, 0, offset), record, PoisonError("decode_failed"))
        await publish_dead(office.publisher, "messages", dead)
    pairs = [pair async for chunk in office.box.fetch(await office.open()) for pair in chunk]
    choosy = Process("messages", "tests.integration.test_dlq:main", 0, "a consumer", "Choosy")
    verdicts = await try_letters(office.pool, choosy, pairs)
    assert [(v.passes, v.skipped, v.reason) for v in verdicts] == [
        (False, False, "not_json"), (True, False, ""), (True, True, ""),
    ]  # fmt: skip


async def test_a_trial_survives_what_kills_its_process(office: Office) -> None:
    await office.bury(3)
    pairs = [pair async for chunk in office.box.fetch(await office.open()) for pair in chunk]

    class Deadly(Messages):
        def decode(self, event: Event) -> Any:
            if event.value == pairs[1][1].value:
                os.abort()
            return super().decode(event)

    messages = Process("messages", "tests.integration.test_dlq:main", 0, "a consumer", "Deadly")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys.modules[__name__], "Deadly", Deadly, raising=False)
        verdicts = await try_letters(office.pool, messages, pairs)
    assert [v.reason for v in verdicts] == ["", "kills_process", ""]


async def test_through_pgbouncer(office: Office, pgbouncer: int) -> None:
    """In transaction mode: no session state, no prepared statements."""
    pooled = load_settings(office.environment | {"WHATSAPP_PGBOUNCER_PORT": str(pgbouncer)})
    await office.bury(5)
    async with await open_pool(pooled.database, name="tests") as pool:
        box = open_box("messages", pooled.kafka, pool)
        pairs = [pair async for chunk in box.fetch(await box.read(Selection())) for pair in chunk]
        assert all(v.passes for v in await try_letters(pool, registry()["messages"], pairs))
        outcome = await redrive(box, office.publisher, [letter for letter, _ in pairs], REDRIVEN)
        assert (outcome.decided, await box.read(Selection()), await box.waiting()) == (5, [], 5)
    assert (await office.counts())["message_content"] == 0
