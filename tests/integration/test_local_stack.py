"""`wapipe up`, `status` and `down` as a user has them, and that nothing outlives a killed supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import ConfigError
from pipeline.local.plan import check_ports, resolve
from pipeline.local.ports import free_port, is_free, require_free
from pipeline.local.stack import Stack, StackRunningError, stop_stack
from pipeline.local.state import ProcessState, wait_gone
from pipeline.settings import load_settings

SERVERS = "kafka,postgres,s3"


@dataclass(frozen=True)
class Ended:
    code: int
    output: str


@dataclass(frozen=True)
class Wapipe:
    """The command, in a folder of its own with ports of its own."""

    data: Path
    env: dict[str, str]

    @property
    def ports(self) -> list[int]:
        return [int(value) for name, value in self.env.items() if name.endswith("_PORT")]

    async def ports_are_free(self) -> None:
        """Raises ConfigError that names who still has one."""
        for port in self.ports:
            await require_free(port, "a test", "nothing")

    async def run(self, *arguments: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.cli", *arguments, "--data", str(self.data),
            env=os.environ | self.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, output.decode())

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.run("status", "--json")).output)
        return found


@pytest.fixture
async def wapipe(tmp_path: Path) -> AsyncIterator[Wapipe]:
    names = ("WAPIPE_LOCAL_KAFKA_PORT", "WHATSAPP_DB_PORT", "WHATSAPP_MINIO_API_PORT")
    env = {name: str(free_port()) for name in names}
    for name in ("WHATSAPP_DB_PASSWORD", "WHATSAPP_MINIO_ROOT_PASSWORD"):
        env[name] = secrets.token_hex(12)
    command = Wapipe(tmp_path / "data", env)
    yield command
    await stop_stack(command.data)


def family_of(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


async def back_again(stack: Stack) -> ProcessState:
    """The first service, once it has been restarted and is ready."""
    async with asyncio.timeout(60):
        while (now := stack.snapshot()[0]).restarts == 0 or now.state != "ready":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return now


async def all_gone(processes: list[psutil.Process]) -> bool:
    return await asyncio.to_thread(wait_gone, processes, 10)


async def test_up_status_down(wapipe: Wapipe) -> None:
    assert (await wapipe.run("status")).code == 3
    only = ("--only", "postgres,s3")
    up = await wapipe.run("up", "--detach", *only)
    assert up.code == 0, up.output
    found = await wapipe.status()
    assert [(p["name"], p["state"], p["restarts"], p["port"]) for p in found["processes"]] == [
        ("postgres", "ready", 0, int(wapipe.env["WHATSAPP_DB_PORT"])),
        ("s3", "ready", 0, int(wapipe.env["WHATSAPP_MINIO_API_PORT"])),
    ]
    again = await wapipe.run("up", "--detach", *only)
    assert again.code == 1
    assert "a stack runs already" in again.output

    family = family_of(found["pid"])
    down = await wapipe.run("down")
    assert (down.code, down.output.strip()) == (0, "stopped")
    assert await all_gone(family)
    await wapipe.ports_are_free()
    assert (await wapipe.run("down")).output.strip() == "nothing is running"


async def test_nothing_outlives_a_killed_supervisor(wapipe: Wapipe) -> None:
    """kill -9 of the supervisor takes the JVM, the object store and PostgreSQL with its backends along."""
    up = await wapipe.run("up", "--detach", "--only", SERVERS)
    assert up.code == 0, up.output
    supervisor = (await wapipe.status())["pid"]
    family = family_of(supervisor)
    names = {p.name() for p in family}
    assert {"java", "weed", "postgres"} <= names
    assert sum(p.name() == "postgres" for p in family) > 3  # its backends
    os.kill(supervisor, signal.SIGKILL)
    assert await all_gone(family)
    await wapipe.ports_are_free()
    assert (await wapipe.run("status")).code == 3

    up = await wapipe.run("up", "--detach", "--only", SERVERS)  # on the data that the killed ones left
    assert up.code == 0, up.output


async def test_a_killed_server_is_started_again(wapipe: Wapipe) -> None:
    settings = load_settings(wapipe.env)
    async with Stack(settings, wapipe.data, servers=("postgres",), processes=[]) as stack:
        before = stack.snapshot()[0]
        assert before.pid is not None
        with pytest.raises(StackRunningError):
            await Stack(settings, wapipe.data, servers=("postgres",), processes=[]).__aenter__()
        os.kill(before.pid, signal.SIGKILL)
        now = await back_again(stack)
        assert now.pid != before.pid
        family = family_of(now.pid or 0)
    assert await all_gone(family)


async def test_a_port_in_use_is_a_configuration_error(wapipe: Wapipe) -> None:
    port = int(wapipe.env["WHATSAPP_DB_PORT"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with server:
        plan = resolve(load_settings(wapipe.env), ("postgres",), [], wapipe.data, {})
        with pytest.raises(ConfigError, match=f"port {port} for PostgreSQL is in use by {os.getpid()} "):
            await check_ports(plan)
        up = await wapipe.run("up", "--only", "postgres")
    assert up.code == 78
    assert "set WHATSAPP_DB_PORT to another port" in up.output.replace("\n", " ")


async def test_what_does_not_start_shows_its_log(wapipe: Wapipe) -> None:
    up = await wapipe.run("up", "--detach", "--only", "s3")
    assert up.code == 0, up.output
    assert (await wapipe.run("down")).code == 0
    (wapipe.data / "s3" / "objects").rename(wapipe.data / "s3" / "elsewhere")
    (wapipe.data / "s3" / "objects").write_text("not a folder")
    up = await wapipe.run("up", "--detach", "--only", "s3")
    assert up.code == 1
    assert is_free(int(wapipe.env["WHATSAPP_MINIO_API_PORT"]))


async def test_a_missing_secret_is_named(wapipe: Wapipe) -> None:
    del wapipe.env["WHATSAPP_DB_PASSWORD"]
    up = await wapipe.run("up", "--only", "postgres")
    assert up.code == 78
    assert "WHATSAPP_DB_PASSWORD is not set" in up.output
