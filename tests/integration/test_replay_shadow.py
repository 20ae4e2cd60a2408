"""Shadow replays: the scratch schema tells exactly what other code would make of the records, and live stays untouched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import orjson
import pytest

from consumers.messages import Messages
from pipeline.batch import Event
from pipeline.errors import ConfigError, TransientError
from pipeline.reader import read_bounds, read_records
from pipeline.replay import run
from pipeline.replay.compare import Difference
from pipeline.replay.outcome import Outcome
from pipeline.replay.spec import Bound
from pipeline.settings import load_settings
from schemas.errors import MalformedError
from schemas.ids import raw_message_id
from schemas.topics import MESSAGE
from tests.integration.replayed import FACTS, Ground, ground, result_of, spec

LIVE = ("progress", "progress_skipped", "sessions", "jids", "other_events", *FACTS["contacts"], *FACTS["messages"])
SHARED = ("identities", "contact_names", "other_events")  # written by several consumers


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    from tests.conftest import make_environment

    async with ground(await make_environment(servers), tmp_path_factory.mktemp("site"), 600) as made:
        yield made


class Altered(Messages):
    """The messages consumer with another normaliser: some texts are written differently, some messages are not made."""

    def decode(self, event: Event) -> Any:
        body = orjson.loads(event.value)
        if event.event not in ("message", "message.any"):
            return super().decode(event)
        payload = body["payload"]
        kind = _kind(raw_message_id(payload["id"]))
        if kind == "dropped":
            raise MalformedError("payload_missing", "payload")
        if kind == "rewritten" and payload.get("body"):
            payload["body"] = payload["body"] + "!"
            return super().decode(msgspec.structs.replace(event, value=orjson.dumps(body)))
        return super().decode(event)


def _kind(raw_id: str) -> str:
    digit = sum(raw_id.encode()) % 10
    return "dropped" if digit == 0 else "rewritten" if digit in (1, 2) else "kept"


async def shadow(site: Ground, consumer: str = "messages", make: Any = None, **more: Any) -> Outcome:
    """A shadow replay that leaves live as it was."""
    before = await site.versions(*LIVE)
    outcome = await site.replay(spec(consumer, shadow=True, **more), make)
    assert outcome.state == "done"
    assert await site.versions(*LIVE) == before
    return outcome


def contents(outcome: Outcome) -> Difference:
    """What was found of message_content; the other tables are as they were."""
    [found, *others] = outcome.tables
    assert found.table == "message_content"
    assert [t for t in others if t.differs] == []
    return found


@pytest.mark.parametrize("consumer", ["messages", "contacts", "sessions"])
async def test_the_same_code_makes_the_same_rows(site: Ground, consumer: str) -> None:
    found = (await shadow(site, consumer)).tables
    rows = await site.tables(*(t.table for t in found))
    for table in found:
        assert (table.differs, table.columns, table.examples) == (False, {}, []), table
        judged = table.same + table.elsewhere
        assert judged == len(rows[table.table]) or (table.table in SHARED and judged < len(rows[table.table])), table
        if table.table != "sessions":  # which has rows for the dictionary alone
            assert table.elsewhere == 0, table
    assert sum(t.same for t in found) > 0
    assert await site.schemas() == ["whatsapp_gateway"]


async def test_changed_and_missing_rows_are_told_exactly(site: Ground) -> None:
    rows = await site.pool.fetch("SELECT raw_id, body FROM whatsapp_gateway.message_content")
    dropped = sum(_kind(r["raw_id"]) == "dropped" for r in rows)
    # Only what a text was made of: a caption or a text, not a poll's name.
    changeable = sum(_kind(r["raw_id"]) == "rewritten" and bool(r["body"]) for r in rows)
    assert dropped
    assert changeable
    outcome = await shadow(site, make=Altered)
    found = contents(outcome)
    assert (found.missing, found.added, found.elsewhere) == (dropped, 0, 0)
    assert set(found.columns) <= {"body", "extra"}
    assert 0 < found.changed <= changeable
    assert found.same == len(rows) - dropped - found.changed
    assert outcome.dead_letters["payload_missing"] >= dropped
    told = "\n".join(found.examples)
    assert "changed waha.message/" in told
    assert "missing waha.message/" in told
    for text in {r["body"] for r in rows if r["body"] and len(r["body"]) > 3}:
        assert text not in told


async def test_rows_that_only_the_new_code_makes_are_added(site: Ground) -> None:
    victims = await site.pool.fetch(
        "SELECT chat_id, key FROM whatsapp_gateway.message_content WHERE topic = $1 ORDER BY 1, 2 LIMIT 7", MESSAGE.name
    )
    keys = [r["key"] for r in victims]
    for table in ("message_content", "message_keys"):
        await site.pool.execute(f"DELETE FROM whatsapp_gateway.{table} WHERE key = ANY ($1)", keys)
    try:
        found = contents(await shadow(site))
        assert (found.added, found.changed, found.missing) == (7, 0, 0)
        assert sum("added waha.message/" in e for e in found.examples) == 3
    finally:
        assert (await site.replay()).books["written"] == 7


async def test_rows_that_other_records_decided_are_not_judged(site: Ground) -> None:
    """A range in the middle, one session: what lies outside has no part in the result."""
    session = await site.pool.fetchval("SELECT session FROM whatsapp_gateway.messages ORDER BY 1 LIMIT 1")
    within: dict[str, Any] = {"sessions": (session,), "start": Bound(offset=5), "end": Bound(offset=30)}
    expected = await site.pool.fetchval(
        """SELECT count(*) FROM whatsapp_gateway.messages
           WHERE session = $1 AND topic = ANY ($2) AND "offset" >= 5 AND "offset" < 30""",
        session, list(spec().topics),
    )  # fmt: skip
    found = contents(await shadow(site, **within))
    assert (found.same, found.differs) == (expected, False)
    altered = contents(await shadow(site, make=Altered, **within))
    assert altered.differs
    assert altered.same + altered.changed + (altered.missing or 0) == expected


async def test_a_correction_needs_the_old_rows_removed_as_the_page_says(site: Ground) -> None:
    before = await site.tables(*FACTS["messages"])
    assert (await site.replay(make=Altered)).books["written"] == 0
    assert await site.tables(*FACTS["messages"]) == before, "the same records do not replace what they made"
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    removal = page.partition("```sql")[2].partition("```")[0].replace("2026-07-25T08:00Z", "-infinity")
    await site.pool.execute(removal)
    assert (await site.tables("message_keys", "message_content")) == {"message_keys": [], "message_content": []}
    await site.replay(make=Altered)
    bodies = [r["body"] for r in await site.pool.fetch("SELECT body FROM whatsapp_gateway.message_content")]
    assert any(body and body.endswith("!") for body in bodies)
    await site.pool.execute(removal)
    await site.replay()
    assert await site.tables(*FACTS["messages"]) == before


async def test_through_pgbouncer(site: Ground, pgbouncer: int) -> None:
    pooled = load_settings(site.environment | {"WHATSAPP_PGBOUNCER_PORT": str(pgbouncer)})
    through = replace(site, site=replace(site.site, settings=pooled))
    found = contents(await shadow(through, make=Altered))
    assert found.changed
    assert found.missing
    assert (await through.replay()).books["written"] == 0


async def test_a_kept_schema_stays_until_it_is_dropped(site: Ground) -> None:
    code, stdout, stderr = await site.command("messages", "--shadow", "--keep", "--json")
    outcome = result_of(stdout)
    assert code == 0, stderr
    assert await site.schemas() == ["whatsapp_gateway", outcome["scratch"]]
    counts = [await site.pool.fetchval(f"SELECT count(*) FROM {schema}.messages") for schema in await site.schemas()]
    assert counts[0] == counts[1]
    code, stdout, _ = await site.command("list", "--json")
    assert (code, result_of(stdout)["left_over"]) == (0, [outcome["scratch"]])
    code, _, _ = await site.command("drop", str(outcome["id"]))
    assert (code, await site.schemas()) == (0, ["whatsapp_gateway"])


async def test_a_shadow_replay_that_fails_leaves_nothing(site: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise TransientError("postgres", "gone while comparing")

    monkeypatch.setattr(run, "compare", fail)
    with pytest.raises(TransientError):
        await site.replay(spec(shadow=True))
    assert await site.schemas() == ["whatsapp_gateway"]
    order = await site.pool.fetchrow("SELECT id, state, error FROM whatsapp_gateway.replays ORDER BY id DESC LIMIT 1")
    assert order is not None
    assert (order["state"], "gone while comparing" in order["error"]) == ("failed", True)
    with pytest.raises(ConfigError, match="was dropped when it ended"):
        await run.resume(site.job(), order["id"], None)
    assert (await site.progress("messages")) > 0


async def test_a_consumer_that_compares_nothing_is_refused(site: Ground) -> None:
    class Silent(Messages):
        def __getattribute__(self, name: str) -> Any:
            if name == "compared":
                raise AttributeError(name)
            return super().__getattribute__(name)

    with pytest.raises(ConfigError, match="does not say which tables"):
        await site.replay(spec(shadow=True), Silent)
    assert await site.schemas() == ["whatsapp_gateway"]


async def test_either_copy_of_one_event_may_name_the_row(site: Ground) -> None:
    """As when the spool brings events once more after partitions were added: which copy is read first is chance."""
    kafka = site.site.settings.kafka
    rows = await site.pool.fetch(
        """SELECT key, partition, "offset" FROM whatsapp_gateway.message_content
           WHERE topic = $1 ORDER BY received_at, key LIMIT 8""", MESSAGE.name
    )  # fmt: skip
    before, ends = contents(await shadow(site)), await read_bounds(kafka, MESSAGE)
    for n, row in enumerate(rows):
        span = {row["partition"]: (row["offset"], row["offset"] + 1)}
        [record] = [r async for found in read_records(kafka, MESSAGE, span) for r in found]
        other = (row["partition"] + 1) % len(ends)
        key = next(b"%d" % k for k in range(1000) if crc32(b"%d" % k) % len(ends) == other)
        await site.publish(MESSAGE.name, record.value, dict(record.headers), key=key)
        if n % 2:  # as if the copy had been read first
            await site.pool.execute(
                """UPDATE whatsapp_gateway.message_content SET partition = $2, "offset" = $3 WHERE key = $1""",
                row["key"], other, (await read_bounds(kafka, MESSAGE))[other][1] - 1,
            )  # fmt: skip
    await site.site.settled(0)
    assert contents(await shadow(site)) == before
