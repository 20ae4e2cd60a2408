"""`wapipe simulate` as a process: what it posts, its report, its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import typer
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from pipeline.cli.simulate import simulate
from pipeline.errors import ConfigError
from tests.unit.test_simulator_player import always, serving

KEY = "k" * 40
PROGRAM = "import typer; from pipeline.cli.simulate import simulate; a = typer.Typer(); a.command()(simulate); a()"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting but the key, and no .env."""
    for name in list(os.environ):
        if name.startswith(("WAPIPE_", "WHATSAPP_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHATSAPP_HOOK_HMAC_KEY", KEY)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, stdout=pipe, stderr=pipe, env=env
    )


@pytest.mark.usefixtures("environment")
async def test_recorded_and_made_up() -> None:
    async with serving(always(200)) as hook:
        process = await start("--url", hook.url, "--recorded", "--count", "40", "--rate", "0", "--json")
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert (report["sent"], report["delivered"], report["lost"]) == (75, 75, 0)
    assert len(hook.got) == 75
    assert stderr == b""  # no bar where there is no terminal


@pytest.mark.usefixtures("environment")
async def test_lost_deliveries_exit_1() -> None:
    async with serving(always(503)) as hook:
        options = ("--retries", "1", "--retry-delay-s", "0", "--rate", "0")
        process = await start("--url", hook.url, "--count", "3", *options)
        stdout, _ = await process.communicate()
    assert process.returncode == 1
    assert b"answers 503" in stdout
    assert len(hook.got) == 6


@pytest.mark.usefixtures("environment")
async def test_interrupted_it_reports_what_was_sent() -> None:
    first = asyncio.Event()

    async def answer(_request: Request, _n: int) -> Response:
        first.set()
        return Response()

    async with serving(answer) as hook:
        process = await start("--url", hook.url, "--count", "100000", "--rate", "50", "--json")
        await first.wait()
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    assert process.returncode == 130, stderr
    report = json.loads(stdout)
    assert report["sent"] == report["delivered"] + report["unfinished"] > 0
    assert b"Traceback" not in stderr


def invoke(*arguments: str) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command()(simulate)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output, result.exception


@pytest.mark.usefixtures("environment")
def test_without_a_key_it_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHATSAPP_HOOK_HMAC_KEY")
    _, _, error = invoke("--count", "1")
    assert isinstance(error, ConfigError)
    assert "WHATSAPP_HOOK_HMAC_KEY" in str(error)


@pytest.mark.usefixtures("environment")
def test_a_placeholder_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_HOOK_HMAC_KEY", "changeme")
    assert isinstance(invoke()[2], ConfigError)


@pytest.mark.usefixtures("environment")
def test_an_unknown_source_is_a_configuration_error() -> None:
    _, _, error = invoke("--source", "berlin")
    assert isinstance(error, ConfigError)
    assert "berlin" in str(error)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--media", "1.5"),
        ("--acks", "0.9", "--edits", "0.9"),
        ("--engines", "NOPE"),
        ("--url", "nowhere"),
        ("--rate", "0", "--duration-s", "3"),
        ("--rate", "-1"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    code, output, _ = invoke(*arguments)
    assert code == 2, output


def test_help_has_examples() -> None:
    code, output, _ = invoke("--help")
    assert code == 0
    assert "wapipe simulate --recorded --count 0" in output
    assert "Exit codes" in output
