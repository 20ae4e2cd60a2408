"""The shipped alert rules and configuration, checked and tested by promtool."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.local.prometheus import Tools

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "deploy/prometheus/rules.yml"),
        ("check", "config", "deploy/prometheus/prometheus.yml"),
        ("test", "rules", "tests/integration/rules_test.yml"),
    ],
    ids=["rules", "configuration", "alerts"],
)
async def test_promtool_agrees(prometheus: Tools, arguments: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        prometheus.promtool, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
