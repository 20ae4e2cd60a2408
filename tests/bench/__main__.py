"""`python -m tests.bench`: the benchmarks, as Markdown on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time

import psutil

from tests.bench.common import site


async def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ratios against limits of the same run. Loopback only, ends by itself."
    )
    parser.add_argument(
        "what",
        nargs="*",
        default=["ingress", "persist", "latency"],
        help="ingress persist mixed acks engine full latency spool replay reading media sync backfill",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--records", type=int, default=300_000, help="of each round of persist, mixed, acks, engine, replay, full"
    )
    parser.add_argument("--stored", type=int, default=10_000_000, help="messages stored before, for `full`")
    parser.add_argument("--messages", type=int, default=5_000_000, help="messages to read from, for `reading`")
    parser.add_argument("--chunks", type=int, default=200, help="weeks that they are spread over, for `reading`")
    parser.add_argument("--files", type=int, default=1000, help="files of each round, for `media`")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB"
    print(f"Run of {time.strftime('%Y-%m-%d')} on {machine}, {platform.python_version()}.\n")
    if "spool" in options.what:  # needs no server
        from tests.bench import spool

        print((await spool.run(rounds=options.rounds)).markdown(), flush=True)
    others = [name for name in options.what if name != "spool"]
    if not others:
        return
    async with site() as where:
        print(f"Database: {where.database.kind}.\n")
        for name in others:
            print(f"== {name}", file=sys.stderr, flush=True)
            if name == "reading":
                from tests.bench import reading

                times = await reading.run(where, messages=options.messages, chunks=options.chunks)
                print(times.markdown(), flush=True)
                continue
            if name == "persist":
                from tests.bench import persist

                table = await persist.run(where, records=options.records, rounds=options.rounds)
            elif name == "mixed":
                from tests.bench import persist

                table = await persist.run_mixed(where, records=options.records, rounds=options.rounds)
            elif name == "acks":
                from tests.bench import persist

                table = await persist.run_acks(
                    where, records=options.records, rounds=options.rounds, stored=options.stored
                )
            elif name == "engine":
                from tests.bench import engine

                table = await engine.run(where, records=options.records, rounds=options.rounds)
            elif name == "full":
                from tests.bench import persist

                table = await persist.run_full(where, records=options.records, rounds=1, stored=options.stored)
            elif name == "replay":
                from tests.bench import replay

                table = await replay.run(where, records=options.records, rounds=options.rounds)
            elif name == "media":
                from tests.bench import media

                table = await media.run(where, rounds=options.rounds, files=options.files)
            elif name == "sync":
                from tests.bench import sync

                table = await sync.run(where, rounds=options.rounds)
            elif name == "backfill":
                from tests.bench import backfill

                table = await backfill.run(where, rounds=options.rounds)
            elif name == "ingress":
                from tests.bench import ingress

                table = await ingress.run(where, rounds=options.rounds)
            else:
                from tests.bench import latency

                table = await latency.run(where)
            print(table.markdown(), flush=True)


asyncio.run(main())
