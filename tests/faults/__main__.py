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
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.local.kafka import VERSION
from tests.faults.clocks import clocks
from tests.faults.kills import kills
from tests.faults.outages import WAYS, Dependency, Recovery, locked_out, outages
from tests.faults.outcome import Outcome
from tests.faults.peers import database_away, hidden_records
from tests.faults.poison import deadly, poison
from tests.faults.retention import retention
from tests.faults.rig import Rig
from tests.faults.scaling import grow, rolling_restart, same_id, scale
from tests.faults.spool import full_disk
from tests.faults.stages import ENDS, stages
from tests.stack import NOT_COVERED

_OUTAGE_S, _LEAST_OUTAGE_S = 600.0, 30.0
_PATIENCE_S = 1800.0  # of one scenario, beside the outages that it is made of
_COLUMNS = (
    "scenario", "received", "given up by WAHA", "stored", "lost", "doubled", "dead-lettered", "longest stall",
    "longest without a 2xx",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    kills: int
    outage_s: float
    rate_per_s: float
    repeat: int
    only: tuple[str, ...]
    seed: int


@dataclass(slots=True)
class Figures:
    """What came out so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    recoveries: list[tuple[Dependency, Recovery]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def markdown(self, plan: Plan, kind: str, minutes: float) -> str:
        """As it goes into docs/reliability.md."""
        lines = [
            f"{time.strftime('%Y-%m-%d')}, {minutes:.0f} minutes, {os.cpu_count()} cores shared by everything, "
            f"Python {platform.python_version()}, Apache Kafka {VERSION}, {_DATABASES[kind]}, "
            f"{plan.rate_per_s:.0f} deliveries/s, outages of {plan.outage_s:.0f} s, seed {plan.seed}.",
            "",
            *_table(_COLUMNS, (_row(o) for o in self.outcomes)),
        ]  # fmt: skip
        if self.recoveries:
            columns = ("away", "how", "/ready says so after", "rows again after", "caught up after")
            lines += ["", *_table(columns, (_recovery(d, r) for d, r in self.recoveries))]
        lines += ["", *(f"- {o.scenario}: {', '.join(f'{k} {v}' for k, v in o.notes.items())}" for o in self.outcomes)]
        lines += ["", *(f"**Failed**: {failure}" for failure in self.failures)] if self.failures else []
        return "\n".join([*lines, *(f"Not covered: {n}" for n in NOT_COVERED), ""])


_DATABASES = {"timescaledb": "TimescaleDB on PostgreSQL 17", "embedded": "PostgreSQL 18"}
Scenario = Callable[[Rig, Path, Plan], Awaitable[list[Outcome]]]


def _scenarios(figures: Figures) -> dict[str, Scenario]:
    async def away(dependency: Dependency, rig: Rig, logs: Path, plan: Plan) -> list[Outcome]:
        outcome, recoveries = await outages(rig, logs, dependency, plan.outage_s, rate_per_s=plan.rate_per_s)
        figures.recoveries += [(dependency, r) for r in recoveries]
        return [outcome]

    return {
        "kills": lambda rig, logs, p: _one(kills(rig, logs, p.kills, seed=p.seed, rate_per_s=p.rate_per_s)),
        "broker": lambda rig, logs, p: away("broker", rig, logs, p),
        "database": lambda rig, logs, p: away("database", rig, logs, p),
        "half-open": lambda rig, logs, _: _one(locked_out(rig, logs)),
        "stages": lambda rig, logs, _: _one(stages(rig, logs, signals=tuple(ENDS))),
        "restart": lambda rig, logs, p: _one(rolling_restart(rig, logs, rate_per_s=p.rate_per_s)),
        "scale": lambda rig, logs, p: _one(scale(rig, logs, steps=(1, 2, 4, 1, 4, 2, 1), rate_per_s=p.rate_per_s)),
        "grow": lambda rig, logs, _: _one(grow(rig, logs)),
        "same-id": lambda rig, logs, _: _one(same_id(rig, logs)),
        "hidden": lambda rig, logs, _: _one(hidden_records(rig, logs)),
        "load": lambda rig, logs, _: _one(database_away(rig, logs, 20)),
        "poison": lambda rig, logs, _: _one(poison(rig, logs, each=10_000)),
        "deadly": lambda rig, logs, _: _one(deadly(rig, logs)),
        "retention": lambda rig, logs, _: _one(retention(rig, logs)),
        "clocks": lambda rig, logs, _: clocks(rig, logs),
        "disk": lambda rig, logs, _: _one(full_disk(rig, logs)),
    }


async def _one(work: Awaitable[Outcome]) -> list[Outcome]:
    return [await work]


async def _soak(plan: Plan) -> tuple[Figures, str]:
    figures, rig = Figures(), Rig()
    scenarios = _scenarios(figures)
    root = Path(tempfile.mkdtemp(prefix="wapipe-soak-"))
    print(f"logs in {root}", file=sys.stderr)
    try:
        await rig.start()
        for turn in range(plan.repeat):
            for name in plan.only or scenarios:
                logs = root / f"{turn}-{name}"
                logs.mkdir()
                print(f"--- {name}", file=sys.stderr, flush=True)
                await _run(name, scenarios[name](rig, logs, plan), figures, _PATIENCE_S + plan.outage_s * len(WAYS))
                await rig.heal()
    finally:
        await rig.stop()
    return figures, rig.database_kind


async def _run(name: str, work: Awaitable[list[Outcome]], figures: Figures, patience_s: float) -> None:
    """One scenario. A failure is written down, and the others go on."""
    try:
        async with asyncio.timeout(patience_s):
            outcomes = await work
        figures.outcomes += outcomes
        for outcome in outcomes:
            outcome.check()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs into the report
        figures.failures.append(f"{name}: {type(exc).__name__}: {exc}")
        print(figures.failures[-1], file=sys.stderr, flush=True)


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for cells in (columns, ("---",) * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.scenario, f"{outcome.received:,}", f"{outcome.given_up}", f"{outcome.stored:,} of {outcome.messages:,}",
        f"{outcome.lost}", f"{outcome.doubled}", f"{outcome.dead} of {outcome.bad}", _seconds(outcome.longest_stall_s),
        _seconds(outcome.longest_refusal_s),
    )  # fmt: skip


def _recovery(dependency: Dependency, recovery: Recovery) -> tuple[str, ...]:
    noticed = "–" if recovery.noticed_s is None else _seconds(recovery.noticed_s)
    return dependency, recovery.way, noticed, _seconds(recovery.resumed_s), _seconds(recovery.caught_up_s)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value else "–"


def main() -> int:
    """Runs, prints and writes the figures; 1 when a promise was not kept."""
    names = sorted(_scenarios(Figures()))
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="outages last 600 s times this, at least 30 s")
    parser.add_argument("--kills", type=int, default=1000, help="kill -9 so often")
    parser.add_argument("--rate", type=float, default=80.0, help="deliveries a second")
    parser.add_argument("--repeat", type=int, default=1, help="everything so often")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the kills")
    parser.add_argument("--only", choices=names, action="append", default=[], help="these scenarios; may be repeated")
    parser.add_argument("--out", type=Path, help="a file for the figures, as Markdown")
    given = parser.parse_args()
    outage_s = max(_LEAST_OUTAGE_S, _OUTAGE_S * given.scale)
    plan = Plan(given.kills, outage_s, given.rate, given.repeat, tuple(given.only), given.seed)
    started = time.monotonic()
    figures, kind = asyncio.run(_soak(plan))
    text = figures.markdown(plan, kind, (time.monotonic() - started) / 60)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
