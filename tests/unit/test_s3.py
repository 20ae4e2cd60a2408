"""What is asked of the store on writes, and what its errors mean."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.errors import TransientError
from pipeline.s3 import Bucket, ChangedError, MissingError, RangeError
from pipeline.settings import load_settings

SECURE = {
    "WAPIPE_S3_ENCRYPTION": "aws:kms", "WAPIPE_S3_KMS_KEY_ID": "key-1", "WAPIPE_S3_STORAGE_CLASS": "STANDARD_IA",
}  # fmt: skip


class Client:
    """Remembers what it is asked, and answers with `error` if there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, list[dict[str, Any]]()

    def __getattr__(self, name: str) -> Any:
        async def ask(**options: Any) -> dict[str, Any]:
            self.asked.append(options)
            if self.error is not None:
                raise self.error
            return {"UploadId": "u", "ETag": "e"}

        return ask


def bucket(client: Client, env: dict[str, str] | None = None) -> Bucket:
    return Bucket(client, load_settings(env or {}).s3)  # type: ignore[arg-type]


async def test_encryption_and_storage_class_go_along_with_every_write() -> None:
    client = Client()
    store = bucket(client, SECURE)
    await store.put("k", b"x", "image/jpeg")
    await store.begin("k", "image/jpeg")
    await store.copy("a", "k", "image/jpeg")
    for asked in client.asked:
        assert asked["ServerSideEncryption"] == "aws:kms"
        assert (asked["SSEKMSKeyId"], asked["StorageClass"]) == ("key-1", "STANDARD_IA")
        assert "Metadata" not in asked
    plain = Client()
    await bucket(plain).put("k", b"x", "image/jpeg")
    assert "ServerSideEncryption" not in plain.asked[0]


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("NoSuchKey", 404, MissingError), ("404", 404, MissingError), ("PreconditionFailed", 412, ChangedError),
        ("InvalidRange", 416, RangeError), ("SlowDown", 503, TransientError), ("InternalError", 500, TransientError),
        ("AccessDenied", 403, TransientError), ("NoSuchBucket", 404, TransientError),
        ("InsufficientStorage", 507, TransientError),
    ],
)  # fmt: skip
async def test_an_outage_is_never_the_objects_fault(code: str, status: int, meaning: type[Exception]) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(meaning):
        await bucket(Client(ClientError(answer, "PutObject"))).put("k", b"x", "image/jpeg")


async def test_a_store_that_does_not_answer_is_away() -> None:
    error = EndpointConnectionError(endpoint_url="http://nowhere")
    with pytest.raises(TransientError) as caught:
        await bucket(Client(error)).delete("k")
    assert caught.value.dependency == "s3"
