"""Every fault scenario by name, and how much of each the short and the long form run.

In the short form lanes run side by side; the scenarios of a lane run one after the other. An outage mostly waits: in the
short form several are at once, each on a site of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.faults.clocks import clocks
from tests.faults.kills import kills
from tests.faults.media import media_kills
from tests.faults.outages import ONE_BY_ONE, TOGETHER, Dependency, Recovery, Window, locked_out, outages
from tests.faults.outcome import Outcome
from tests.faults.peers import database_away, hidden_records
from tests.faults.poison import deadly, poison
from tests.faults.retention import retention
from tests.faults.rig import Rig
from tests.faults.scaling import grow, rolling_restart, same_id, scale
from tests.faults.spool import full_disk
from tests.faults.stages import ENDS, stages
from tests.faults.store import store_away
from tests.faults.sync import Size, sync_kills

# Kills and outages have servers of their own to break. The other lanes break what belongs to their sites alone, and share;
# the scenarios of `patient` do little but wait.
Lane = Literal["kills", "rough", "files", "patient", "gentle"]
SERVERS: dict[Lane, str] = {"kills": "killed", "rough": "stopped", "files": "kept", "patient": "kept", "gentle": "kept"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. The defaults are the short form."""

    kills: int = 200
    media_kills: int = 30
    seed: int | None = None
    rate_per_s: float = 30.0  # two cores have enough to do with starting processes
    outage_s: float = 30.0
    windows: tuple[Window, ...] = TOGETHER
    signals: tuple[tuple[str, ...], ...] = (("SIGTERM",),)
    steps: tuple[int, ...] = (1, 2, 4, 1)  # processes of one consumer
    poison: int = 1500  # records of each share
    history: Size = Size()  # noqa: RUF009 - frozen


def long_plan(scale_by: float, kill_count: int, seed: int, rate_per_s: float) -> Plan:
    """The long form: outages of ten minutes times `scale_by`, at least of 30 s."""
    outage_s = max(30.0, 600.0 * scale_by)
    return Plan(
        kills=kill_count, media_kills=max(30, kill_count // 5), seed=seed,
        rate_per_s=rate_per_s, outage_s=outage_s, windows=ONE_BY_ONE,
        signals=tuple(ENDS), steps=(1, 2, 4, 1, 4, 2, 1), poison=10_000,
        history=Size(sessions=20, chats=100, messages=15_000, page_rows=100, kills=max(20, kill_count // 20), restarts=3),
    )  # fmt: skip


@dataclass(slots=True)
class Results:
    """Of one scenario."""

    outcomes: list[Outcome] = field(default_factory=list)
    recoveries: list[tuple[str, Recovery]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        return [o.line() for o in self.outcomes] + [f"{d} {r.line()}" for d, r in self.recoveries]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` gets an empty folder for its logs. It raises AssertionError when something other than a count is wrong."""

    run: Callable[[Rig, Path, Plan], Awaitable[Results]]
    lane: Lane


def _of(work: Callable[[Rig, Path, Plan], Awaitable[Outcome]], lane: Lane = "gentle") -> Scenario:
    async def run(rig: Rig, logs: Path, plan: Plan) -> Results:
        return Results([await work(rig, logs, plan)])

    return Scenario(run, lane)


def _away(dependency: Dependency) -> Scenario:
    async def run(rig: Rig, logs: Path, plan: Plan) -> Results:
        outcomes, found = await outages(
            rig, logs, dependency, plan.outage_s, windows=plan.windows, rate_per_s=plan.rate_per_s
        )
        return Results(outcomes, [(dependency, recovery) for recovery in found])

    return Scenario(run, "rough")


async def _store_away(rig: Rig, logs: Path, plan: Plan) -> Results:
    outcome, found = await store_away(rig, logs, plan.outage_s)
    return Results([outcome], [("S3", recovery) for recovery in found])


async def _clocks(rig: Rig, logs: Path, _: Plan) -> Results:
    return Results(await clocks(rig, logs))


SCENARIOS: dict[str, Scenario] = {
    "kills": _of(lambda rig, logs, p: kills(rig, logs, p.kills, seed=p.seed, rate_per_s=p.rate_per_s), "kills"),
    "media-kills": _of(lambda rig, logs, p: media_kills(rig, logs, p.media_kills, seed=p.seed), "files"),
    "store-away": Scenario(_store_away, "files"),
    "sync": _of(lambda rig, logs, p: sync_kills(rig, logs, p.history, seed=p.seed), "files"),
    "broker-away": _away("broker"),
    "database-away": _away("database"),
    "database-away-20s": _of(lambda rig, logs, _: database_away(rig, logs, 20), "rough"),
    "half-open": _of(lambda rig, logs, _: locked_out(rig, logs), "patient"),
    "retention": _of(lambda rig, logs, _: retention(rig, logs), "rough"),
    "full-disk": _of(lambda rig, logs, _: full_disk(rig, logs), "patient"),
    "stages": _of(lambda rig, logs, p: stages(rig, logs, signals=p.signals)),
    "grow": _of(lambda rig, logs, _: grow(rig, logs), "patient"),
    "scale": _of(lambda rig, logs, p: scale(rig, logs, steps=p.steps)),
    "same-id": _of(lambda rig, logs, _: same_id(rig, logs), "patient"),
    "rolling-restart": _of(lambda rig, logs, _: rolling_restart(rig, logs)),
    "hidden-records": _of(lambda rig, logs, _: hidden_records(rig, logs)),
    "poison": _of(lambda rig, logs, p: poison(rig, logs, each=p.poison)),
    "deadly-records": _of(lambda rig, logs, _: deadly(rig, logs)),
    "clocks": Scenario(_clocks, "gentle"),
}
