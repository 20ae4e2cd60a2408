"""kill -9 of sync processes, and WAHA restarting, while a history is fetched of which webhooks tell a part: what the database
has in the end is what WAHA has, message by message, for hardly more requests than it takes.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from pipeline.local.ports import free_port
from pipeline.sync.coverage import read_coverage
from producers.simulator import Report, Target, play
from producers.simulator.facts import Edit, Message
from producers.simulator.rest import Past, SimulatedSession, SimulatedWaha
from tests.faults.compare import connected
from tests.faults.outcome import Outcome
from tests.faults.rig import PATIENCE_S, Member, Rig, Site, cold, running_waha
from tests.faults.sync_waha import past_argument
from tests.site import until

_LOST = 0.05  # of the webhooks
_MOST_CALLS = 1.3  # times the least possible
_PAGES_A_DEATH = 8  # asked for again: of each of four walkers the page that was asked for, and the one handed over
_SWEPT = ("NOWEB", "GOWS")  # engines that have all chats of a session in one sweep
_DAYS, _LOOKBACK_DAYS = 6, 7
_LONGEST_PAUSE_S = 0.5
_ASKED_AT_ONCE = 8  # of the API
_SECONDS_A_MESSAGE = 0.01  # to be told, fetched and stored, on a busy machine
_ROWS = """SELECT message_id, chat, extract(epoch FROM timestamp)::bigint AS at_s, from_me, has_media, text
FROM whatsapp_gateway.messages WHERE session = $1"""
Told = tuple[str, int, bool, bool, str | None]


@dataclass(frozen=True, slots=True)
class Size:
    """Sessions take the four engines in turn. `chats` and `messages` are of each session."""

    sessions: int = 4
    chats: int = 12
    messages: int = 1500
    page_rows: int = 20
    kills: int = 5
    restarts: int = 1

    @property
    def patience_s(self) -> float:
        """Until all of it is there."""
        return PATIENCE_S + self.sessions * self.messages * _SECONDS_A_MESSAGE

    def past(self) -> Past:
        """The history, up to now."""
        return Past(
            sessions=self.sessions, chats=self.chats, messages=self.messages, days=_DAYS, twins=0.5, edited=0.05,
            end_s=int(time.time()), seed=secrets.randbelow(10**6),
        )  # fmt: skip


async def sync_kills(rig: Rig, logs: Path, size: Size, *, seed: int | None = None) -> Outcome:
    """Kills while a history is told by webhook, but for a part, and fetched by what the scheduler asks for."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    key, port, calls, past = secrets.token_hex(8), free_port(), logs / "calls", size.past()
    waha = SimulatedWaha(past)
    arguments = [sys.executable, "-m", "tests.faults.sync_waha", str(port), key, str(calls), past_argument(past)]
    server = Member("waha", cold(arguments, os.environ), port, logs / "waha.log")
    environment = {
        "WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}", "WHATSAPP_API_KEY": key, "WAPIPE_WAHA_RATE_PER_S": "1000",
        "WHATSAPP_SYNC_BATCH_SIZE": str(size.page_rows), "WHATSAPP_SYNC_LOOKBACK_DAYS": str(_LOOKBACK_DAYS),
        "WHATSAPP_SYNC_INTERVAL_MS": "7200000", "WAPIPE_SYNC_LEASE_S": "5",
        "WAPIPE_SYNC_MAX_IN_FLIGHT": "2",  # a kill costs the pages that are under way
    }  # fmt: skip
    processes = ("gateway", "messages", "contacts", "sync-1", "sync-2")
    async with running_waha(server), rig.site(logs, *processes, **environment) as site:
        started, report = time.monotonic(), Report()
        told = asyncio.create_task(_tell(waha, site, report))
        try:
            done = await _kill(site, server, calls, _least_calls(waha, size), size, random.Random(seed))
            await told
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
        await site.ready()
        await _complete(site, waha, size.patience_s)
        await site.command("sync", "coverage", "--json")  # fails unless all of it is complete
        books = await site.settled(report.delivered, size.patience_s)
        took_s = time.monotonic() - started
        outcome = Outcome(f"sync, {size.kills} x kill -9", report.delivered, report.lost, difference=books.difference)
        outcome.dead_good = sum(line.dead for line in books.lines)
        await _compare(site, waha, outcome)
    outcome.notes |= {
        "took": f"{took_s:.0f} s", **_calls(waha, size, _size_of(calls)),
        "killed": ", ".join(f"{name} {n}" for name, n in sorted(done.items())), "seed": f"{seed}, {past.seed}",
    }  # fmt: skip
    assert site.strange_ends(-signal.SIGKILL, 0) == {}
    again = _PAGES_A_DEATH * (size.kills + size.restarts)  # much of so small a history, nothing of a large one
    assert _size_of(calls) <= _MOST_CALLS * _least_calls(waha, size) + again, outcome.line()
    return outcome


async def _tell(waha: SimulatedWaha, site: Site, report: Report) -> None:
    deliveries = (delivery for _, delivery in waha.webhooks(lost=_LOST))
    await play(deliveries, Target(site.webhook, site.hmac_key), report=report, concurrency=16)


async def _kill(site: Site, waha: Member, calls: Path, least: int, size: Size, rng: random.Random) -> Counter[str]:
    """Spread over the pages that must be fetched anyhow: nobody is killed when there is nothing left to do."""
    victims = ["sync"] * size.kills + ["waha"] * size.restarts
    rng.shuffle(victims)
    done: Counter[str] = Counter()
    for number, victim in enumerate(victims, 1):
        await _called(calls, least * number // (len(victims) + 1), size.patience_s)
        await asyncio.sleep(rng.uniform(0, _LONGEST_PAUSE_S))  # the moment is random
        members = [waha] if victim == "waha" else [site.members["sync-1"], site.members["sync-2"]]
        done[await _kill_one(members, rng)] += 1
    return done


async def _kill_one(members: list[Member], rng: random.Random) -> str:
    """One of those that are up."""

    async def probe() -> str | None:
        member = rng.choice(members)
        up = (await member.status("/ping" if member.name == "waha" else "/health"))[0] == 200
        return member.name if up and member.send(signal.SIGKILL) else None

    return await until(probe, "somebody to kill", PATIENCE_S)


async def _called(calls: Path, wanted: int, patience_s: float) -> None:
    async def probe() -> bool | None:
        return True if _size_of(calls) >= wanted else None

    await until(probe, f"{wanted} pages", patience_s)


def _size_of(calls: Path) -> int:
    return calls.stat().st_size if calls.exists() else 0


async def _complete(site: Site, waha: SimulatedWaha, patience_s: float) -> None:
    """Waits until coverage says so of every session."""
    async with connected(site) as connection:
        said: dict[str, str] = {}

        async def probe() -> bool | None:
            for session in waha.sessions:
                coverage = await read_coverage(connection, session)
                said[session] = coverage.why
                if coverage.complete != "true":
                    return None
            return True

        try:
            await until(probe, "every session to be complete", patience_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {said}") from None


async def _compare(site: Site, waha: SimulatedWaha, outcome: Outcome) -> None:
    """Every message by its id: chat, second, direction, file and text; the text of edited ones as the API has it."""
    differing: list[str] = []
    async with connected(site) as connection:
        for name, session in waha.sessions.items():
            truth = session.truth()
            rows = await connection.fetch(_ROWS, name)
            stored: dict[str, Told] = {
                r["message_id"]: (r["chat"], r["at_s"], r["from_me"], r["has_media"], r["text"]) for r in rows
            }
            outcome.messages += len(truth)
            outcome.stored += len(rows)
            outcome.doubled += len(rows) - len(stored)
            lost = sorted(truth.keys() - stored.keys())
            outcome.lost += len(lost)
            if lost:
                outcome.notes[f"lost of {name}"] = ", ".join(lost[:3])
            outcome.strange += len(stored.keys() - truth.keys())
            there = truth.keys() & stored.keys()
            differing += [i for i in there if stored[i] not in _told(truth[i], session.edits.get(truth[i].raw_id, ()))]
            outcome.notes["edited"] = f"{int(outcome.notes.get('edited', '0')) + len(session.edits)}"
    differing += await _otherwise_edited(site, waha)
    outcome.otherwise = len(differing)
    if differing:
        outcome.notes["otherwise"] = ", ".join(differing[:3])


def _told(message: Message, edits: Sequence[Edit]) -> set[Told]:
    """What may be stored of it: as it was written, or as WAHA's store has it after an edit, when no webhook told of it."""
    content = message.content
    # WhatsApp Web writes a poll's question where other engines have no text.
    asked = content.kind == "poll" and message.account.engine == "WEBJS"
    text = content.text if asked else content.body
    seconds = {message.timestamp}
    if message.account.engine == "NOWEB":  # its store has an edit's time in place of the message's
        seconds |= {edit.timestamp for edit in edits}
    texts = {text, *(edit.text for edit in edits)}
    return {(message.chat.id, at_s, message.from_me, content.has_media, t) for at_s in seconds for t in texts}


async def _otherwise_edited(site: Site, waha: SimulatedWaha) -> list[str]:
    """Edited messages that the API does not show with their last text. A part of the edits no webhook told."""
    token = site.settings.api.token
    assert token is not None
    edited = [(s, edits[-1]) for s in waha.sessions.values() for edits in s.edits.values()]
    headers = {"X-Api-Token": token.get_secret_value()}
    async with httpx.AsyncClient(base_url=site.settings.origin, headers=headers, timeout=30) as api:

        async def shown(edit: Edit) -> str | None:
            chat, id_ = quote(edit.chat.id, safe="@"), quote(edit.target.id, safe="@")
            answer = await api.get(f"/api/messages/{edit.account.session}/{chat}/{id_}")
            return None if answer.status_code == 404 else str(answer.raise_for_status().json()["text"])

        wrong = []
        for start in range(0, len(edited), _ASKED_AT_ONCE):
            part = [edit for _, edit in edited[start : start + _ASKED_AT_ONCE]]
            texts = await asyncio.gather(*(shown(edit) for edit in part))
            wrong += [edit.target.id for edit, text in zip(part, texts, strict=True) if text != edit.text]
    return wrong


def _rows(session: SimulatedSession) -> list[int]:
    """Rows of each walk that the session needs, hidden ones included."""
    if session.account.engine in _SWEPT:
        return [len(session.all.rows)]
    return [len(rows.rows) for rows in session.by_chat.values()]


def _least_calls(waha: SimulatedWaha, size: Size) -> int:
    """Full pages of everything, and of each walk one more: no page of WAHA says that it is the last."""
    return sum(-(-rows // size.page_rows) + 1 for session in waha.sessions.values() for rows in _rows(session))


def _calls(waha: SimulatedWaha, size: Size, calls: int) -> dict[str, str]:
    least, walks = _least_calls(waha, size), sum(len(_rows(session)) for session in waha.sessions.values())
    return {"requests for messages": f"{calls:,}", "least": f"{least:,} ({walks:,} of them find the end)"} | {
        "times the least": f"{calls / least:.2f}"
    }
