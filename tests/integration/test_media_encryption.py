"""Server-side encryption and storage class: what the store is asked for, and what it says of the objects afterwards.

The store of the tests keeps both, but has no KMS: there only the requests are looked at.
"""

from __future__ import annotations

import secrets
from collections import defaultdict

import pytest
from starlette.requests import Request

from pipeline.errors import TransientError
from pipeline.local.s3 import Bucket as LocalBucket
from pipeline.local.s3 import s3_client
from pipeline.media.objects import object_key, thumbnail_key
from pipeline.s3 import PART_BYTES, open_bucket
from pipeline.settings import load_settings
from tests.integration.busy_store import busy_store
from tests.integration.files import JPEG, Files, digest, downloading, media_environment, media_message, open_desk
from tests.integration.media_fixtures import emptied
from tests.stack import Servers

_ASKED = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-storage-class")
Asked = tuple[str | None, ...]


def made(request: Request) -> str | None:
    """How the request makes a new object; None for every other request."""
    if request.method == "POST" and "uploads" in request.query_params:
        return "parts"
    if request.method != "PUT" or "partNumber" in request.query_params:
        return None
    return "copy" if "x-amz-copy-source" in request.headers else "whole"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"WAPIPE_S3_ENCRYPTION": "AES256", "WAPIPE_S3_STORAGE_CLASS": "STANDARD_IA"}, ("AES256", None, "STANDARD_IA")),
        ({}, (None, None, None)),
    ],
    ids=["set", "not set"],
)
async def test_every_object_is_written_as_the_settings_say(
    servers: Servers, files: Files, migrated_database: str, options: dict[str, str], asked: Asked
) -> None:
    """A small file, a large one in parts, its copy to where it belongs, and a thumbnail."""
    database, s3 = await emptied(servers, migrated_database), await servers.s3()
    large = secrets.token_bytes(PART_BYTES + 7)
    seen: dict[tuple[str, str], set[Asked]] = defaultdict(set)

    def watch(request: Request) -> bool:
        """Refuses nothing."""
        if how := made(request):
            seen[request.url.path.split("/")[2], how].add(tuple(request.headers.get(name) for name in _ASKED))
        return False

    async with busy_store(s3.url) as store:
        store.refuses = watch
        environment = await media_environment(servers, files, database, WAPIPE_MEDIA_THUMBNAILS="true")
        environment |= options | {"WAPIPE_S3_ENDPOINT_URL": store.url}
        async with open_desk(environment) as desk, downloading(desk):
            await desk.told(
                media_message("A", files.add("A.jpeg", JPEG)),
                media_message("L", files.add("L.mp4", large), kind="video"),
            )
            await desk.settled()
            await desk.thumbnails_settled()
        bucket = desk.settings.s3.bucket
    ways = [("sha256", "whole"), ("incoming", "parts"), ("sha256", "copy"), ("thumbnails", "whole")]
    assert seen == {way: {asked} for way in ways}
    async with s3_client(s3.url, LocalBucket(bucket, s3.access_key, s3.secret)) as client:
        for key in (object_key(digest(JPEG)), object_key(digest(large)), thumbnail_key(digest(JPEG))):
            head = await client.head_object(Bucket=bucket, Key=key)
            assert (head.get("ServerSideEncryption"), None, head.get("StorageClass")) == asked, key


async def test_a_key_of_kms_goes_along_with_every_new_object(servers: Servers, files: Files) -> None:
    seen: dict[str, Asked] = {}

    def refuse(request: Request) -> bool:
        seen[made(request) or request.method] = tuple(request.headers.get(name) for name in _ASKED)
        return True

    async with busy_store((await servers.s3()).url) as store:
        store.refuses = refuse
        environment = await media_environment(
            servers, files, "unused", WAPIPE_S3_ENCRYPTION="aws:kms", WAPIPE_S3_KMS_KEY_ID="alias/media"
        )
        settings = load_settings(environment | {"WAPIPE_S3_ENDPOINT_URL": store.url})
        async with open_bucket(settings.s3) as bucket:
            for work in (
                bucket.put("sha256/a", b"a", "image/jpeg"),
                bucket.begin("incoming/a", "image/jpeg"),
                bucket.copy("incoming/a", "sha256/a", "image/jpeg"),
            ):
                with pytest.raises(TransientError):
                    await work
    assert seen == dict.fromkeys(("whole", "parts", "copy"), ("aws:kms", "alias/media", None))
