"""The long form of the fault tests: `python -m tests.faults`, or `make soak`. Ends by itself and writes its figures.

Options say how long; without any it takes about two and a half hours, of which two are outages of ten minutes each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.local.kafka import VERSION
from tests.faults.outages import Recovery
from tests.faults.outcome import Outcome
from tests.faults.plan import SCENARIOS, Plan, Results, long_plan
from tests.faults.rig import Rig
from tests.stack import NOT_COVERED

_PATIENCE_S = 1800.0  # of one scenario, beside the outages that it is made of
_SECONDS_A_KILL = 10.0  # at most
_COLUMNS = (
    "scenario", "received", "given up by WAHA", "stored", "lost", "doubled", "dead-lettered", "longest stall",
    "longest without a 2xx",
)  # fmt: skip


@dataclass(slots=True)
class Figures:
    """What came out so far."""

    results: list[Results] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def markdown(self, plan: Plan, kind: str, minutes: float) -> str:
        """As it goes into docs/reliability.md."""
        outcomes = [o for r in self.results for o in r.outcomes]
        recoveries = [pair for r in self.results for pair in r.recoveries]
        lines = [
            f"{time.strftime('%Y-%m-%d')}, {minutes:.0f} minutes, {os.cpu_count()} cores shared by everything, "
            f"Python {platform.python_version()}, Apache Kafka {VERSION}, {_DATABASES[kind]}, "
            f"{plan.rate_per_s:.0f} deliveries/s, outages of {plan.outage_s:.0f} s, seed {plan.seed}.",
            "",
            *_table(_COLUMNS, (_row(o) for o in outcomes)),
        ]  # fmt: skip
        if recoveries:
            columns = ("away", "how", "/ready says so after", "rows again after", "caught up after")
            lines += ["", *_table(columns, (_recovery(d, r) for d, r in recoveries))]
        lines += ["", *(f"- {o.scenario}: {', '.join(f'{k} {v}' for k, v in o.notes.items())}" for o in outcomes)]
        lines += ["", *(f"**Failed**: {failure}" for failure in self.failures)] if self.failures else []
        return "\n".join([*lines, *(f"Not covered: {n}" for n in NOT_COVERED), ""])


_DATABASES = {"timescaledb": "TimescaleDB on PostgreSQL 17", "embedded": "PostgreSQL 18"}


async def _soak(plan: Plan, only: list[str], repeat: int) -> tuple[Figures, str]:
    figures, rig = Figures(), Rig()
    root = Path(tempfile.mkdtemp(prefix="wapipe-soak-"))
    print(f"logs in {root}", file=sys.stderr)
    try:
        await rig.start()
        for turn in range(repeat):
            for name in only or SCENARIOS:
                logs = root / f"{turn}-{name}"
                logs.mkdir()
                print(f"--- {name}", file=sys.stderr, flush=True)
                patience_s = _PATIENCE_S + plan.outage_s * len(plan.windows) + plan.kills * _SECONDS_A_KILL
                await _run(name, SCENARIOS[name].run(rig, logs, plan), figures, patience_s)
                await rig.heal()
    finally:
        await rig.stop()
    return figures, rig.database_kind


async def _run(name: str, work: Awaitable[Results], figures: Figures, patience_s: float) -> None:
    """One scenario. A failure is written down, and the others go on."""
    try:
        async with asyncio.timeout(patience_s):
            results = await work
        figures.results.append(results)
        print("\n".join(results.lines()), file=sys.stderr, flush=True)
        for outcome in results.outcomes:
            outcome.check()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs into the report
        figures.failures.append(f"{name}: {' after '.join(_told(exc))}")
        print(figures.failures[-1], file=sys.stderr, flush=True)


def _told(exc: BaseException | None) -> Iterator[str]:
    """An error, and those in whose handling it came: what ended a scenario may hide behind what its clean-up met."""
    while exc is not None:
        yield f"{type(exc).__name__}: {exc}"
        exc = exc.__cause__ or exc.__context__


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for cells in (columns, ("---",) * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.scenario, f"{outcome.received:,}", f"{outcome.given_up}", f"{outcome.stored:,} of {outcome.messages:,}",
        f"{outcome.lost}", f"{outcome.doubled}", f"{outcome.dead} of {outcome.bad}", _seconds(outcome.longest_stall_s),
        _seconds(outcome.longest_refusal_s),
    )  # fmt: skip


def _recovery(dependency: str, recovery: Recovery) -> tuple[str, ...]:
    noticed = "–" if recovery.noticed_s is None else _seconds(recovery.noticed_s)
    return dependency, recovery.way, noticed, _seconds(recovery.resumed_s), _seconds(recovery.caught_up_s)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value else "–"


def main() -> int:
    """Runs, prints and writes the figures; 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="outages last 600 s times this, at least 30 s")
    parser.add_argument("--kills", type=int, default=1000, help="kill -9 so often")
    parser.add_argument("--rate", type=float, default=80.0, help="deliveries a second")
    parser.add_argument("--repeat", type=int, default=1, help="everything so often")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the kills")
    parser.add_argument(
        "--only", choices=list(SCENARIOS), action="append", default=[], help="these scenarios; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="a file for the figures, as Markdown")
    given = parser.parse_args()
    plan = long_plan(given.scale, given.kills, given.seed, given.rate)
    started = time.monotonic()
    figures, kind = asyncio.run(_soak(plan, given.only, given.repeat))
    text = figures.markdown(plan, kind, (time.monotonic() - started) / 60)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
