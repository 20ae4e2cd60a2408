"""The object store at the edge: what is asked of a bucket, and the translation of its errors into ours.

aioboto3 is imported when a bucket is opened: that costs over a second, which commands that need no bucket do not pay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import TransientError, WapipeError
from pipeline.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

PART_BYTES = 5 * 1024 * 1024  # S3's least for a part that is not the last
_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_CHANGED = frozenset({"412", "PreconditionFailed"})


class MissingError(WapipeError):
    """The bucket has no such object."""


class ChangedError(WapipeError):
    """The object is not the one that was read before."""


class RangeError(WapipeError):
    """The object has no such part."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a listing."""

    key: str
    bytes: int
    modified: datetime


@dataclass(slots=True)
class Opened:
    """An object that is being read. `range_` is the Content-Range of a part."""

    length: int
    etag: str
    chunks: AsyncIterator[bytes]
    range_: str | None = None


class Bucket:
    """One bucket. Made by open_bucket. Every method raises TransientError while the store is away."""

    def __init__(self, client: S3Client, settings: S3Settings) -> None:
        self._client: Any = client  # options come as mappings, which the stubs' overloads do not take
        self.name = settings.bucket
        self._options: dict[str, str] = {}
        if settings.encryption is not None:
            self._options["ServerSideEncryption"] = settings.encryption
        if settings.kms_key_id is not None:
            self._options["SSEKMSKeyId"] = settings.kms_key_id
        if settings.storage_class is not None:
            self._options["StorageClass"] = settings.storage_class

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """A whole object."""
        async with _translated():
            await self._client.put_object(
                Bucket=self.name, Key=key, Body=data, ContentType=content_type, **self._options
            )

    async def begin(self, key: str, content_type: str) -> str:
        """Begins an upload in parts; answers its id."""
        async with _translated():
            answer = await self._client.create_multipart_upload(
                Bucket=self.name, Key=key, ContentType=content_type, **self._options
            )
            return str(answer["UploadId"])

    async def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """A part, counted from 1; answers its ETag."""
        async with _translated():
            answer = await self._client.upload_part(
                Bucket=self.name, Key=key, UploadId=upload, PartNumber=number, Body=data
            )
            return str(answer["ETag"])

    async def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Makes an object of the parts."""
        parts = [{"ETag": etag, "PartNumber": n} for n, etag in enumerate(etags, 1)]
        async with _translated():
            await self._client.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )

    async def abort(self, key: str, upload: str) -> None:
        """Throws the parts away; one that is gone already is no error."""
        try:
            async with _translated():
                await self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)
        except MissingError:
            pass

    async def copy(
        self, key: str, to: str, content_type: str, *, bucket: str | None = None, etag: str | None = None
    ) -> None:
        """Copies inside the store, of another bucket too. With `etag` only that very object: raises ChangedError."""
        only = {"CopySourceIfMatch": etag} if etag else {}
        async with _translated():
            await self._client.copy_object(
                Bucket=self.name, Key=to, CopySource={"Bucket": bucket or self.name, "Key": key},
                MetadataDirective="REPLACE", ContentType=content_type, **self._options, **only,
            )  # fmt: skip

    async def delete(self, key: str) -> None:
        """Gone afterwards, whether it was there or not."""
        async with _translated():
            await self._client.delete_object(Bucket=self.name, Key=key)

    async def size(self, key: str) -> int:
        """Raises MissingError."""
        async with _translated():
            return int((await self._client.head_object(Bucket=self.name, Key=key))["ContentLength"])

    @asynccontextmanager
    async def read(self, key: str, *, bucket: str | None = None, range_: str | None = None) -> AsyncIterator[Opened]:
        """The object, or a part of it (an HTTP Range). Raises MissingError, RangeError."""
        part = {"Range": range_} if range_ else {}
        async with _translated():
            answer = await self._client.get_object(Bucket=bucket or self.name, Key=key, **part)
            async with answer["Body"] as body:
                chunks = body.content.iter_chunked(256 * 1024)
                yield Opened(int(answer["ContentLength"]), answer["ETag"], chunks, answer.get("ContentRange"))

    async def entries(self, prefix: str) -> AsyncIterator[Entry]:
        """Every object whose key begins so."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        async with _translated():
            async for page in pages:
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"], item["Size"], item["LastModified"])

    async def uploads(self, prefix: str) -> list[tuple[str, str, datetime]]:
        """Uploads in parts that nobody completed: key, id, when they were begun."""
        found: list[tuple[str, str, datetime]] = []
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix)
        async with _translated():
            async for page in pages:
                found += [(u["Key"], u["UploadId"], u["Initiated"]) for u in page.get("Uploads", ())]
        return found

    async def presigned(self, key: str, expires_s: int, overrides: Mapping[str, str]) -> str:
        """A URL by which anybody may read the object for a while. `overrides`: Response… parameters of GetObject."""
        params = {"Bucket": self.name, "Key": key, **overrides}
        return str(await self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s))


@asynccontextmanager
async def open_bucket(settings: S3Settings, *, connections: int = 10, url: str | None = None) -> AsyncIterator[Bucket]:
    """The configured bucket; `url` instead of the configured address, to sign for clients elsewhere."""
    secret = settings.secret_key.get_secret_value() if settings.secret_key is not None else None
    async with open_client(
        url or settings.url, (settings.access_key, secret) if secret else None, region=settings.region,
        addressing=settings.addressing, connections=connections,
    ) as client:  # fmt: skip
        yield Bucket(client, settings)


@asynccontextmanager
async def open_client(
    url: str, keys: tuple[str, str] | None, *, region: str, addressing: str = "path", connections: int = 10,
    tries: int = 2, connect_timeout_s: float = 5, read_timeout_s: float = 60,
) -> AsyncIterator[S3Client]:  # fmt: skip
    """A client of a store. `keys`: access key id and secret; None: whatever the machine's role or environment gives."""
    import aioboto3  # noqa: PLC0415 - see module
    from aiobotocore.config import AioConfig  # noqa: PLC0415

    config = AioConfig(
        retries={"total_max_attempts": tries, "mode": "standard"}, connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s, max_pool_connections=connections, s3={"addressing_style": addressing},
        signature_version="s3v4",
        # Checksums in trailers are refused by stores that are not Amazon's; our own SHA-256 goes further.
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    own = {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]} if keys else {}
    session = aioboto3.Session(region_name=region, **own)
    async with session.client("s3", endpoint_url=url, config=config) as client:
        yield client


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """What botocore raises, as MissingError, ChangedError, RangeError or TransientError: an outage is never the object's
    fault, and an access that is denied is an operator's to grant."""
    from aiohttp import ClientError as HttpError  # noqa: PLC0415 - see module
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as exc:
        code, status = exc.response["Error"].get("Code", ""), exc.response["ResponseMetadata"].get("HTTPStatusCode")
        if code in _MISSING:
            raise MissingError(f"{exc.operation_name}: {code}") from exc
        if code in _CHANGED:
            raise ChangedError(f"{exc.operation_name}: {code}") from exc
        if status == 416:
            raise RangeError(code) from exc
        raise TransientError("s3", f"{exc.operation_name} answered {status} {code}") from exc
    except (TimeoutError, BotoCoreError, HttpError, OSError) as exc:
        raise TransientError("s3", f"{type(exc).__name__}: {exc}"[:200]) from exc
