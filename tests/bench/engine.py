"""What the engine costs: the messages consumer in its runner against a bare aiokafka loop with the same decode, the same
rows and the same merge, one after the other, each alone in a process.

The bare loop has no books, no dead letters, no positions of its own, no metrics, and does one thing after the other:
getmany, decode, prepare, write in a transaction, commit. `python -m tests.bench.engine RECORDS` is that loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time

import uvloop
from aiokafka import AIOKafkaConsumer

from consumers.messages import Messages
from pipeline.batch import read_headers
from pipeline.broker import client_options
from pipeline.lifecycle import tune_gc
from pipeline.postgres import open_pool, transaction
from pipeline.settings import load_settings
from tests.bench.common import Site, Table, fill_topic, message_traffic
from tests.bench.persist import consume
from tests.warm import inherited

SUBJECT, LIMIT = "wapipe messages", "bare aiokafka loop"


async def run(site: Site, *, records: int, rounds: int) -> Table:
    """Both on empty databases and the same full topic, the first one in turn."""
    table = Table("The engine: fetch to commit, one process", "rows/s", LIMIT)
    prefix = f"engine{records}."
    await fill_topic(load_settings(await site.environment(prefix)), message_traffic(records))
    cpu: dict[str, list[float]] = {LIMIT: [], SUBJECT: []}  # µs a record
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name in (LIMIT, SUBJECT) if number % 2 == 0 else (SUBJECT, LIMIT):
            environment = await site.environment(prefix)
            if name == LIMIT:
                rate, used = await _bare(environment, records)
            else:
                found = await consume(environment, records, 4840 + number)
                rate, used = found.rate, found.stages["CPU of the process"]
            table.add(name, rate)
            cpu[name].append(used)
    cost = 1 / table.ratio(SUBJECT) - 1
    table.notes.append(f"The engine costs {cost:+.0%} of the bare loop's time (goal: at most +25 %).")
    costs = ", ".join(f"{name} {statistics.median(values):.0f}" for name, values in cpu.items())
    table.notes.append(f"CPU of the process, µs a record: {costs}.")
    return table


async def _bare(environment: dict[str, str], records: int) -> tuple[float, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.engine", str(records),
        env=inherited() | environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the bare loop ended with {process.returncode}")
    found = json.loads(answer)
    return found["rate"], found["cpu"]


async def _loop(records: int) -> dict[str, float]:
    """From the first stored batch to the last: rows a second, and µs of CPU a row."""
    settings = load_settings()
    tune_gc()
    pool = await open_pool(settings.database, name="bare", max_size=2)
    consumer, prefix = Messages(pool), settings.kafka.topic_prefix
    client = AIOKafkaConsumer(
        *[prefix + t.name for t in consumer.topics], **client_options(settings.kafka),
        group_id=f"{prefix}bare.{os.getpid()}", enable_auto_commit=False, auto_offset_reset="earliest",
    )  # fmt: skip
    await client.start()
    stored, first, started, before = 0, 0, 0.0, 0.0
    try:
        while stored < records:
            fetched = await client.getmany(timeout_ms=200, max_records=settings.consumer.batch_rows)
            if not fetched:
                continue
            events = [read_headers(r, tp.topic.removeprefix(prefix)) for tp, some in fetched.items() for r in some]
            prepared = await consumer.prepare([consumer.decode(event) for event in events])
            async with transaction(pool) as connection:
                await consumer.stage(connection, prepared)
                await consumer.write(connection, prepared)
            await client.commit()
            stored += len(events)
            if not first:
                first, started, before = stored, time.perf_counter(), time.process_time()
        took, used = time.perf_counter() - started, time.process_time() - before
        return {"rate": (stored - first) / took, "cpu": used / (stored - first) * 1e6}
    finally:
        await client.stop()
        await pool.close()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_loop(int(sys.argv[1])))), flush=True)
