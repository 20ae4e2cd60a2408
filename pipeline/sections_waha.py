"""The settings' sections about WAHA's servers and what is fetched from them. See pipeline.sections for the rules."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator

from pipeline.sections import Port, Section, source_name


def base_url(url: str) -> str:
    """Without a slash at its end. Raises ValueError for what is no http(s) URL, and for credentials in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an http(s) URL without credentials, such as http://waha:3000")
    return url.rstrip("/")


class WahaSettings(Section):
    """The WAHA servers that wapipe reads from."""

    core_port: Port = Field(3311, validation_alias=AliasChoices("WHATSAPP_CORE_PORT"), description="WAHA's port.")
    url: str | None = Field(
        None, validation_alias=AliasChoices("WAPIPE_WAHA_URL"), description="WAHA's base URL; from the port if unset."
    )
    api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("WHATSAPP_API_KEY"), description="WAHA's X-Api-Key."
    )
    webhook_url: str | None = Field(
        None, validation_alias=AliasChoices("WHATSAPP_HOOK_URL"),
        description="WAHA's own name: the webhook's URL as WAHA reaches it, for `wapipe waha`; of this machine if unset.",
    )  # fmt: skip
    source_urls: dict[str, str] = Field(
        default_factory=dict, validation_alias=AliasChoices("WAPIPE_WAHA_SOURCE_URLS"),
        description='Base URLs of further WAHA servers by source, as JSON: {"berlin": "http://waha-2:3000"}.',
    )  # fmt: skip
    source_api_keys: dict[str, SecretStr] = Field(
        default_factory=dict, validation_alias=AliasChoices("WAPIPE_WAHA_SOURCE_API_KEYS"),
        description='Their X-Api-Key, as JSON: {"berlin": "key"}.',
    )  # fmt: skip
    max_in_flight: int = Field(
        4, validation_alias=AliasChoices("WAPIPE_WAHA_MAX_IN_FLIGHT"), ge=1, le=100,
        description="Requests at a time to one WAHA server.",
    )  # fmt: skip
    rate_per_s: float = Field(
        50, validation_alias=AliasChoices("WAPIPE_WAHA_RATE_PER_S"), gt=0, le=10_000,
        description="Most requests a second to one WAHA server.",
    )  # fmt: skip
    timeout_s: float = Field(
        30, validation_alias=AliasChoices("WAPIPE_WAHA_TIMEOUT_S"), gt=0, le=900,
        description="Longest single request. WAHA itself waits 15 s for a session that is starting.",
    )  # fmt: skip
    deadline_s: float = Field(
        120, validation_alias=AliasChoices("WAPIPE_WAHA_DEADLINE_S"), gt=0, le=3600,
        description="Longest call, its retries included.",
    )  # fmt: skip
    max_answer_bytes: int = Field(
        64 * 1024 * 1024, validation_alias=AliasChoices("WAPIPE_WAHA_MAX_ANSWER_BYTES"), ge=1024,
        description="Larger answers are cut off; a page of messages is then asked for in smaller ones.",
    )  # fmt: skip

    @field_validator("url", "webhook_url")
    @classmethod
    def _one_url(cls, value: str | None) -> str | None:
        return value if value is None else base_url(value)

    @field_validator("source_urls")
    @classmethod
    def _urls(cls, value: dict[str, str]) -> dict[str, str]:
        return {source_name(name): base_url(url) for name, url in value.items()}

    def base_urls(self) -> dict[str, str]:
        """The base URL of every configured server, by source."""
        return {"default": self.url or f"http://127.0.0.1:{self.core_port}", **self.source_urls}


class SyncSettings(Section):
    """Backfill, as the replaced stack named it."""

    enabled: bool = Field(True, validation_alias=AliasChoices("WHATSAPP_SYNC_ENABLED"), description="Fetch history.")
    interval_ms: int = Field(
        300_000,
        validation_alias=AliasChoices("WHATSAPP_SYNC_INTERVAL_MS"),
        ge=1000,
        description="Between two look-backs.",
    )
    batch_size: int = Field(
        100,
        validation_alias=AliasChoices("WHATSAPP_SYNC_BATCH_SIZE"),
        ge=1,
        le=1000,
        description="Messages a REST page.",
    )
    lookback_days: int = Field(
        7,
        validation_alias=AliasChoices("WHATSAPP_SYNC_LOOKBACK_DAYS"),
        ge=0,
        le=3650,
        description="Depth of a look-back.",
    )
    walkers: int = Field(
        4, validation_alias=AliasChoices("WAPIPE_SYNC_MAX_IN_FLIGHT"), ge=1, le=64,
        description="Requests that one sync process works on at a time.",
    )  # fmt: skip
    max_lag_records: int = Field(
        20_000, validation_alias=AliasChoices("WAPIPE_SYNC_MAX_LAG_RECORDS"), ge=0,
        description="Fetching waits while a consumer has more records of waha.backfill before it.",
    )  # fmt: skip
    max_live_lag_records: int = Field(
        2_000, validation_alias=AliasChoices("WAPIPE_SYNC_MAX_LIVE_LAG_RECORDS"), ge=0,
        description="Fetching waits while a consumer has more records of waha.message before it.",
    )  # fmt: skip
    max_live_lag_s: float = Field(
        0.5, validation_alias=AliasChoices("WAPIPE_SYNC_MAX_LIVE_LAG_S"), gt=0,
        description="Or more of them than come in so many seconds (200 at least).",
    )  # fmt: skip
    lease_s: float = Field(
        30, validation_alias=AliasChoices("WAPIPE_SYNC_LEASE_S"), ge=1, le=3600,
        description="How long a request of a process that died waits for another one.",
    )  # fmt: skip
    overlap_s: int = Field(
        900, validation_alias=AliasChoices("WAPIPE_SYNC_OVERLAP_S"), ge=0, le=86_400,
        description="A look-back begins so long before the end of the one before: what WAHA learns late is found.",
    )  # fmt: skip
    people_interval_s: float = Field(
        21_600, validation_alias=AliasChoices("WAPIPE_SYNC_PEOPLE_INTERVAL_S"), ge=60,
        description="Between two readings of contacts, groups, hidden ids and labels.",
    )  # fmt: skip
    restart_deaf_sessions: bool = Field(
        False, validation_alias=AliasChoices("WAPIPE_SYNC_RESTART_SILENT"),
        description="Restart a session that works and whose webhooks have stopped; hourly at most. The key must be allowed to.",
    )  # fmt: skip
