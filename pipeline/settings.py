"""All settings: read once at the edge from the environment and `.env`, described, checked, handed on in sections.

Names come from the environment, then from `.env` (or the file named by WAPIPE_ENV_FILE). Nothing else in the code reads
the environment. The settings themselves stand in pipeline.sections.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, SecretStr, ValidationError

from pipeline.errors import ConfigError
from pipeline.sections import (
    ApiSettings,
    AuthSettings,
    ConsumerSettings,
    DatabaseSettings,
    IngressSettings,
    KafkaSettings,
    LocalSettings,
    LogSettings,
    S3Settings,
    Section,
    SpoolSettings,
)
from pipeline.sections_media import MediaSettings
from pipeline.sections_waha import SyncSettings, WahaSettings

__all__ = [
    "FOREIGN_NAMES",
    "PLACEHOLDER_SECRETS",
    "ApiSettings",
    "AuthSettings",
    "ConsumerSettings",
    "DatabaseSettings",
    "Described",
    "IngressSettings",
    "KafkaSettings",
    "LocalSettings",
    "LogSettings",
    "MediaSettings",
    "S3Settings",
    "Settings",
    "SpoolSettings",
    "SyncSettings",
    "WahaSettings",
    "describe",
    "load_settings",
    "read_environment",
    "require_secret",
    "unknown_names",
]

# Placeholders printed in the replaced stack's documents and in WAHA's: a secret with such a value is no secret.
PLACEHOLDER_SECRETS = frozenset(
    {
        "seu-password-seguro", "sua-api-key-aqui", "seu-password-dashboard", "seu-api-token-aqui",
        "seu-webhook-token-aqui", "seu-minio-password", "your_postgres_password_here", "your_jwt_secret_here",
        "your-hmac-key-here", "my-secret-key", "changeme", "change-me", "secret", "password", "admin", "minioadmin",
        "postgres", "00000000000000000000000000000000",
    }
)  # fmt: skip


class Settings(BaseModel):
    """All sections. Build it with `load_settings`."""

    model_config = ConfigDict(frozen=True)

    kafka: KafkaSettings
    database: DatabaseSettings
    s3: S3Settings
    ingress: IngressSettings
    spool: SpoolSettings
    api: ApiSettings
    consumer: ConsumerSettings
    waha: WahaSettings
    media: MediaSettings
    sync: SyncSettings
    local: LocalSettings
    auth: AuthSettings
    log: LogSettings

    @cached_property
    def origin(self) -> str:
        """Where the public port of webhook and API answers on this machine."""
        return f"http://127.0.0.1:{self.api.port}"

    @cached_property
    def spool_folder(self) -> Path:
        """Where the spool is kept."""
        return (self.spool.dir or (self.local.data_dir or Path(".wapipe")) / "spool").expanduser().absolute()


# Names of the replaced stack that other parts of its compose file read; wapipe knows them and does not use them.
FOREIGN_NAMES = {
    "WHATSAPP_DASHBOARD_ENABLED": "WAHA's dashboard reads it",
    "WHATSAPP_DASHBOARD_USERNAME": "WAHA's dashboard reads it",
    "WHATSAPP_DASHBOARD_PASSWORD": "WAHA's dashboard reads it",
    "WHATSAPP_REDIS_PORT": "wapipe has no Redis: its queue is a topic, its cache is PostgreSQL",
    "WHATSAPP_REDIS_ENABLED": "wapipe has no Redis: its queue is a topic, its cache is PostgreSQL",
    "WHATSAPP_HOOK_EVENTS": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_POLICY": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_DELAY_SECONDS": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_ATTEMPTS": "WAHA reads it",
    "WHATSAPP_HOOK_CUSTOM_HEADERS": "WAHA reads it",
    "WHATSAPP_FILES_MIMETYPES": "WAHA reads it",
    "WHATSAPP_FILES_FOLDER": "WAHA reads it",
    "WHATSAPP_DOWNLOAD_MEDIA": "WAHA reads it",
    "WHATSAPP_DEFAULT_ENGINE": "WAHA reads it",
    "WHATSAPP_SESSIONS_POSTGRESQL_URL": "WAHA reads it",
    "WHATSAPP_START_SESSION": "WAHA reads it",
    "WHATSAPP_RESTART_ALL_SESSIONS": "WAHA reads it",
    "WHATSAPP_SWAGGER_ENABLED": "WAHA reads it",
    "WHATSAPP_SWAGGER_USERNAME": "WAHA reads it",
    "WHATSAPP_SWAGGER_PASSWORD": "WAHA reads it",
    "WHATSAPP_API_PORT": "WAHA reads it",
    "WHATSAPP_API_HOSTNAME": "WAHA reads it",
    "WHATSAPP_API_SCHEMA": "WAHA reads it",
    "WHATSAPP_API_KEY_EXCLUDE_PATH": "WAHA reads it",
    "WAPIPE_ENV_FILE": "names the .env file itself",
    "WAPIPE_TEST_REQUIRE": "the tests read it: what they must not do without",
}


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as it stands: for `config show` and for checks that hold documents to the code."""

    section: str
    field: str
    names: tuple[str, ...]
    value: str  # masked when secret
    source: str  # the name it came from, or "default"
    secret: bool
    description: str


def read_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment over the `.env` file (WAPIPE_ENV_FILE or ./.env). Raises ConfigError for an unreadable file."""
    env = dict(os.environ if environ is None else environ)
    path = Path(env.get("WAPIPE_ENV_FILE", ".env"))
    if not path.is_file():
        if env.get("WAPIPE_ENV_FILE"):
            raise ConfigError(f"WAPIPE_ENV_FILE names {path}, which is not a file")
        return env
    try:
        from_file = {k: v for k, v in dotenv_values(path).items() if v is not None}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    return from_file | env


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environ` (default: the process and `.env`). Raises ConfigError that names every bad variable."""
    env = read_environment() if environ is None else dict(environ)
    problems: list[str] = [p for p in unknown_names(env) if p.startswith("WAPIPE_")]
    sections: dict[str, Any] = {}
    for name, cls in _sections():
        try:
            sections[name] = cls(**_values_of(cls, env))
        except ValidationError as exc:
            problems += [_explain(cls, error) for error in exc.errors()]
    if problems:
        raise ConfigError("; ".join(problems))
    return Settings.model_construct(**sections)


def unknown_names(env: Mapping[str, str]) -> list[str]:
    """One sentence for each variable that looks like ours and is not, with the nearest known name."""
    known = {n for _, cls in _sections() for _, names in _fields(cls) for n in names} | set(FOREIGN_NAMES)
    out: list[str] = []
    for name in sorted(env):
        if name in known or not name.startswith(("WAPIPE_", "WHATSAPP_")):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        out.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return out


def require_secret(value: SecretStr | None, name: str, what_for: str) -> str:
    """The secret's text. Raises ConfigError when it is missing or is a placeholder from somebody's documentation."""
    text = value.get_secret_value() if value else ""
    if not text:
        raise ConfigError(f"{name} is not set: {what_for}. Set it, or let `wapipe config init` write a .env")
    if text.lower() in PLACEHOLDER_SECRETS:
        raise ConfigError(f"{name} has a well-known placeholder as its value: {what_for}. Choose a secret of your own")
    return text


def describe(settings: Settings, env: Mapping[str, str]) -> Iterator[Described]:
    """Every setting with its value (masked when secret) and where it came from."""
    for section, cls in _sections():
        part = getattr(settings, section)
        for field, names in _fields(cls):
            info = cls.model_fields[field]
            value = getattr(part, field)
            secret = "SecretStr" in str(info.annotation)
            source = next((n for n in names if env.get(n)), "default")
            shown = _masked(value) if secret else ("" if value is None else str(value))
            yield Described(section, field, names, shown, source, secret, info.description or "")


def _masked(value: object) -> str:
    if not value:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{k}=***" for k in value)
    return "***"


def _sections() -> list[tuple[str, type[Section]]]:
    return [(n, f.annotation) for n, f in Settings.model_fields.items() if isinstance(f.annotation, type)]


def _fields(cls: type[Section]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, info in cls.model_fields.items():
        alias = info.validation_alias
        assert isinstance(alias, AliasChoices)
        yield name, tuple(str(c) for c in alias.choices if not isinstance(c, AliasPath))


def _values_of(cls: type[Section], env: Mapping[str, str]) -> dict[str, Any]:
    """Values for `cls`, by its first name that is set; an empty value counts as unset."""
    out: dict[str, Any] = {}
    # The replaced stack had two databases. Who names ours at all means ours, not the one of POSTGRES_….
    named = any(n.startswith("WHATSAPP_DB_") and v for n, v in env.items())
    for field, names in _fields(cls):
        readable = [n for n in names if not (named and n.startswith("POSTGRES_"))]
        value = next((env[n] for n in readable if env.get(n, "") != ""), None)
        if value is None:
            continue
        annotation = str(cls.model_fields[field].annotation)
        out[names[0]] = _json_object(names[0], value) if annotation.startswith("dict") else value
    return out


def _json_object(name: str, text: str) -> Any:
    import orjson  # noqa: PLC0415 - only one setting in a hundred starts needs it

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ConfigError(f'{name} must be a JSON object such as {{"berlin": "key"}}') from None


def _explain(cls: type[Section], error: Any) -> str:
    """One validation error as a sentence, without the value (it may be a secret)."""
    name = str(error["loc"][0]) if error["loc"] else cls.__name__
    message = error["msg"]
    unit = next((u for u in ("_MS", "_S", "_DAYS", "_BYTES", "_ROWS") if name.endswith(u)), None)
    if unit and error["type"] in ("int_parsing", "float_parsing"):
        words = {"_MS": "milliseconds", "_S": "seconds", "_DAYS": "days", "_BYTES": "bytes", "_ROWS": "rows"}
        message = f"a bare number of {words[unit]}: the unit stands in the name"
    return f"{name}: {message}"
