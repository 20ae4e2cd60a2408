"""Settings: names old and new, where values come from, what is refused and in which words, and that secrets stay so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import (
    FOREIGN_NAMES,
    PLACEHOLDER_SECRETS,
    Settings,
    describe,
    load_settings,
    read_environment,
    require_secret,
    unknown_names,
)

# The two .env examples of the replaced stack, with values of a real installation in place of the placeholders.
GATEWAY_ENV = {
    "WHATSAPP_DB_USER": "wa", "WHATSAPP_DB_PASSWORD": "db-secret-1", "WHATSAPP_DB_PORT": "5436",
    "WHATSAPP_PGBOUNCER_PORT": "6436", "WHATSAPP_CORE_PORT": "3312", "WHATSAPP_API_KEY": "api-secret-2",
    "WHATSAPP_GATEWAY_API_PORT": "4013", "WHATSAPP_GATEWAY_API_TOKEN": "gw-secret-3",
    "WHATSAPP_WEBHOOK_TOKEN": "hook-secret-4", "WHATSAPP_MINIO_API_PORT": "9402",
    "WHATSAPP_MINIO_CONSOLE_PORT": "9403", "WHATSAPP_MINIO_ROOT_USER": "minio-user",
    "WHATSAPP_MINIO_ROOT_PASSWORD": "minio-secret-5", "WHATSAPP_MINIO_BUCKET": "wa-media",
    "WHATSAPP_SYNC_ENABLED": "false", "WHATSAPP_SYNC_INTERVAL_MS": "60000", "WHATSAPP_SYNC_BATCH_SIZE": "50",
    "WHATSAPP_SYNC_LOOKBACK_DAYS": "3",
}  # fmt: skip
GATEWAY_UNUSED = {
    "WHATSAPP_DASHBOARD_ENABLED": "true", "WHATSAPP_DASHBOARD_USERNAME": "admin", "WHATSAPP_DASHBOARD_PASSWORD": "x",
    "WHATSAPP_REDIS_PORT": "6380", "WHATSAPP_REDIS_ENABLED": "true",
}  # fmt: skip
AUTH_ENV = {
    "POSTGRES_HOST": "db.internal", "POSTGRES_PORT": "5432", "POSTGRES_DB": "whatsapp_auth", "POSTGRES_USER": "auth",
    "POSTGRES_PASSWORD": "pg-secret-6", "JWT_SECRET": "jwt-secret-7", "JWT_EXPIRES_IN": "12h",
    "JWT_REFRESH_EXPIRES_IN": "5d",
}  # fmt: skip
NEW_SECRETS = {
    "WHATSAPP_HOOK_HMAC_KEY": "hmac-secret-8", "WAPIPE_KAFKA_SASL_PASSWORD": "sasl-secret-9",
    "WAPIPE_SOURCE_HMAC_KEYS": '{"berlin": "src-secret-10"}',
}  # fmt: skip


def shown(env: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Every setting by its first name: (value as shown, the name it came from)."""
    return {d.names[0]: (d.value, d.source) for d in describe(load_settings(env), env)}


def problem(env: dict[str, str]) -> str:
    """What `env` is refused with."""
    with pytest.raises(ConfigError) as caught:
        load_settings(env)
    return str(caught.value)


# ---------------------------------------------------------------- names of the replaced stack
@pytest.mark.parametrize(("name", "value"), [*GATEWAY_ENV.items(), *AUTH_ENV.items()], ids=[*GATEWAY_ENV, *AUTH_ENV])
def test_every_name_of_the_replaced_stack_still_works(name: str, value: str) -> None:
    changed = {n: v for n, v in shown({name: value}).items() if v[1] != "default"}
    assert [source for _, source in changed.values()] == [name]
    [(as_shown, _)] = changed.values()
    expected = "***" if "secret-" in value else {"false": "False"}.get(value, value)
    assert as_shown == expected


def test_the_gateways_example_lands_where_it_should() -> None:
    s = load_settings(GATEWAY_ENV | GATEWAY_UNUSED)
    assert s.database.dsn() == "postgresql://wa:db-secret-1@127.0.0.1:6436/whatsapp_gateway"
    assert s.database.dsn(direct=True) == "postgresql://wa:db-secret-1@127.0.0.1:5436/whatsapp_gateway"
    assert (s.s3.url, s.s3.access_key, s.s3.bucket) == ("http://127.0.0.1:9402", "minio-user", "wa-media")
    assert (s.api.port, s.waha.core_port, s.origin) == (4013, 3312, "http://127.0.0.1:4013")
    assert (s.sync.enabled, s.sync.interval_ms, s.sync.batch_size, s.sync.lookback_days) == (False, 60_000, 50, 3)
    secrets = (s.database.password, s.api.token, s.ingress.token, s.s3.secret_key, s.waha.api_key)
    assert [x.get_secret_value() for x in secrets if x] == [
        "db-secret-1", "gw-secret-3", "hook-secret-4", "minio-secret-5", "api-secret-2",
    ]  # fmt: skip


def test_the_user_databases_example_lands_where_it_should() -> None:
    s = load_settings(AUTH_ENV)
    assert s.database.dsn() == "postgresql://auth:pg-secret-6@db.internal:5432/whatsapp_auth"
    assert (s.auth.jwt_expires_in, s.auth.jwt_refresh_expires_in) == ("12h", "5d")


def test_ports_of_the_replaced_stack_are_the_defaults() -> None:
    s = load_settings({})
    assert (s.database.port, s.s3.api_port, s.s3.console_port, s.waha.core_port, s.api.port) == (
        5435, 9302, 9303, 3311, 4011,
    )  # fmt: skip
    assert s.database.pgbouncer_port is None  # 6435 once it is set


def test_names_that_others_read_are_known_and_change_nothing() -> None:
    assert GATEWAY_UNUSED.keys() <= FOREIGN_NAMES.keys()
    assert unknown_names(dict.fromkeys(FOREIGN_NAMES, "x")) == []
    assert all(source == "default" for _, source in shown(GATEWAY_UNUSED).values())


def test_names_of_one_setting_have_an_order() -> None:
    both = {"WHATSAPP_DB_HOST": "new", "POSTGRES_HOST": "old"}
    assert load_settings(both).database.host == "new"
    assert shown(both)["WHATSAPP_DB_HOST"] == ("new", "WHATSAPP_DB_HOST")
    assert load_settings(both | {"WHATSAPP_DB_HOST": ""}).database.host == "old"


def test_no_name_means_two_things() -> None:
    names = [n for d in describe(load_settings({}), {}) for n in d.names]
    assert len(set(names)) == len(names)
    assert not set(names) & FOREIGN_NAMES.keys()


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("name", "near"),
    [("WAPIPE_BATCH_ROW", "WAPIPE_BATCH_ROWS"), ("WAPIPE_KAFKA_BOOTSTRAP_SERVER", "WAPIPE_KAFKA_BOOTSTRAP_SERVERS"),
     ("WAPIPE_INGRES_PORT", "WAPIPE_INGRESS_PORT"), ("WAPIPE_LOGLEVEL", "WAPIPE_LOG_LEVEL")],
)  # fmt: skip
def test_unknown_names_of_ours_are_refused_with_the_nearest(name: str, near: str) -> None:
    assert problem({name: "1"}) == f"{name} is not a setting; did you mean {near}?"


def test_a_name_that_is_near_to_nothing() -> None:
    assert problem({"WAPIPE_QQQQQQ": "1"}) == "WAPIPE_QQQQQQ is not a setting"


@pytest.mark.parametrize(
    ("name", "near"),
    [("WHATSAPP_DB_PASSWROD", "WHATSAPP_DB_PASSWORD"), ("WHATSAPP_WEBHOOK_TOKENS", "WHATSAPP_WEBHOOK_TOKEN"),
     ("WHATSAPP_HMAC_KEY", "WHATSAPP_HOOK_HMAC_KEY")],
)  # fmt: skip
def test_unknown_names_of_waha_are_warned_of_only(name: str, near: str) -> None:
    """WAHA has more of them than we know, and one .env may serve both."""
    load_settings({name: "1"})  # is not refused
    assert unknown_names({name: "1", "PATH": "/bin"}) == [f"{name} is not a setting; did you mean {near}?"]


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("WAPIPE_INGRESS_DEADLINE_S", "5s", "seconds"), ("WAPIPE_DB_COMMAND_TIMEOUT_S", "1 min", "seconds"),
        ("WHATSAPP_SYNC_INTERVAL_MS", "5m", "milliseconds"), ("WAPIPE_SESSION_TIMEOUT_MS", "30s", "milliseconds"),
        ("WHATSAPP_SYNC_LOOKBACK_DAYS", "7d", "days"), ("WAPIPE_CHUNK_DAYS", "1w", "days"),
        ("WAPIPE_BATCH_BYTES", "16MiB", "bytes"), ("WAPIPE_INGRESS_MAX_BODY_BYTES", "16M", "bytes"),
        ("WAPIPE_BATCH_ROWS", "2k", "rows"), ("WAPIPE_BATCH_ROWS", "2000.5", "rows"),
    ],
)  # fmt: skip
def test_a_quantity_is_a_bare_number_of_the_unit_in_its_name(name: str, value: str, unit: str) -> None:
    assert problem({name: value}) == f"{name}: a bare number of {unit}: the unit stands in the name"


def test_every_quantity_has_its_unit_in_its_name() -> None:
    """Counts (ports, copies, partitions, records, deaths) and percentages have none, or are their own; WAHA's names stay."""
    counts = (
        "_PORT",
        "_FACTOR",
        "_PARTITIONS",
        "_SIZE",
        "_IN_FLIGHT",
        "_RECORDS",
        "_DEATHS",
        "_PERCENT",
        "_TIMES",
        "_PIXELS",
        "_FILES_LIFETIME",
    )
    units = ("_MS", "_S", "_DAYS", "_BYTES", "_ROWS")
    for section, field in Settings.model_fields.items():
        assert field.annotation is not None
        for name, info in field.annotation.model_fields.items():
            if any(t in str(info.annotation) for t in ("int", "float")):
                alias = str(info.validation_alias.choices[0])
                assert alias.endswith(counts + units), f"{section}.{name}"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        pytest.param({"WHATSAPP_DB_PORT": "postgres"}, "WHATSAPP_DB_PORT: Input should be a valid integer", id="port"),
        pytest.param({"WHATSAPP_DB_PORT": "70000"}, "WHATSAPP_DB_PORT: Input should be less than", id="port too high"),
        pytest.param({"WHATSAPP_DB_PORT": "-1"}, "WHATSAPP_DB_PORT: Input should be greater than", id="port below 0"),
        pytest.param({"WAPIPE_LOG_LEVEL": "loud"}, "WAPIPE_LOG_LEVEL: Input should be 'DEBUG'", id="choice"),
        pytest.param({"WHATSAPP_SYNC_ENABLED": "perhaps"}, "WHATSAPP_SYNC_ENABLED: Input should be", id="bool"),
        pytest.param({"WAPIPE_TOPIC_PREFIX": "a b"}, "WAPIPE_TOPIC_PREFIX: String should match", id="prefix"),
        pytest.param({"WAPIPE_INGRESS_DEADLINE_S": "0"}, "WAPIPE_INGRESS_DEADLINE_S: Input should be", id="no time"),
        pytest.param({"WAPIPE_INGRESS_DEADLINE_S": "nan"}, "WAPIPE_INGRESS_DEADLINE_S: Input should be", id="NaN"),
        pytest.param(
            {"WAPIPE_INGRESS_MAX_BODY_BYTES": str(17 * 2**20)}, "WAPIPE_INGRESS_MAX_BODY_BYTES: Input should be less",
            id="a body that no topic takes",
        ),
    ],
)  # fmt: skip
def test_values_without_sense(env: dict[str, str], words: str) -> None:
    assert problem(env).startswith(words)


def test_every_mistake_is_named_at_once() -> None:
    said = problem({"WAPIPE_BATCH_ROWS": "x", "WHATSAPP_DB_PORT": "y", "WAPIPE_NEW": "z"})
    assert {s.partition(":")[0].partition(" ")[0] for s in said.split("; ") if s[:2] == "WA" or s[:2] == "WH"} == {
        "WAPIPE_BATCH_ROWS", "WHATSAPP_DB_PORT", "WAPIPE_NEW",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["not-json", "[1]", '"hush-hush"', '{"berlin": 5}', '{"berlin": null}', '{"ber lin": "hush-hush"}',
     '{"": "hush-hush"}', '{"a/b": "hush-hush"}', '{"ü": "hush-hush"}', json.dumps({"x" * 65: "hush-hush"}),
     "{hush-hush"],
)  # fmt: skip
def test_source_keys_that_cannot_be_used(text: str) -> None:
    said = problem({"WAPIPE_SOURCE_HMAC_KEYS": text})
    assert said.startswith("WAPIPE_SOURCE_HMAC_KEYS")
    assert "hush-hush" not in said


def test_source_keys() -> None:
    keys = load_settings({"WAPIPE_SOURCE_HMAC_KEYS": '{"berlin": "k1", "new_york-2": "k2"}'}).ingress.source_keys
    assert {n: k.get_secret_value() for n, k in keys.items()} == {"berlin": "k1", "new_york-2": "k2"}


def test_empty_counts_as_unset() -> None:
    every = dict.fromkeys((n for d in describe(load_settings({}), {}) for n in d.names), "")
    assert load_settings(every) == load_settings({})


# ---------------------------------------------------------------- secrets
@pytest.mark.parametrize("value", sorted(PLACEHOLDER_SECRETS))
@pytest.mark.parametrize("spelling", [str, str.upper], ids=["as printed", "in capitals"])
def test_placeholders_are_no_secrets(value: str, spelling: Callable[[str], str]) -> None:
    token = load_settings({"WHATSAPP_WEBHOOK_TOKEN": spelling(value)}).ingress.token
    with pytest.raises(ConfigError, match=r"^WHATSAPP_WEBHOOK_TOKEN has a well-known placeholder"):
        require_secret(token, "WHATSAPP_WEBHOOK_TOKEN", "for a test")


@pytest.mark.parametrize(
    "placeholder",
    ["seu-password-seguro", "sua-api-key-aqui", "seu-password-dashboard", "seu-api-token-aqui",
     "seu-webhook-token-aqui", "seu-minio-password", "your_postgres_password_here", "your_jwt_secret_here",
     "your-hmac-key-here", "my-secret-key"],
)  # fmt: skip
def test_every_placeholder_of_the_replaced_stack_and_of_wahas_documents_is_known(placeholder: str) -> None:
    assert placeholder in PLACEHOLDER_SECRETS


def test_a_missing_secret_is_said_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"^JWT_SECRET is not set: for a test.*wapipe config init"):
        require_secret(load_settings({"JWT_SECRET": ""}).auth.jwt_secret, "JWT_SECRET", "for a test")


def test_secrets_show_nowhere() -> None:
    env = GATEWAY_ENV | AUTH_ENV | NEW_SECRETS
    settings = load_settings(env)
    everything = f"{settings!r} {settings} {list(describe(settings, env))} {settings.model_dump()}"
    assert "secret-" not in everything
    assert shown(env)["WAPIPE_SOURCE_HMAC_KEYS"] == ("berlin=***", "WAPIPE_SOURCE_HMAC_KEYS")


def test_errors_do_not_repeat_values() -> None:
    """A secret may stand under the wrong name."""
    for name in ("WHATSAPP_DB_PORT", "WAPIPE_LOG_LEVEL", "WAPIPE_BATCH_ROWS", "WAPIPE_SOURCE_HMAC_KEYS", "WAPIPE_X"):
        assert "hush-hush" not in problem({name: "hush-hush"})


def test_special_characters_in_a_password_survive_the_uri() -> None:
    settings = load_settings({"WHATSAPP_DB_PASSWORD": "p@ss:w/rd?#%", "WHATSAPP_DB_HOST": "/run/postgresql"})
    assert settings.database.dsn() == (
        "postgresql://whatsapp:p%40ss%3Aw%2Frd%3F%23%25@%2Frun%2Fpostgresql:5435/whatsapp_gateway"
    )


# ---------------------------------------------------------------- where values come from
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "value"),
    [
        pytest.param("WHATSAPP_SYNC_INTERVAL_MS=300000  # 5 minutos", "300000", id="comment behind a value"),
        pytest.param("WHATSAPP_SYNC_INTERVAL_MS=300000", "300000", id="plain"),
        pytest.param("export WHATSAPP_SYNC_INTERVAL_MS=300000", "300000", id="export"),
        pytest.param("WHATSAPP_SYNC_INTERVAL_MS = '300000'", "300000", id="quoted, spaces"),
        pytest.param("WHATSAPP_DB_PASSWORD=a#b", "a#b", id="a hash inside a value"),
        pytest.param('WHATSAPP_DB_PASSWORD="a # b"', "a # b", id="a hash inside quotes"),
        pytest.param("WHATSAPP_DB_PASSWORD=señal", "señal", id="UTF-8"),
        pytest.param("# a comment\n\nWHATSAPP_DB_PASSWORD=x", "x", id="comments and blank lines"),
        pytest.param("WHATSAPP_DB_PASSWORD=x\r\n", "x", id="lines of Windows"),
    ],
)
def test_env_file(folder: Path, line: str, value: str) -> None:
    (folder / ".env").write_text(line + "\n", encoding="utf-8", newline="")
    assert list(read_environment({}).values()) == [value]


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    (folder / ".env").write_text("WHATSAPP_DB_PORT=1\nWHATSAPP_CORE_PORT=2\n")
    assert read_environment({"WHATSAPP_DB_PORT": "3"}) == {"WHATSAPP_DB_PORT": "3", "WHATSAPP_CORE_PORT": "2"}


def test_without_a_file_there_is_the_environment(folder: Path) -> None:
    assert read_environment({"WHATSAPP_DB_PORT": "3"}) == {"WHATSAPP_DB_PORT": "3"}


def test_the_files_name_is_a_setting(folder: Path) -> None:
    (folder / ".env").write_text("WHATSAPP_DB_PORT=1\n")
    (folder / "other.env").write_text("WHATSAPP_DB_PORT=2\n")
    env = read_environment({"WAPIPE_ENV_FILE": "other.env"})
    assert env["WHATSAPP_DB_PORT"] == "2"
    assert load_settings(env).database.port == 2


def test_a_file_that_is_asked_for_must_be_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.env"):
        read_environment({"WAPIPE_ENV_FILE": "missing.env"})


def test_a_file_that_cannot_be_read_is_said(folder: Path) -> None:
    (folder / ".env").write_bytes(b"WHATSAPP_DB_PASSWORD=\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read \.env"):
        read_environment({})


def test_settings_are_read_from_the_process_when_nothing_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("WHATSAPP_DB_PORT=1\nWHATSAPP_CORE_PORT=2\n")
    monkeypatch.setenv("WHATSAPP_DB_PORT", "3")
    monkeypatch.delenv("WAPIPE_ENV_FILE", raising=False)
    settings = load_settings()
    assert (settings.database.port, settings.waha.core_port) == (3, 2)


def test_a_given_environment_is_all_there_is(folder: Path) -> None:
    (folder / ".env").write_text("WHATSAPP_DB_PORT=1\n")
    assert load_settings({}).database.port == 5435


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).database.port = 1  # type: ignore[misc]
