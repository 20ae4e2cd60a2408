"""The settings' sections: names, defaults, units and meanings. Read by pipeline.settings, handed on one by one.

The names of the stack that wapipe replaces (WHATSAPP_…, POSTGRES_…) keep working as they were; new ones start with
WAPIPE_. A quantity carries its unit in its name (_S, _MS, _DAYS, _BYTES, _ROWS) and is a bare number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


def source_name(name: str) -> str:
    """The name of a further WAHA server. Raises ValueError that says what is wrong with it."""
    if name == "default":
        raise ValueError("the source `default` is the server without a name of its own: choose another name")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise ValueError(f"source {name!r}: letters, digits, - and _ only, 64 at most")
    return name


class Section(BaseSettings):
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
        """Only what it is given: load_settings reads the environment once for all sections."""
        return (init_settings,)


class KafkaSettings(Section):
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


class DatabaseSettings(Section):
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


class S3Settings(Section):
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
    addressing: Literal["path", "virtual"] = Field(
        "path", validation_alias=_names("WAPIPE_S3_ADDRESSING"), description="Where the bucket stands in URLs."
    )
    public_url: str | None = Field(
        None, validation_alias=_names("WAPIPE_S3_PUBLIC_URL"),
        description="S3 endpoint as clients of the API reach it, for presigned URLs; the endpoint itself if unset.",
    )  # fmt: skip
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        None, validation_alias=_names("WAPIPE_S3_ENCRYPTION"), description="Server-side encryption asked for on writes."
    )
    kms_key_id: str | None = Field(
        None, validation_alias=_names("WAPIPE_S3_KMS_KEY_ID"), description="Key of aws:kms; the store's own if unset."
    )
    storage_class: str | None = Field(
        None, validation_alias=_names("WAPIPE_S3_STORAGE_CLASS"),
        description="Storage class asked for on writes, such as STANDARD_IA.",
    )  # fmt: skip

    @property
    def url(self) -> str:
        """Where the S3 API answers."""
        return self.endpoint_url or f"http://{self.host}:{self.api_port}"


class IngressSettings(Section):
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
        2.0, validation_alias=_names("WAPIPE_INGRESS_DEADLINE_S"), gt=0, le=120,
        description="Longest wait for the broker's acknowledgement before the spool takes the event.",
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
            source_name(name)
        return value


class SpoolSettings(Section):
    """The ingress' spool on local disk, for the time that the broker is away."""

    dir: Path | None = Field(
        None, validation_alias=_names("WAPIPE_SPOOL_DIR"),
        description="Its folder, on a local disk that outlives the process; `spool` in the data folder if unset.",
    )  # fmt: skip
    max_bytes: int = Field(
        1024 * 1024 * 1024, validation_alias=_names("WAPIPE_SPOOL_MAX_BYTES"), ge=0,
        description="Most bytes that one ingress process keeps there; more is answered 503. 0: no spool at all.",
    )  # fmt: skip


class ApiSettings(Section):
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


class ConsumerSettings(Section):
    """Every consumer process."""

    batch_rows: int = Field(
        2000, validation_alias=_names("WAPIPE_BATCH_ROWS"), ge=1, le=20000, description="Most records in a batch."
    )
    batch_bytes: int = Field(
        16 * 1024 * 1024, validation_alias=_names("WAPIPE_BATCH_BYTES"), ge=1024,
        description="A batch is closed when its bodies reach this.",
    )  # fmt: skip
    batch_age_ms: int = Field(
        20, validation_alias=_names("WAPIPE_BATCH_AGE_MS"), ge=0, le=10_000,
        description="Longest wait of a batch's first record for company; 0 takes what is there.",
    )  # fmt: skip
    fetch_max_bytes: int = Field(
        8 * 1024 * 1024, validation_alias=_names("WAPIPE_FETCH_MAX_BYTES"), ge=1024,
        description="Most bytes prefetched from the broker in one answer; larger single records still come.",
    )  # fmt: skip
    flood_records: int = Field(
        500, validation_alias=_names("WAPIPE_FLOOD_RECORDS"), ge=1,
        description="A partition with so many dead letters within the window is flooded, and slowed down.",
    )  # fmt: skip
    flood_percent: int = Field(
        20, validation_alias=_names("WAPIPE_FLOOD_PERCENT"), ge=1, le=100,
        description="Only when they are at least so many percent of the partition's records; below it is good again.",
    )  # fmt: skip
    flood_window_s: float = Field(
        60, validation_alias=_names("WAPIPE_FLOOD_WINDOW_S"), gt=0, description="The window of WAPIPE_FLOOD_RECORDS."
    )
    flood_pause_s: float = Field(
        30, validation_alias=_names("WAPIPE_FLOOD_PAUSE_S"), ge=0,
        description="Longest pause between two batches of a flooded partition, from 1 s on doubled; 0 never slows down.",
    )  # fmt: skip
    suspect_after_deaths: int = Field(
        3, validation_alias=_names("WAPIPE_SUSPECT_AFTER_DEATHS"), ge=1,
        description="So many processes that died at one offset, and its batch is tried in a child process first.",
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
    silent_session_s: float = Field(
        12 * 3600, validation_alias=_names("WAPIPE_SILENT_SESSION_S"), gt=0,
        description="A session that WAHA calls WORKING counts as silent when nothing came of it for so long.",
    )  # fmt: skip
    presence_history: bool = Field(
        False, validation_alias=_names("WAPIPE_PRESENCE_HISTORY"),
        description="Keep every presence of a person and not only the last. Nothing deletes them.",
    )  # fmt: skip
    shutdown_grace_s: float = Field(
        20, validation_alias=_names("WAPIPE_SHUTDOWN_GRACE_S"), gt=0,
        description="Longest wait for the batch in flight on SIGTERM. Keep it below the orchestrator's kill delay.",
    )  # fmt: skip


class LocalSettings(Section):
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


class AuthSettings(Section):
    """Kept from the replaced stack's user database."""

    jwt_secret: SecretStr | None = Field(
        None, validation_alias=_names("JWT_SECRET"), description="Reserved: signing key of user tokens."
    )
    jwt_expires_in: str = Field("24h", validation_alias=_names("JWT_EXPIRES_IN"), description="Reserved.")
    jwt_refresh_expires_in: str = Field(
        "7d", validation_alias=_names("JWT_REFRESH_EXPIRES_IN"), description="Reserved."
    )


class LogSettings(Section):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias=_names("WAPIPE_LOG_LEVEL"), description="Least level that is logged."
    )
