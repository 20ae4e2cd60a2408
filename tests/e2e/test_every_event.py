"""Every event of every engine, simulated, doubled and out of order, through real processes: the books balance, nothing is
skipped or dead, and every table holds what the merge law says of the records, also when all of it comes again."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pipeline.batch import read_headers
from pipeline.postgres import Pool, open_pool
from pipeline.reader import read_bounds, read_records
from producers.simulator import Delivery, Profile, Target, play, traffic
from schemas.facts import Fact
from schemas.law import merge
from schemas.normalize.contact import met_in
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.topics import LIVE_TOPICS, ROUTES
from tests.properties.tables import difference, fetch_tables, lawful_tables
from tests.site import Site, running

DELIVERIES = 2_500  # the rarest event is among the first 1,800
PROFILE = Profile(  # the seed is one under which every name comes
    count=DELIVERIES, sessions=4, chats=10, edits=0.05, reactions=0.08, revokes=0.04, others=0.5, duplicates=0.1,
    out_of_order=0.3, session_prefix="every", seed=14,
)  # fmt: skip


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    from tests.conftest import make_environment

    environment = await make_environment(servers)
    async with running(
        environment, tmp_path_factory.mktemp("site"), "gateway", "messages", "contacts", "sessions"
    ) as started:
        yield started


async def deliver(site: Site, deliveries: list[Delivery]) -> None:
    key = site.settings.ingress.hmac_key
    assert key is not None
    report = await play(
        iter(deliveries), Target(f"{site.settings.origin}/webhook", key.get_secret_value()), concurrency=32
    )
    assert (report.delivered, report.lost, report.unfinished) == (len(deliveries), 0, 0)


async def facts_of_topics(site: Site) -> list[Fact]:
    """What the records state, as a consumer reads them."""
    found: list[Fact] = []
    for topic in LIVE_TOPICS:
        spans = await read_bounds(site.settings.kafka, topic)
        async for records in read_records(site.settings.kafka, topic, spans):
            for record in records:
                event = read_headers(record, topic.name)
                found += to_facts(event.value, Record(event.event, event.source, event.received_at_ms))
    return found


async def assert_lawful(site: Site, pool: Pool) -> None:
    facts = await facts_of_topics(site)
    sessions = [r["name"] for r in await pool.fetch("SELECT name FROM whatsapp_gateway.sessions")]
    hash_key = await pool.fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
    lawful = lawful_tables(merge([*facts, *met_in(facts)]), hash_key)
    assert [table for table, rows in lawful.items() if not rows] == []
    wrong = list(difference(await fetch_tables(pool, sessions), lawful))
    assert not wrong, "\n".join(wrong[:20])


def doubled(deliveries: list[Delivery]) -> Iterator[Delivery]:
    """A tenth of everything, not of messages alone, comes twice."""
    rng = random.Random(7)
    for delivery in deliveries:
        yield delivery
        if rng.random() < 0.1:
            yield delivery


async def test_all_events_of_all_engines(site: Site) -> None:
    sent = list(doubled(list(traffic(PROFILE))))
    assert {d.event for d in sent} == set(ROUTES)
    async with await open_pool(site.settings.database, name="tests") as pool:
        await deliver(site, sent)
        books = await site.settled(len(sent))
        assert (books.difference, books.parked) == (0, 0)
        assert [(line.consumer, line.dead, line.skipped) for line in books.lines if line.dead or line.skipped] == []
        await assert_lawful(site, pool)

        again = random.Random(8).sample(sent, len(sent) // 4)
        await deliver(site, again)
        assert (await site.settled(len(sent) + len(again))).difference == 0
        await assert_lawful(site, pool)
