"""Where Prometheus comes from: the PATH, else Debian's packages; and what is said when neither can be."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from pipeline.local.cache import InstallError
from pipeline.local.prometheus import Tools, find_prometheus, unavailable


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH but for the shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add(folder: Path, name: str, script: str = "exit 0") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


async def test_what_is_installed_is_taken(programs: Path, tmp_path: Path) -> None:
    tools = Tools(add(programs, "prometheus"), add(programs, "promtool"))
    assert unavailable() is None
    assert await find_prometheus(tmp_path / "cache", {}) == tools
    assert not (tmp_path / "cache").exists()


async def test_one_of_the_two_is_not_enough(programs: Path) -> None:
    add(programs, "prometheus")
    assert "promtool are not on the PATH" in (unavailable() or "")


APT = """
for last in "$@"; do :; done
case "$*" in *" update") echo lists >> "$LOG";; *download*) echo "$last" >> "$LOG"; : > "${last}_1.0_amd64.deb";; esac
"""
# A package of Debian 13: the server and the tool apart.
DPKG = """
mkdir -p "$3/usr/bin"; name=$(basename "$2"); : > "$3/usr/bin/${name%%_*}"
"""


async def test_packages_are_fetched_once(programs: Path, tmp_path: Path) -> None:
    for name in ("mkdir", "basename"):
        found = shutil.which(name, path=os.defpath)
        assert found
        (programs / name).symlink_to(found)
    add(programs, "apt-get", APT)
    add(programs, "dpkg-deb", DPKG)
    assert unavailable() is None
    log = tmp_path / "log"
    environ = {"PATH": str(programs), "LOG": str(log)}
    for _ in range(2):
        tools = await find_prometheus(tmp_path / "cache", environ)
        assert tools.prometheus.is_file()
        assert tools.promtool.is_file()
        assert not (tools.prometheus.parents[2] / "apt").exists()
    assert log.read_text().split() == ["lists", "prometheus", "promtool"]


async def test_a_refusal_says_why(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.local.cache._ATTEMPTS", 1)
    add(programs, "apt-get", "echo 'no such suite' >&2; exit 100")
    add(programs, "dpkg-deb")
    with pytest.raises(InstallError, match="no such suite"):
        await find_prometheus(tmp_path / "cache", {"PATH": str(programs)})
