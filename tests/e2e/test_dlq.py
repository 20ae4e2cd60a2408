"""An operator's day with dead letters, by the command itself against running processes: see, try, mend, redrive, drop."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.site import Site, running
from tests.warm import wapipe

CHAT = "4915112345678@c.us"
SECRET = "nobody may read this"
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.body LIKE 'refuse me%' THEN RAISE EXCEPTION 'refused "%"', NEW.body USING ERRCODE = '22023'; END IF;
      RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON whatsapp_gateway.message_content FOR EACH ROW EXECUTE FUNCTION refuse()"""
MEND = "DROP TRIGGER refuse ON whatsapp_gateway.message_content; DROP FUNCTION refuse"


class Ended(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code in (0, 1), self
        return json.loads(self.out)


class Operator:
    """Somebody with a shell on the site."""

    def __init__(self, site: Site, environment: dict[str, str]) -> None:
        self.site, self._environment = site, environment

    async def dlq(self, *words: str) -> Ended:
        return Ended(*await wapipe("dlq", *words, env=self._environment | {"COLUMNS": "200"}))

    async def groups(self, consumer: str, state: str = "open") -> dict[str, Any]:
        [box] = (await self.dlq("list", consumer, "--state", state, "--json")).json
        return {group["reason"]: group for group in box["groups"]}

    async def sql(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.site.settings.database.dsn())
        try:
            return (
                await connection.fetchval(statement)
                if statement.startswith("SELECT")
                else await connection.execute(statement)
            )
        finally:
            await connection.close()


@asynccontextmanager
async def operated(servers: Any, logs: Path) -> AsyncIterator[Operator]:
    from tests.conftest import make_environment

    environment = await make_environment(servers)
    async with running(environment, logs, "gateway", "messages", "contacts") as site:
        yield Operator(site, environment)


@pytest.fixture(scope="module")
async def operator(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    async with operated(servers, tmp_path_factory.mktemp("dlq")) as operator:
        yield operator


def body(raw_id: str, text: str, **payload: Any) -> bytes:
    full = {"id": f"false_{CHAT}_{raw_id}", "timestamp": 1795317142, "from": CHAT, "fromMe": False, "body": text}
    event = {
        "event": "message",
        "session": "default",
        "engine": "NOWEB",
        "id": f"evt_{raw_id}",
        "payload": full | payload,
    }
    return json.dumps(event).encode()


NO_CHAT = json.dumps({"event": "message", "session": "default", "payload": {"id": "A1", "body": SECRET}}).encode()


async def test_seen_tried_mended_redriven_and_dropped(operator: Operator, tmp_path: Path) -> None:
    site = operator.site
    await operator.sql(REFUSE)
    for number in range(6):
        await site.post(body(f"R{number}", f"refuse me, {SECRET}" if number % 2 else f"fine {number}"))
    await site.post(NO_CHAT)
    await site.post(b'{"not": "an event", "call": "+49 151 2345678"')
    books = await site.settled(8)
    assert books.difference == 0
    before = {line.consumer: line for line in books.lines}

    # what there is, without saying whom it concerns
    listed = await operator.dlq("list")
    assert listed.code == 0, listed
    for hidden in (SECRET, CHAT, "4915112345678", "2345678"):
        assert hidden not in listed.out
    groups = await operator.groups("messages")
    assert {reason: group["letters"] for reason, group in groups.items()} == {
        "refused_by_database": 3,
        "chat_missing": 1,
    }
    refused = groups["refused_by_database"]
    assert refused["events"] == {"message": 3}
    sample = refused["sample"]
    assert (sample["stage"], sample["key"], sample["attempts"]) == ("write", "default|•••78@c.us", 1)
    assert sample["payload"]["json"]["payload"]["id"].startswith("false_•••78@c.us_R")
    assert (await operator.groups("contacts"))["chat_missing"]["letters"] == 1
    assert (await operator.groups("parked"))["not_json"]["letters"] == 1

    # one of them, with everything
    shown = await operator.dlq("show", "messages", sample["id"])
    assert shown.code == 0, shown
    assert "22023 refused ‹…›" in shown.out
    assert "would fail again: refused_by_database" in shown.out
    assert SECRET not in shown.out
    unmasked = (await operator.dlq("show", "messages", sample["id"], "--unmasked", "--json")).json
    assert SECRET in unmasked["payload"]["json"]["payload"]["body"]
    assert SECRET in unmasked["detail"]

    # nothing is mended yet
    tried = await operator.dlq("replay", "messages", "--all", "--dry-run", "--json")
    assert tried.code == 1, tried
    assert tried.json["would_pass"] == 0
    assert tried.json["would_fail"] == {"refused_by_database": 3, "chat_missing": 1}

    await operator.sql(MEND)
    tried = await operator.dlq("replay", "messages", "--all", "--dry-run", "--json")
    assert (tried.json["would_pass"], tried.json["would_fail"]) == (3, {"chat_missing": 1})
    assert await operator.sql("SELECT count(*) FROM whatsapp_gateway.messages") == 3  # a trial leaves nothing behind

    # all again: three are stored now, one comes back with its history
    replayed = await operator.dlq("replay", "messages", "--all", "--json")
    assert replayed.json == {"chosen": 4, "redriven": 4, "taken_by_others": 0, "gone": 0}
    books = await site.settled(8)
    assert (books.difference, books.received) == (0, 7)
    after = {line.consumer: line for line in books.lines}
    assert (after["messages"].records - before["messages"].records, after["messages"].written, after["messages"].dead) == (
        4, before["messages"].written + 3, before["messages"].dead + 1,
    )  # fmt: skip
    assert after["contacts"] == before["contacts"]  # nobody else was disturbed
    assert {m["id"].split("_")[2] for m in await site.messages("default", CHAT)} == {f"R{n}" for n in range(6)}

    groups = await operator.groups("messages")
    assert {reason: group["letters"] for reason, group in groups.items()} == {"chat_missing": 1}
    again = (await operator.dlq("show", "messages", groups["chat_missing"]["sample"]["id"], "--json")).json
    assert (again["attempts"], [p["reason"] for p in again["history"]]) == (2, ["chat_missing"])
    assert [d["action"] for d in again["decisions"]] == ["redriven"]

    # given up, with a reason; and taken back
    dropped = await operator.dlq("drop", "messages", "--id", again["id"], "--because", "a test posted it", "--json")
    assert dropped.json["dropped"] == 1
    assert await operator.groups("messages") == {}
    assert (await operator.groups("messages", "dropped"))["chat_missing"]["letters"] == 1
    audit = (await operator.dlq("audit", "messages", "--json")).json
    assert [(d["action"], d["letters"], d["because"]) for d in audit] == [
        ("dropped", 1, "a test posted it"), ("redriven", 4, ""),
    ]  # fmt: skip
    assert all("@" in d["decided_by"] for d in audit)
    revived = await operator.dlq("replay", "messages", "--id", again["id"], "--state", "dropped", "--json")
    assert revived.json["redriven"] == 1
    await site.settled(8)
    found = (await operator.groups("messages"))["chat_missing"]
    assert (found["letters"], found["most_attempts"]) == (1, 3)

    # and out of the house
    file = tmp_path / "parked.jsonl"
    exported = await operator.dlq("export", "parked", "--to", str(file))
    assert (exported.code, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600), exported
    [line] = [json.loads(line) for line in file.read_text().splitlines()]
    assert base64.b64decode(line["value_base64"]).startswith(b'{"not": "an event"')
    assert {h["name"]: base64.b64decode(h["value_base64"]) for h in line["headers"]}["reason"] == b"not_json"
    assert (await operator.dlq("export", "parked", "--to", str(file))).code == 1  # an export is not overwritten


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("list", "nobody"), 78, "no consumer is called 'nobody'"),
        (("show", "messages", "waha.message/0/999999"), 1, "no dead letter waha.message/0/999999"),
        (("replay", "parked", "--all"), 78, "belong to no consumer"),
        (("replay", "messages", "--id", "waha.message/0/999999"), 1, "no open letter"),
        (("export", "messages", "--to", "/nowhere/at/all"), 1, "cannot write /nowhere/at/all"),
    ],
)
async def test_mistakes_are_explained(operator: Operator, words: tuple[str, ...], code: int, says: str) -> None:
    ended = await operator.dlq(*words)
    assert (ended.code, says in ended.err) == (code, True), ended


async def test_nothing_to_do_is_no_failure(operator: Operator) -> None:
    ended = await operator.dlq("replay", "messages", "--reason", "never_seen", "--json")
    assert ended.json == {"chosen": 0, "redriven": 0, "taken_by_others": 0, "gone": 0}
    assert (await operator.dlq("list", "sessions")).out == "no letters\n"
