"""`wapipe config`: what it shows, what it explains, what it writes, and the exit codes a script may rely on."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.config import config
from pipeline.errors import ConfigError
from pipeline.settings import load_settings, read_environment

ROOT = Path(__file__).parents[2]
OURS = ("WAPIPE_", "WHATSAPP_", "POSTGRES_", "JWT_")
GOOD = {
    "WHATSAPP_DB_PASSWORD": "hush-db", "WHATSAPP_HOOK_HMAC_KEY": "hush-hmac", "WHATSAPP_GATEWAY_API_TOKEN": "hush-api",
}  # fmt: skip
SECRETS = GOOD | {
    "WHATSAPP_WEBHOOK_TOKEN": "hush-token", "WHATSAPP_API_KEY": "hush-waha", "WHATSAPP_MINIO_ROOT_PASSWORD": "hush-s3",
    "JWT_SECRET": "hush-jwt", "WAPIPE_KAFKA_SASL_PASSWORD": "hush-sasl",
    "WAPIPE_SOURCE_HMAC_KEYS": '{"berlin":"hush-src"}',
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and an environment without settings; wide enough for a table."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """The command inside this process."""
    return CliRunner().invoke(config, list(arguments), env=env)


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command as people run it: errors become sentences and exit codes."""
    environ = os.environ | (env or {}) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "config", *arguments],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# ---------------------------------------------------------------- show
def test_show_says_every_setting_and_where_it_came_from(folder: Path) -> None:
    (folder / ".env").write_text("WAPIPE_CHUNK_DAYS=6 # ours\n")
    result = invoke("show", "--json", env={"POSTGRES_HOST": "db.internal"})
    rows = {r["name"]: r for r in json.loads(result.output)}
    assert result.exit_code == 0
    assert rows["WHATSAPP_DB_PORT"] == {
        "name": "WHATSAPP_DB_PORT", "also": ["POSTGRES_PORT"], "value": "5435", "source": "default",
        "section": "database", "description": "Database port.",
    }  # fmt: skip
    assert (rows["WAPIPE_CHUNK_DAYS"]["value"], rows["WAPIPE_CHUNK_DAYS"]["source"]) == ("6", "WAPIPE_CHUNK_DAYS")
    assert (rows["WHATSAPP_DB_HOST"]["value"], rows["WHATSAPP_DB_HOST"]["source"]) == ("db.internal", "POSTGRES_HOST")
    assert (rows["WHATSAPP_DB_USER"]["value"], rows["WHATSAPP_DB_USER"]["source"]) == ("whatsapp", "default")
    assert all(r["description"] for r in rows.values())


@pytest.mark.parametrize("form", [["show"], ["show", "--json"]], ids=["table", "json"])
def test_show_masks_every_secret(form: list[str]) -> None:
    result = invoke(*form, env=SECRETS)
    assert result.exit_code == 0
    assert "hush" not in result.output
    assert "berlin=***" in result.output


def test_show_masks_secrets_of_the_env_file(folder: Path) -> None:
    (folder / ".env").write_text("".join(f"{n}={v}\n" for n, v in SECRETS.items() if "{" not in v))
    result = invoke("show")
    assert "hush" not in result.output
    assert result.output.count("***") == len(SECRETS) - 1


def test_show_refuses_what_cannot_be_read() -> None:
    done = run("show", env={"WAPIPE_BATCH_ROWS": "hush"})
    assert (done.returncode, done.stdout) == (78, "")
    assert "WAPIPE_BATCH_ROWS: a bare number of rows" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


# ---------------------------------------------------------------- check
def test_check_of_usable_settings() -> None:
    result = invoke("check", env=GOOD)
    assert (result.exit_code, result.output) == (0, "the settings are usable\n")


def test_check_of_nothing_names_what_to_set() -> None:
    result = invoke("check")
    assert result.exit_code == ConfigError.exit_code == 78
    for name in (
        "WHATSAPP_HOOK_HMAC_KEY",
        "WHATSAPP_WEBHOOK_TOKEN",
        "WHATSAPP_DB_PASSWORD",
        "WHATSAPP_GATEWAY_API_TOKEN",
    ):
        assert name in result.output


@pytest.mark.parametrize("name", GOOD)
def test_check_refuses_placeholders(name: str) -> None:
    result = invoke("check", env=GOOD | {name: "changeme"})
    assert result.exit_code == 78
    assert f"{name} has a well-known placeholder" in result.output
    assert "changeme" not in result.output


def test_check_takes_the_token_instead_of_the_key() -> None:
    env = {n: v for n, v in GOOD.items() if n != "WHATSAPP_HOOK_HMAC_KEY"} | {"WHATSAPP_WEBHOOK_TOKEN": "hush"}
    assert invoke("check", env=env).exit_code == 0


def test_check_warns_of_names_that_nobody_reads() -> None:
    result = invoke("check", env=GOOD | {"WHATSAPP_DB_PASSWROD": "hush"})
    assert result.exit_code == 0
    assert "warning: WHATSAPP_DB_PASSWROD is not a setting; did you mean WHATSAPP_DB_PASSWORD?" in result.output
    assert "hush" not in result.output


@pytest.mark.parametrize("name", ["WHATSAPP_REDIS_PORT", "WHATSAPP_REDIS_ENABLED"])
def test_check_explains_what_has_no_effect_any_more(name: str) -> None:
    result = invoke("check", env=GOOD | {name: "1"})
    assert result.exit_code == 0
    assert f"warning: {name} has no effect: wapipe has no Redis" in result.output


@pytest.mark.parametrize("name", ["WHATSAPP_HOOK_EVENTS", "WHATSAPP_DASHBOARD_PASSWORD", "WHATSAPP_FILES_LIFETIME"])
def test_check_says_nothing_of_what_waha_reads(name: str) -> None:
    """One .env serves both."""
    assert invoke("check", env=GOOD | {name: "1"}).output == "the settings are usable\n"


def test_check_exits_78_on_unknown_names_of_ours() -> None:
    done = run("check", env=GOOD | {"WAPIPE_BATCH_ROW": "hush"})
    assert (done.returncode, done.stdout) == (78, "")
    assert "WAPIPE_BATCH_ROW is not a setting; did you mean WAPIPE_BATCH_ROWS?" in done.stderr
    assert "hush" not in done.stderr


def test_check_exits_78_without_the_file_it_was_told_to_read() -> None:
    done = run("check", env=GOOD | {"WAPIPE_ENV_FILE": "missing.env"})
    assert done.returncode == 78
    assert "WAPIPE_ENV_FILE names missing.env, which is not a file" in done.stderr


# ---------------------------------------------------------------- init
def test_init_writes_what_check_wants(folder: Path) -> None:
    assert invoke("init").exit_code == 0
    assert invoke("check").output == "the settings are usable\n"
    settings = load_settings(read_environment({}))
    for secret in (settings.database.password, settings.ingress.hmac_key, settings.api.token, settings.s3.secret_key):
        assert secret is not None
        assert len(secret.get_secret_value()) >= 32


def test_init_writes_for_the_owner_alone(folder: Path) -> None:
    invoke("init", "--path", "secret.env")
    assert stat.S_IMODE((folder / "secret.env").stat().st_mode) == 0o600


def test_init_prints_no_secret(folder: Path) -> None:
    output = invoke("init").output
    values = [line.split("=", 1)[1] for line in (folder / ".env").read_text().splitlines() if "=" in line]
    assert len(values) == 5
    assert not [v for v in values if v in output]


def test_init_is_different_every_time(folder: Path) -> None:
    invoke("init", "--path", "a.env")
    invoke("init", "--path", "b.env")
    a, b = ((folder / f"{n}.env").read_text().splitlines()[1:] for n in "ab")
    assert [x.split("=")[0] for x in a] == [x.split("=")[0] for x in b]
    assert not set(a) & set(b)


def test_init_never_overwrites(folder: Path) -> None:
    (folder / ".env").write_text("KEEP=1\n")
    done = run("init")
    assert (done.returncode, done.stdout) == (78, "")
    assert ".env exists; it is not overwritten" in done.stderr
    assert (folder / ".env").read_text() == "KEEP=1\n"


@pytest.mark.parametrize("command", ["show", "check", "init"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    output = invoke(command, "--help").output
    assert f"wapipe config {command}" in output
    assert "Exit codes" in output
