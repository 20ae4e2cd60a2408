"""Replays over a real broker and database beside live consumers: what was lost comes back, what is there stays untouched."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from pipeline.broker import admin_client
from pipeline.errors import ConfigError
from pipeline.ledger import read_ledger
from pipeline.replay.orders import Hold, read_order
from pipeline.replay.run import resume, start
from pipeline.replay.selection import FILTERED
from pipeline.replay.spec import Bound, books_name
from producers.simulator import Profile, traffic
from schemas.topics import MESSAGE
from tests.integration.replayed import FACTS, Ground, ground, result_of, spec
from tests.site import until


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    from tests.conftest import make_environment

    async with ground(await make_environment(servers), tmp_path_factory.mktemp("site"), 1500) as made:
        yield made


# ---------------------------------------------------------------- what comes back
@pytest.mark.parametrize("consumer", ["messages", "contacts"])
async def test_lost_rows_come_back_as_they_were(site: Ground, consumer: str) -> None:
    before = await site.tables(*FACTS[consumer])
    assert sum(map(len, before.values())) > 20
    await site.truncate(*FACTS[consumer])
    for name in {"messages": ("messages",), "contacts": ("contacts", "sessions")}[
        consumer
    ]:  # who know the account's name
        assert (await site.replay(spec(name))).state == "done"
    assert await site.tables(*FACTS[consumer]) == before


async def test_a_wrong_state_of_a_session_is_put_right(site: Ground) -> None:
    before = await site.tables(*FACTS["sessions"])
    lost = "status = NULL, status_at = NULL, me = NULL, me_at = NULL, me_lid = NULL, me_push_name = NULL, engine = NULL"
    await site.pool.execute(f"UPDATE whatsapp_gateway.sessions SET {lost}, waha_version = NULL")
    assert (await site.replay(spec("sessions"))).state == "done"
    assert await site.tables(*FACTS["sessions"]) == before


@pytest.mark.parametrize("consumer", ["messages", "contacts", "sessions"])
async def test_a_replay_of_what_is_there_rewrites_no_row(site: Ground, consumer: str) -> None:
    before = await site.versions(*FACTS[consumer])
    outcome = await site.replay(spec(consumer))
    assert (outcome.state, outcome.books["written"]) == ("done", 0)
    assert outcome.books["merged"] > 0
    assert await site.versions(*FACTS[consumer]) == before


# ---------------------------------------------------------------- what is chosen
async def test_only_the_chosen_session_chat_and_event_come_back(site: Ground) -> None:
    row = await site.pool.fetchrow(
        """SELECT session, chat, count(*) AS n FROM whatsapp_gateway.messages WHERE lane = 0
           GROUP BY session, chat ORDER BY 3 DESC LIMIT 1"""
    )
    assert row is not None
    session, chat = row["session"], row["chat"]
    whole = await site.tables(*FACTS["messages"])
    sessions = "SELECT DISTINCT session, count(*) OVER () FROM whatsapp_gateway.messages WHERE session = $1"
    only_session = await site.tuples(sessions, session)

    await site.truncate(*FACTS["messages"])
    await site.replay(spec(sessions=(session,)))
    assert await site.tuples(sessions.replace("session = $1", "$1 <> ''"), session) == only_session

    await site.truncate(*FACTS["messages"])
    outcome = await site.replay(spec(sessions=(session,), chats=(chat,), events=("message.any",)))
    chats = "SELECT session, chat, count(*) FROM whatsapp_gateway.messages GROUP BY 1, 2"
    assert await site.tuples(chats) == [(session, chat, row["n"])]
    everything = await site.pool.fetchval(
        "SELECT sum(records)::bigint FROM whatsapp_gateway.progress WHERE consumer = 'messages'"
    )
    assert outcome.books["records"] == everything
    assert outcome.skipped_events == {FILTERED: outcome.books["skipped"]}
    assert outcome.books["skipped"] == everything - outcome.books["written"] - outcome.books["merged"]

    assert (await site.replay()).state == "done"
    assert await site.tables(*FACTS["messages"]) == whole


async def test_ranges_by_offset_and_by_time_are_cut_exactly(site: Ground) -> None:
    place = await site.pool.fetchrow(
        """SELECT partition, first_offset, next_offset FROM whatsapp_gateway.progress
           WHERE consumer = 'messages' AND topic = $1 ORDER BY next_offset DESC LIMIT 1""",
        MESSAGE.name,
    )
    assert place is not None
    here: dict[str, Any] = {"topics": (MESSAGE.name,), "partitions": (place["partition"],)}
    outcome = await site.replay(spec(**here, start=Bound(offset=10), end=Bound(offset=25)))
    assert (outcome.total, outcome.books["records"]) == (15, 15)
    sql = "SELECT first_offset, next_offset FROM whatsapp_gateway.progress WHERE consumer = $1"
    assert await site.tuples(sql, books_name("messages", outcome.id or 0)) == [(10, 25)]

    # Of this partition: what the broker took from the 100th record on, by the time of that record.
    taken = await site.pool.fetch(
        """SELECT "offset", round(extract(epoch FROM received_at) * 1000)::bigint AS ms
           FROM whatsapp_gateway.message_content WHERE topic = $1 AND partition = $2 ORDER BY 1""",
        MESSAGE.name, place["partition"],
    )  # fmt: skip
    middle = taken[len(taken) // 2]
    found = await site.rehearse(spec(**here, start=Bound(time_ms=middle["ms"] - 60_000)))
    assert found.records == place["next_offset"]
    assert (await site.replay(spec(**here, start=Bound(time_ms=middle["ms"] + 86_400_000)))).state == "nothing"
    before = await site.rehearse(spec(**here, end=Bound(time_ms=middle["ms"])))
    after = await site.rehearse(spec(**here, start=Bound(time_ms=middle["ms"])))
    assert before.records + after.records == place["next_offset"]
    assert before.ranges[0].end == after.ranges[0].first
    # The broker stamps a record some milliseconds after the ingress took it.
    assert abs(after.ranges[0].first - middle["offset"]) <= 40


async def test_a_rehearsal_decodes_and_writes_nothing(site: Ground) -> None:
    names = ("progress", "progress_skipped", "replays", "replay_ranges", *FACTS["messages"])
    before = await site.versions(*names)
    code, stdout, _ = await site.command("messages", "--dry-run", "--json")
    found = result_of(stdout)
    assert code == 0
    live = await site.progress("messages")
    assert found["records"] == live == sum(r["end"] - r["first"] for r in found["ranges"])
    assert found["decoded"] + sum(found["skipped_events"].values()) + sum(found["dead_letters"].values()) == live
    assert found["decoded"] >= len(before["message_content"])
    assert await site.versions(*names) == before


# ---------------------------------------------------------------- ends that come early
async def test_a_killed_replay_goes_on_where_its_books_stand(site: Ground) -> None:
    before = await site.tables(*FACTS["messages"])
    await site.truncate(*FACTS["messages"])
    process = await site.start_command("messages", "--rate", "50")
    order = await site.begun(100)
    assert psutil.Process(process.pid).nice() == 10 + psutil.Process().nice(), "live goes first"
    process.kill()
    await process.wait()

    code, stdout, _ = await site.command("list", "--json")
    listed = next(r for r in result_of(stdout)["replays"] if r["id"] == order)
    assert (code, listed["state"]) == (0, "dead")
    done = await site.progress(books_name("messages", order))
    assert 0 < done < listed["records"]

    code, stdout, stderr = await site.command("resume", str(order), "--rate", "100000", "--json")
    outcome = result_of(stdout)
    assert (code, outcome["state"], outcome["difference"]) == (0, "done", 0), stderr
    assert outcome["books"]["records"] == listed["records"]
    assert await site.tables(*FACTS["messages"]) == before
    code, _, stderr = await site.command("resume", str(order))
    assert code == 78
    assert "is done" in stderr


async def test_a_stopped_replay_can_be_resumed_and_no_two_work_on_one(site: Ground) -> None:
    process = await site.start_command("messages", "--rate", "2", "--json")
    order = await site.begun(1)
    code, _, stderr = await site.command("resume", str(order))
    assert code == 78
    assert f"is running already: process {process.pid}" in stderr
    code, _, stderr = await site.command("drop", str(order))
    assert code == 78
    code, stdout, _ = await site.command("stop", str(order))
    assert (code, "will stop" in stdout) == (0, True)
    stdout_bytes, _ = await process.communicate()
    stopped = result_of(stdout_bytes.decode())
    assert (stopped["state"], stopped["difference"]) == ("stopped", 0)
    assert process.returncode == 130
    assert 0 < stopped["books"]["records"] < stopped["total"]
    code, _, _ = await site.command("stop", str(order))
    assert code == 3

    outcome = await resume(site.job(), order, 100_000)
    assert (outcome.state, outcome.difference, outcome.books["records"]) == ("done", 0, stopped["total"])
    code, stdout, _ = await site.command("drop", str(order))
    assert (code, await site.progress(books_name("messages", order))) == (0, 0)


async def test_ctrl_c_says_how_to_go_on(site: Ground) -> None:
    process = await site.start_command("messages", "--rate", "10")
    order = await site.begun(1)
    process.send_signal(signal.SIGINT)
    stdout, _ = await process.communicate()
    assert process.returncode == 130
    assert f"wapipe replay resume {order}" in stdout.decode()


async def test_a_replay_whose_session_is_cut_takes_its_lock_again(site: Ground) -> None:
    stop = asyncio.Event()
    job = site.job(stop=stop)
    running = asyncio.create_task(start(job, spec(rate_per_s=30.0)))
    order = await site.begun(1)
    holder = await site.holder(order)
    assert holder is not None
    cut = await site.pool.fetchval(
        """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
           WHERE application_name = 'wapipe replay' AND datname = current_database()"""
    )
    assert cut >= 2
    await until(lambda: _held_anew(site, order, holder), "the lock to be taken again")
    passed = job.watched.passed
    await until(lambda: _more_than(job, passed), "the replay to go on")
    stop.set()
    assert (await running).state == "stopped"
    with pytest.raises(ConfigError, match="is running already"):
        await _resume_twice(site, order)
    outcome = await resume(site.job(), order, 100_000)
    assert (outcome.state, outcome.difference) == ("done", 0)


# ---------------------------------------------------------------- beside live
async def test_live_consumption_goes_on_beside_a_replay(site: Ground) -> None:
    before = await site.site.settled(0)
    stop = asyncio.Event()
    job = site.job(stop=stop)
    replaying = asyncio.create_task(start(job, spec(rate_per_s=5.0)))
    order = await site.begun(1)
    sent = await site.deliver(traffic(Profile(count=600, sessions=2, session_prefix="beside", seed=9)))
    assert not replaying.done()
    stop.set()
    stopped = await replaying
    assert (stopped.state, stopped.difference, stopped.books["written"]) == ("stopped", 0, 0)
    after = await site.site.settled(before.received + before.parked + sent)
    assert after.difference == 0
    twice = await site.pool.fetch(
        "SELECT chat_id, key FROM whatsapp_gateway.message_content GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert twice == []
    outcome = await resume(site.job(), order, 100_000)
    assert (outcome.state, outcome.books["records"]) == ("done", outcome.total)
    # A replay that reads everything, the newcomers too, finds nothing to add.
    assert (await site.replay()).books["written"] == 0


async def test_the_ledger_shows_replays_apart(site: Ground) -> None:
    await site.replay(spec("sessions"))
    ledger = await read_ledger(site.site.settings)
    assert {line.consumer for line in ledger.lines} == {"messages", "contacts", "sessions"}
    assert (ledger.lag, ledger.difference) == (0, 0)
    names = {line.consumer for line in ledger.replays}
    assert any(name.startswith("sessions@") for name in names)
    assert all("@replay-" in name for name in names)
    victim = next(iter(names))
    await site.pool.execute("UPDATE whatsapp_gateway.progress SET merged = merged + 1 WHERE consumer = $1", victim)
    try:
        spoilt = await read_ledger(site.site.settings)
        assert spoilt.difference > 0
        assert spoilt.lag == 0
    finally:
        await site.pool.execute("UPDATE whatsapp_gateway.progress SET merged = merged - 1 WHERE consumer = $1", victim)


# ---------------------------------------------------------------- bad records
async def test_bad_records_become_dead_letters_as_they_do_live(site: Ground) -> None:
    before = await site.progress("messages")
    # The partition's last record: nothing of it can be decoded.
    await site.publish(MESSAGE.name, b"no json", {"event": b"message", "session": b"bad"}, key=b"bad|")
    await until(lambda: _buried(site, 1), "the live consumer to bury it")
    outcome = await site.replay(spec(sessions=("bad",)))
    assert (outcome.state, outcome.books["dead"], outcome.books["records"]) == ("done", 1, before + 1)
    letters = await site.rehearse(spec(topics=(MESSAGE.name,), sessions=("bad",)))
    assert dict(letters.dead.reasons) == {"not_json": 1}
    assert await site.letters() == 2


DEADLY = """
import asyncio, json, os, signal, sys
from consumers.messages import Messages
from pipeline.replay import run
from pipeline.replay.spec import Spec
from pipeline.settings import load_settings

class Deadly(Messages):
    def decode(self, event):
        if b"deadly" in event.value:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(event)

async def main(order):
    job = run.Job(load_settings(), Deadly, asyncio.Event())
    if order:
        outcome = await run.resume(job, int(order), None)
    else:
        outcome = await run.start(job, Spec("messages", ("waha.message",)))
    print(json.dumps(outcome.as_dict()))

asyncio.run(main(sys.argv[1]))
"""


async def test_a_record_that_kills_the_process_is_found_when_it_is_resumed(site: Ground) -> None:
    body = (
        b'{"event":"message","session":"deadly","id":"e1","payload":{"id":"false_1@c.us_D1","timestamp":1,"body":"x"}}'
    )
    await site.publish(MESSAGE.name, body, {"event": b"message", "session": b"deadly"}, key=b"deadly|1@c.us")
    letters = await site.letters()
    killed = await site.script(DEADLY, "")
    await killed.communicate()
    assert killed.returncode == -9
    order = await site.pool.fetchval("SELECT max(id) FROM whatsapp_gateway.replays")
    resumed = await site.script(DEADLY, str(order))
    stdout, stderr = await resumed.communicate()
    assert resumed.returncode == 0, stderr.decode()[-2000:]
    outcome = result_of(stdout.decode())
    assert (outcome["state"], outcome["difference"]) == ("done", 0)
    assert await site.letters() == letters + outcome["books"]["dead"]
    reasons = await site.reasons(letters)
    assert reasons.count("kills_process") == 1


async def test_what_retention_took_meanwhile_is_counted_as_a_gap(site: Ground) -> None:
    """Last of this file: the records are gone afterwards."""
    place = await site.pool.fetchrow(
        """SELECT partition, next_offset FROM whatsapp_gateway.progress
           WHERE consumer = 'messages' AND topic = $1 ORDER BY next_offset DESC LIMIT 1""",
        MESSAGE.name,
    )
    assert place is not None
    partition, end = place["partition"], place["next_offset"]
    stop = asyncio.Event()
    one = spec(topics=(MESSAGE.name,), partitions=(partition,), rate_per_s=10.0)
    running = asyncio.create_task(start(site.job(stop=stop), one))
    order = await site.begun(1)
    stop.set()
    stored = (await running).books["records"]
    kept = 5
    async with admin_client(site.site.settings.kafka) as admin:
        tp = TopicPartition(site.site.settings.kafka.topic_prefix + MESSAGE.name, partition)
        await admin.delete_records({tp: RecordsToDelete(before_offset=end - kept)})
    outcome = await resume(site.job(), order, 1000.0)
    assert (outcome.state, outcome.difference, outcome.books["gap"]) == ("done", 0, end - kept - stored)
    assert outcome.books["records"] == stored + kept
    asked = await site.rehearse(replace(one, start=Bound(offset=2), rate_per_s=None))
    assert (asked.records, [r.gone for r in asked.ranges]) == (kept, [end - kept - 2])


async def _buried(site: Ground, count: int) -> bool | None:
    return True if await site.letters() >= count else None


async def _held_anew(site: Ground, order: int, before: int) -> bool | None:
    return True if await site.holder(order) not in (None, before) else None


async def _more_than(job: Any, passed: int) -> bool | None:
    return True if job.watched.passed > passed else None


async def _resume_twice(site: Ground, order: int) -> None:
    """Somebody holds the replay while another wants it."""
    hold = Hold(site.site.settings.database)
    await hold.resume(await read_order(site.pool, order))
    try:
        await resume(site.job(), order, None)
    finally:
        await hold.close()
