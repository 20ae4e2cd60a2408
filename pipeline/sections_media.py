"""The settings of files: names, defaults, units and meanings. See pipeline.sections."""

from __future__ import annotations

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from pipeline.sections import Section


class MediaSettings(Section):
    """Files of messages: from WAHA into S3."""

    files_lifetime_s: float = Field(
        180, validation_alias=AliasChoices("WHATSAPP_FILES_LIFETIME"), ge=0,
        description="Seconds until WAHA deletes a file; 0: never. WAHA's own name: one .env serves both.",
    )  # fmt: skip
    concurrency: int = Field(
        16,
        validation_alias=AliasChoices("WAPIPE_MEDIA_MAX_IN_FLIGHT"),
        ge=1,
        le=200,
        description="Downloads at a time.",
    )
    server_concurrency: int = Field(
        12, validation_alias=AliasChoices("WAPIPE_MEDIA_SERVER_MAX_IN_FLIGHT"), ge=1, le=200,
        description="Downloads at a time from one WAHA server.",
    )  # fmt: skip
    in_flight_bytes: int = Field(
        128 * 1024 * 1024, validation_alias=AliasChoices("WAPIPE_MEDIA_IN_FLIGHT_BYTES"), ge=16 * 1024 * 1024,
        description="Most bytes of files in memory at once; one file takes 10 MiB of it at most.",
    )  # fmt: skip
    lease_s: float = Field(
        30, validation_alias=AliasChoices("WAPIPE_MEDIA_LEASE_S"), ge=1, le=3600,
        description="So long after a process died its downloads are taken up by another.",
    )  # fmt: skip
    timeout_s: float = Field(
        900, validation_alias=AliasChoices("WAPIPE_MEDIA_TIMEOUT_S"), gt=0,
        description="Longest single download. A server that is silent for 30 s is given up earlier.",
    )  # fmt: skip
    max_bytes: int = Field(
        2 * 1024**3, validation_alias=AliasChoices("WAPIPE_MEDIA_MAX_BYTES"), ge=0, le=5 * 1024**3,
        description="Larger files are skipped.",
    )  # fmt: skip
    type_max_bytes: dict[str, int] = Field(
        default_factory=dict, validation_alias=AliasChoices("WAPIPE_MEDIA_TYPE_MAX_BYTES"),
        description='Other limits by message type, as JSON: {"video": 16777216, "sticker": 0}; 0 skips the type.',
    )  # fmt: skip
    quoted: bool = Field(
        False,
        validation_alias=AliasChoices("WAPIPE_MEDIA_QUOTED"),
        description="Also fetch the files of quoted messages.",
    )
    origins: str = Field(
        "", validation_alias=AliasChoices("WAPIPE_MEDIA_ORIGINS"),
        description="Further origins that files are fetched from, comma separated: the S3 of WAHA, as its URLs name it.",
    )  # fmt: skip
    waha_buckets: str = Field(
        "", validation_alias=AliasChoices("WAPIPE_MEDIA_WAHA_BUCKETS"),
        description="Buckets of WAHA in our own S3 store, comma separated: files are copied there, not downloaded.",
    )  # fmt: skip
    ask_rate_per_s: float = Field(
        0.5, validation_alias=AliasChoices("WAPIPE_MEDIA_ASK_RATE_PER_S"), gt=0,
        description="Most files a second that WAHA is asked to download again, of one session; a minute's worth at once.",
    )  # fmt: skip
    ask_times: int = Field(
        5, validation_alias=AliasChoices("WAPIPE_MEDIA_ASK_TIMES"), ge=1,
        description="So often WAHA is asked for a file that it does not have; then the job is expired.",
    )  # fmt: skip
    ask_backoff_s: float = Field(
        60, validation_alias=AliasChoices("WAPIPE_MEDIA_ASK_BACKOFF_S"), ge=0,
        description="Wait after the first of them; five times as long after each further one.",
    )  # fmt: skip
    scan_command: str | None = Field(
        None, validation_alias=AliasChoices("WAPIPE_MEDIA_SCAN_COMMAND"),
        description="Gets each file on its input; exit code 0 keeps it, 1 quarantines it: `clamdscan --no-summary -`.",
    )  # fmt: skip
    clamd: str | None = Field(
        None, validation_alias=AliasChoices("WAPIPE_MEDIA_CLAMD"),
        description="clamd instead of a command: host:port, or the path of its unix socket.",
    )  # fmt: skip
    scan_timeout_s: float = Field(
        120, validation_alias=AliasChoices("WAPIPE_MEDIA_SCAN_TIMEOUT_S"), gt=0, description="Longest wait for it."
    )
    thumbnails: bool = Field(
        True, validation_alias=AliasChoices("WAPIPE_MEDIA_THUMBNAILS"), description="Make thumbnails."
    )
    thumbnail_pixels: int = Field(
        320, validation_alias=AliasChoices("WAPIPE_MEDIA_THUMBNAIL_PIXELS"), ge=16, le=2048,
        description="Longest edge of a thumbnail.",
    )  # fmt: skip
    profile_pictures: bool = Field(
        False, validation_alias=AliasChoices("WAPIPE_MEDIA_PROFILE_PICTURES"),
        description="Also fetch profile pictures of people and groups that were met in the last 30 days.",
    )  # fmt: skip
    picture_apart_s: float = Field(
        10, validation_alias=AliasChoices("WAPIPE_MEDIA_PICTURE_APART_S"), gt=0,
        description="From one profile picture to the next, of a process: WhatsApp stops who asks for many.",
    )  # fmt: skip
    picture_every_s: float = Field(
        7 * 24 * 3600, validation_alias=AliasChoices("WAPIPE_MEDIA_PICTURE_EVERY_S"), gt=0,
        description="After so long it is asked whether somebody has another picture.",
    )  # fmt: skip
    picture_origins: str = Field(
        "https://pps.whatsapp.net", validation_alias=AliasChoices("WAPIPE_MEDIA_PICTURE_ORIGINS"),
        description="Where profile pictures are fetched from, comma separated: WhatsApp's own server of them.",
    )  # fmt: skip
    proxy: bool = Field(
        False, validation_alias=AliasChoices("WAPIPE_MEDIA_PROXY"),
        description="The API sends files itself, instead of sending clients to the store.",
    )  # fmt: skip
    link_s: int = Field(
        300, validation_alias=AliasChoices("WAPIPE_MEDIA_LINK_S"), ge=1, le=7 * 24 * 3600,
        description="Life of a presigned URL that the API gives out.",
    )  # fmt: skip
    sweep_grace_s: float = Field(
        24 * 3600, validation_alias=AliasChoices("WAPIPE_MEDIA_SWEEP_GRACE_S"), ge=0,
        description="`wapipe media sweep` leaves alone what was stored or claimed later than so long ago.",
    )  # fmt: skip

    @field_validator("clamd")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("scan_command"):
            raise ValueError("only one of WAPIPE_MEDIA_SCAN_COMMAND and WAPIPE_MEDIA_CLAMD can scan")
        host, _, port = value.rpartition(":")
        if not value.startswith("/") and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError("must be host:port, or the path of a unix socket")
        return value

    def cap_bytes(self, kind: str) -> int:
        """Most bytes of a file of a message of this type."""
        return min(self.max_bytes, self.type_max_bytes.get(kind, self.max_bytes))
