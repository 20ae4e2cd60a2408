"""The cases at which the tools that one would use instead lose records or stand still: see docs/reliability.md.

A NUL among thousands, a record that the database refuses among thousands, the same key twice in one batch, and the
database away for 20 s under load.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.compare import connected
from tests.faults.driver import driving
from tests.faults.outcome import Outcome
from tests.faults.records import dead_numbers, good, put, stored_numbers
from tests.faults.rig import Rig

_THOUSANDS = 6000  # of which the one bad record is hidden
_NUL, _REFUSED = 1234, 4321
_TWICE = range(2000, 3000)  # side by side, so that both stand in one batch


async def hidden_records(rig: Rig, logs: Path) -> Outcome:
    """One text with a NUL, one record that PostgreSQL refuses, a thousand keys twice, among thousands."""
    outcome = Outcome("a NUL, a refused record and equal keys among 6,000")
    async with rig.site(logs) as site:
        async with connected(site) as connection:
            await connection.execute(_REFUSE)
        records = [
            good(n, text="a\x00b" if n == _NUL else "refuse me" if n == _REFUSED else "hello")
            for n in range(_THOUSANDS)
        ]
        records += [good(n) for n in _TWICE for _ in range(2)]
        outcome.received = await put(site, records)
        await site.add("messages")
        await site.ready()
        books = await site.settled(outcome.received)
        stored, dead = await stored_numbers(site), await dead_numbers(site, "messages")
        expected = set(range(_THOUSANDS)) - {_REFUSED}
        outcome.messages, outcome.stored = len(expected), stored.total()
        outcome.doubled, outcome.lost = stored.total() - len(stored), len(expected - stored.keys())
        outcome.strange = len(stored.keys() - expected)
        outcome.bad, outcome.dead = 1, len(dead.keys() & {_REFUSED})
        outcome.dead_good = len(dead.keys() - {_REFUSED})
        outcome.difference = books.difference
        async with connected(site) as connection:
            text = await connection.fetchval(
                "SELECT text FROM whatsapp_gateway.messages WHERE message_id LIKE $1", f"%\\_N{_NUL}"
            )
        assert text == "ab", text
        assert dead == {_REFUSED: "refused_by_database"}
        assert site.strange_ends(0) == {}
    return outcome


async def database_away(rig: Rig, logs: Path, seconds: float, *, rate_per_s: float = 200.0) -> Outcome:
    """The database stops cleanly under load and comes back."""
    async with (
        rig.site(logs, "gateway", "messages", "contacts", "sessions") as site,
        driving(site, rate_per_s=rate_per_s) as driver,
    ):
        await driver.progress(200, 200)
        await rig.database.down()
        await asyncio.sleep(seconds)
        await rig.database.up()
        await driver.progress(200, 200)
        outcome = await driver.finish(f"database away for {seconds:.0f} s at {rate_per_s:.0f}/s")
        assert site.strange_ends() == {}
    return outcome


_REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.body = 'refuse me' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22021'; END IF;
  RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON whatsapp_gateway.message_content FOR EACH ROW EXECUTE FUNCTION refuse()
"""
