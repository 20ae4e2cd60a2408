"""Every setting of wapipe: its name, default, unit and meaning. Read once at the edge, handed on in sections.

Names are environment variables, also taken from `.env` (or the file named by WAPIPE_ENV_FILE); the environment wins.
The names of the stack that wapipe replaces (WHATSAPP_…, POSTGRES_…) keep working as they were; new ones start with
WAPIPE_. A quantity carries its unit in its name (_S, _MS, _DAYS, _BYTES, _ROWS) and is a bare number. Nothing else
in the code reads the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]

# Placeholders printed in the replaced stack's documents and in WAHA's: a secret with such a value is no secret.
PLACEHOLDER_SECRETS = frozenset(
    {
        "seu-password-seguro", "sua-api-key-aqui", "seu-password-dashboard", "seu-api-token-aqui",
        "seu-webhook-token-aqui", "seu-minio-password", "your_postgres_password_here", "your_jwt_secret_here",
        "your-hmac-key-here", "my-secret-key", "changeme", "change-me", "secret", "password", "admin", "minioadmin",
        "postgres", "00000000000000000000000000000000",
    }
)  # fmt: skip


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class _Section(BaseSettings):
    """A part of the settings. Values come from the mapping given by `load_settings`, never from the process."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class KafkaSettings(_Section):
    """The broker: Apache Kafka or Redpanda."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", validation_alias=_names("WAPIPE_KAFKA_BOOTSTRAP_SERVERS"),
        description="Broker addresses, comma separated host:port.",
    )  # fmt: skip
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias=_names("WAPIPE_KAFKA_SECURITY_PROTOCOL"), description="How to talk to the broker."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", validation_alias=_names("WAPIPE_KAFKA_SASL_MECHANISM"), description="SASL mechanism."
    )
    sasl_username: str | None = Field(
        None, validation_alias=_names("WAPIPE_KAFKA_SASL_USERNAME"), description="SASL user."
    )
    sasl_password: SecretStr | None = Field(
        None, validation_alias=_names("WAPIPE_KAFKA_SASL_PASSWORD"), description="SASL password."
    )
    ssl_ca_file: Path | None = Field(
        None, validation_alias=_names("WAPIPE_KAFKA_SSL_CA_FILE"), description="CA bundle for SSL (PEM)."
    )
    topic_prefix: str = Field(
        "", validation_alias=_names("WAPIPE_TOPIC_PREFIX"), pattern=r"^[A-Za-z0-9._-]{0,60}$",
        description="Put before every topic and group name, so that several installations share a broker.",
    )  # fmt: skip
    replication_factor: int = Field(
        1, validation_alias=_names("WAPIPE_KAFKA_REPLICATION_FACTOR"), ge=1,
        description="Copies of each partition that `topics apply` asks for. 3 in production.",
    )  # fmt: skip
    partitions: int | None = Field(
        None, validation_alias=_names("WAPIPE_KAFKA_PARTITIONS"), ge=1, le=1000,
        description="Partitions of each live topic, instead of the table in schemas/topics.py.",
    )  # fmt: skip


class DatabaseSettings(_Section):
    """TimescaleDB, or plain PostgreSQL."""

    host: str = Field(
        "127.0.0.1", validation_alias=_names("WHATSAPP_DB_HOST", "POSTGRES_HOST"), description="Database host."
    )
    port: Port = Field(5435, validation_alias=_names("WHATSAPP_DB_PORT", "POSTGRES_PORT"), description="Database port.")
    name: str = Field(
        "whatsapp_gateway", validation_alias=_names("WHATSAPP_DB_NAME", "POSTGRES_DB"), description="Database name."
    )
    user: str = Field(
        "whatsapp", validation_alias=_names("WHATSAPP_DB_USER", "POSTGRES_USER"), description="Database user."
    )
    password: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_DB_PASSWORD", "POSTGRES_PASSWORD"), description="Database password."
    )
    pgbouncer_port: Port | None = Field(
        None, validation_alias=_names("WHATSAPP_PGBOUNCER_PORT"),
        description="PgBouncer's port (6435 in compose). When set, processes go through it; migrations never do.",
    )  # fmt: skip
    pgbouncer_host: str | None = Field(
        None,
        validation_alias=_names("WHATSAPP_PGBOUNCER_HOST"),
        description="PgBouncer's host; the database's if unset.",
    )
    chunk_days: int = Field(
        7, validation_alias=_names("WAPIPE_CHUNK_DAYS"), ge=1, le=366,
        description="Length of a hypertable chunk. The newest chunk's indexes should fit in a quarter of memory.",
    )  # fmt: skip
    command_timeout_s: float = Field(
        60,
        validation_alias=_names("WAPIPE_DB_COMMAND_TIMEOUT_S"),
        gt=0,
        le=3600,
        description="Longest single statement.",
    )

    def dsn(self, *, direct: bool = False) -> str:
        """Connection URI; through PgBouncer when it is configured, unless `direct`."""
        host, port = self.host, self.port
        if self.pgbouncer_port is not None and not direct:
            host, port = self.pgbouncer_host or self.host, self.pgbouncer_port
        secret = f":{quote(self.password.get_secret_value(), safe='')}" if self.password else ""
        # A unix socket directory is a host too; it must be quoted in a URI.
        host = f"[{host}]" if ":" in host else host
        return f"postgresql://{quote(self.user, safe='')}{secret}@{quote(host, safe='.:[]')}:{port}/{quote(self.name, safe='')}"


class S3Settings(_Section):
    """The object store for media."""

    endpoint_url: str | None = Field(
        None, validation_alias=_names("WAPIPE_S3_ENDPOINT_URL"), description="S3 endpoint; from host and port if unset."
    )
    host: str = Field("127.0.0.1", validation_alias=_names("WHATSAPP_MINIO_HOST"), description="S3 host.")
    api_port: Port = Field(9302, validation_alias=_names("WHATSAPP_MINIO_API_PORT"), description="S3 port.")
    console_port: Port = Field(
        9303, validation_alias=_names("WHATSAPP_MINIO_CONSOLE_PORT"), description="Port of the store's own console."
    )
    access_key: str = Field(
        "whatsappadmin", validation_alias=_names("WHATSAPP_MINIO_ROOT_USER"), description="S3 access key id."
    )
    secret_key: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_MINIO_ROOT_PASSWORD"), description="S3 secret access key."
    )
    bucket: str = Field(
        "whatsapp-media", validation_alias=_names("WHATSAPP_MINIO_BUCKET"), description="Bucket for media; private."
    )
    region: str = Field("us-east-1", validation_alias=_names("WAPIPE_S3_REGION"), description="S3 region name.")

    @property
    def url(self) -> str:
        """Where the S3 API answers."""
        return self.endpoint_url or f"http://{self.host}:{self.api_port}"


class IngressSettings(_Section):
    """The webhook receiver."""

    hmac_key: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_HOOK_HMAC_KEY"),
        description="Key of X-Webhook-Hmac (SHA-512 over the body). WAHA's own name: one .env serves both.",
    )  # fmt: skip
    token: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_WEBHOOK_TOKEN"), description="Static token, in X-Webhook-Token."
    )
    source_keys: dict[str, SecretStr] = Field(
        default_factory=dict, validation_alias=_names("WAPIPE_SOURCE_HMAC_KEYS"),
        description='HMAC keys of further WAHA servers by source, as JSON: {"berlin": "key"} for /webhook/berlin.',
    )  # fmt: skip
    host: str = Field("127.0.0.1", validation_alias=_names("WAPIPE_LISTEN_HOST"), description="Address to listen on.")
    port: Port = Field(
        4012, validation_alias=_names("WAPIPE_INGRESS_PORT"), description="Port of `run ingress` alone (see API port)."
    )
    deadline_s: float = Field(
        5.0, validation_alias=_names("WAPIPE_INGRESS_DEADLINE_S"), gt=0, le=120,
        description="Longest wait for the broker's acknowledgement before 503.",
    )  # fmt: skip
    max_body_bytes: int = Field(
        16 * 1024 * 1024, validation_alias=_names("WAPIPE_INGRESS_MAX_BODY_BYTES"), ge=1024, le=16 * 1024 * 1024,
        description="Larger bodies are answered 413. Topics take records of 17 MiB.",
    )  # fmt: skip
    max_in_flight: int = Field(
        2000, validation_alias=_names("WAPIPE_INGRESS_MAX_IN_FLIGHT"), ge=1,
        description="Requests waiting for the broker at once; more are answered 503.",
    )  # fmt: skip
    max_in_flight_bytes: int = Field(
        128 * 1024 * 1024, validation_alias=_names("WAPIPE_INGRESS_MAX_IN_FLIGHT_BYTES"), ge=1024,
        description="Bodies held in memory at once; more are answered 503.",
    )  # fmt: skip

    @field_validator("max_in_flight_bytes")
    @classmethod
    def _room_for_one(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("max_body_bytes", 0):
            raise ValueError("must be at least WAPIPE_INGRESS_MAX_BODY_BYTES, or the largest body is refused for ever")
        return value

    @field_validator("source_keys")
    @classmethod
    def _source_names(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in value:
            if name == "default":
                raise ValueError("the source `default` is the server of WHATSAPP_HOOK_HMAC_KEY: choose another name")
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
                raise ValueError(f"source {name!r}: letters, digits, - and _ only, 64 at most")
        return value


class ApiSettings(_Section):
    """The query API."""

    port: Port = Field(
        4011, validation_alias=_names("WHATSAPP_GATEWAY_API_PORT"),
        description="Port of the API; webhook and API share it in `run all` and `run gateway`.",
    )  # fmt: skip
    token: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_GATEWAY_API_TOKEN"), description="Token of X-Api-Token."
    )
    pool_size: int = Field(
        8, validation_alias=_names("WAPIPE_API_POOL_SIZE"), ge=1, le=100, description="Database connections."
    )


class ConsumerSettings(_Section):
    """Every consumer process."""

    batch_rows: int = Field(
        2000, validation_alias=_names("WAPIPE_BATCH_ROWS"), ge=1, le=20000, description="Most records in a batch."
    )
    batch_bytes: int = Field(
        16 * 1024 * 1024, validation_alias=_names("WAPIPE_BATCH_BYTES"), ge=1024,
        description="A batch is cut when its bodies exceed this.",
    )  # fmt: skip
    fetch_max_bytes: int = Field(
        4 * 1024 * 1024, validation_alias=_names("WAPIPE_FETCH_MAX_BYTES"), ge=1024,
        description="Most bytes prefetched from the broker in one answer; larger single records still come.",
    )  # fmt: skip
    session_timeout_ms: int = Field(
        30_000, validation_alias=_names("WAPIPE_SESSION_TIMEOUT_MS"), ge=6000, description="Kafka session timeout."
    )
    instance_id: str | None = Field(
        None, validation_alias=_names("WAPIPE_INSTANCE_ID"),
        description="Static group membership: unique among live processes, kept over restarts.",
    )  # fmt: skip
    metrics_host: str = Field(
        "127.0.0.1", validation_alias=_names("WAPIPE_METRICS_HOST"), description="Address of /health /ready /metrics."
    )
    metrics_port: Port | None = Field(
        None, validation_alias=_names("WAPIPE_METRICS_PORT"),
        description="Port of /health /ready /metrics; each process has its own default (see `wapipe run --help`).",
    )  # fmt: skip
    shutdown_grace_s: float = Field(
        20, validation_alias=_names("WAPIPE_SHUTDOWN_GRACE_S"), gt=0,
        description="Longest wait for the batch in flight on SIGTERM. Keep it below the orchestrator's kill delay.",
    )  # fmt: skip


class WahaSettings(_Section):
    """The WAHA server that wapipe reads from."""

    core_port: Port = Field(3311, validation_alias=_names("WHATSAPP_CORE_PORT"), description="WAHA's port.")
    url: str | None = Field(
        None, validation_alias=_names("WAPIPE_WAHA_URL"), description="WAHA's base URL; from the port if unset."
    )
    api_key: SecretStr | None = Field(
        None, validation_alias=_names("WHATSAPP_API_KEY"), description="WAHA's X-Api-Key."
    )


class SyncSettings(_Section):
    """Backfill, as the replaced stack named it."""

    enabled: bool = Field(True, validation_alias=_names("WHATSAPP_SYNC_ENABLED"), description="Fetch history.")
    interval_ms: int = Field(
        300_000, validation_alias=_names("WHATSAPP_SYNC_INTERVAL_MS"), ge=1000, description="Between two look-backs."
    )
    batch_size: int = Field(
        100, validation_alias=_names("WHATSAPP_SYNC_BATCH_SIZE"), ge=1, le=1000, description="Messages a REST page."
    )
    lookback_days: int = Field(
        7, validation_alias=_names("WHATSAPP_SYNC_LOOKBACK_DAYS"), ge=0, le=3650, description="Depth of a look-back."
    )


class LocalSettings(_Section):
    """The local stack of `wapipe up` and `wapipe demo`."""

    kafka_port: Port = Field(9092, validation_alias=_names("WAPIPE_LOCAL_KAFKA_PORT"), description="Broker port.")
    simulator_port: Port = Field(
        3311, validation_alias=_names("WAPIPE_LOCAL_SIMULATOR_PORT"), description="Simulated WAHA's port."
    )
    data_dir: Path | None = Field(
        None, validation_alias=_names("WAPIPE_DATA_DIR"), description="Where `up` keeps its data; ./.wapipe if unset."
    )
    cache_dir: Path | None = Field(
        None, validation_alias=_names("WAPIPE_CACHE_DIR"),
        description="Where downloaded servers are kept; the user's cache folder if unset.",
    )  # fmt: skip
    postgres: Literal["embedded", "timescaledb"] = Field(
        "embedded", validation_alias=_names("WAPIPE_LOCAL_POSTGRES"),
        description="Database of the local stack; timescaledb needs root on Debian.",
    )  # fmt: skip


class AuthSettings(_Section):
    """Kept from the replaced stack's user database."""

    jwt_secret: SecretStr | None = Field(
        None, validation_alias=_names("JWT_SECRET"), description="Reserved: signing key of user tokens."
    )
    jwt_expires_in: str = Field("24h", validation_alias=_names("JWT_EXPIRES_IN"), description="Reserved.")
    jwt_refresh_expires_in: str = Field(
        "7d", validation_alias=_names("JWT_REFRESH_EXPIRES_IN"), description="Reserved."
    )


class LogSettings(_Section):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias=_names("WAPIPE_LOG_LEVEL"), description="Least level that is logged."
    )


class Settings(BaseModel):
    """All sections. Build it with `load_settings`."""

    model_config = ConfigDict(frozen=True)

    kafka: KafkaSettings
    database: DatabaseSettings
    s3: S3Settings
    ingress: IngressSettings
    api: ApiSettings
    consumer: ConsumerSettings
    waha: WahaSettings
    sync: SyncSettings
    local: LocalSettings
    auth: AuthSettings
    log: LogSettings

    @cached_property
    def origin(self) -> str:
        """Where the public port of webhook and API answers on this machine."""
        return f"http://127.0.0.1:{self.api.port}"


# Names of the replaced stack that other parts of its compose file read; wapipe knows them and does not use them.
FOREIGN_NAMES = {
    "WHATSAPP_DASHBOARD_ENABLED": "WAHA's dashboard reads it",
    "WHATSAPP_DASHBOARD_USERNAME": "WAHA's dashboard reads it",
    "WHATSAPP_DASHBOARD_PASSWORD": "WAHA's dashboard reads it",
    "WHATSAPP_REDIS_PORT": "wapipe has no Redis: its queue is a topic, its cache is PostgreSQL",
    "WHATSAPP_REDIS_ENABLED": "wapipe has no Redis: its queue is a topic, its cache is PostgreSQL",
    "WHATSAPP_HOOK_URL": "WAHA reads it: point it at /webhook",
    "WHATSAPP_HOOK_EVENTS": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_POLICY": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_DELAY_SECONDS": "WAHA reads it",
    "WHATSAPP_HOOK_RETRIES_ATTEMPTS": "WAHA reads it",
    "WHATSAPP_HOOK_CUSTOM_HEADERS": "WAHA reads it",
    "WHATSAPP_FILES_LIFETIME": "WAHA reads it",
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


def _sections() -> list[tuple[str, type[_Section]]]:
    return [(n, f.annotation) for n, f in Settings.model_fields.items() if isinstance(f.annotation, type)]


def _fields(cls: type[_Section]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, info in cls.model_fields.items():
        alias = info.validation_alias
        assert isinstance(alias, AliasChoices)
        yield name, tuple(str(c) for c in alias.choices if not isinstance(c, AliasPath))


def _values_of(cls: type[_Section], env: Mapping[str, str]) -> dict[str, Any]:
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


def _explain(cls: type[_Section], error: Any) -> str:
    """One validation error as a sentence, without the value (it may be a secret)."""
    name = str(error["loc"][0]) if error["loc"] else cls.__name__
    message = error["msg"]
    unit = next((u for u in ("_MS", "_S", "_DAYS", "_BYTES", "_ROWS") if name.endswith(u)), None)
    if unit and error["type"] in ("int_parsing", "float_parsing"):
        words = {"_MS": "milliseconds", "_S": "seconds", "_DAYS": "days", "_BYTES": "bytes", "_ROWS": "rows"}
        message = f"a bare number of {words[unit]}: the unit stands in the name"
    return f"{name}: {message}"
