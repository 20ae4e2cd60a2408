"""The servers of the local stack are the real ones, closed to strangers, and come back with what they had."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from botocore.exceptions import ClientError

from pipeline.local.s3 import Bucket, s3_client
from tests.stack import DatabaseServer, S3Server

LARGE = 16 * 1024 * 1024


async def test_kafka_takes_a_topic_and_the_largest_record(kafka_bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        limit = {"max.message.bytes": str(17 * 1024 * 1024)}
        await admin.create_topics([NewTopic("local-test", 3, 1, topic_configs=limit)])
    finally:
        await admin.close()

    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, enable_idempotence=True, max_request_size=17 * 1024 * 1024
    )
    await producer.start()
    try:
        sent = await producer.send_and_wait("local-test", b"x" * LARGE, partition=1)
    finally:
        await producer.stop()

    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition("local-test", 1)])
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert (record.offset, len(record.value)) == (sent.offset, LARGE)


async def test_kafka_makes_no_topic_by_itself(kafka_bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics(["never-created"])
        assert "never-created" not in await admin.list_topics()
    finally:
        await admin.close()
    assert described[0]["error_code"] == 3  # UNKNOWN_TOPIC_OR_PARTITION


async def test_database_needs_its_password(database_server: DatabaseServer) -> None:
    await _needs_its_password(database_server)


async def test_embedded_database_needs_its_password(plain_postgres: DatabaseServer) -> None:
    await _needs_its_password(plain_postgres)


async def _needs_its_password(server: DatabaseServer) -> None:
    database = await server.create_database()
    connection = await server.connect(database)
    try:
        assert await connection.fetchval("SELECT current_database()") == database
        assert await connection.fetchval("SHOW fsync") == "on"
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password="wrong",
            database=database,
            ssl=False,
        )


async def test_timescaledb_makes_hypertables(timescaledb: DatabaseServer) -> None:
    connection = await timescaledb.connect(await timescaledb.create_database())
    try:
        await connection.execute("CREATE EXTENSION timescaledb")
        await connection.execute("CREATE TABLE t (at timestamptz NOT NULL)")
        await connection.execute("SELECT create_hypertable('t', by_range('at'))")
        await connection.execute("INSERT INTO t VALUES (now())")
        assert await connection.fetchval("SELECT count(*) FROM show_chunks('t')") == 1
    finally:
        await connection.close()


async def test_s3_is_private(s3_server: S3Server) -> None:
    bucket = Bucket(s3_server.bucket, s3_server.access_key, s3_server.secret)
    async with s3_client(s3_server.url, bucket) as client:
        await client.put_object(Bucket=bucket.name, Key="media/one", Body=b"picture")
        stored = await client.get_object(Bucket=bucket.name, Key="media/one")
        assert await stored["Body"].read() == b"picture"
        url = await client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket.name, "Key": "media/one"}, ExpiresIn=60
        )
    async with httpx.AsyncClient() as anonymous:
        assert (await anonymous.get(url)).content == b"picture"
        for path in ("", "/media/one"):
            assert (await anonymous.get(f"{s3_server.url}/{bucket.name}{path}")).status_code == 403
        put = await anonymous.put(f"{s3_server.url}/{bucket.name}/media/two", content=b"x")
        assert put.status_code == 403


async def test_s3_has_no_back_door(s3_server: S3Server) -> None:
    """The ports behind the S3 one (filer, volumes, master) would hand out every object."""
    async with httpx.AsyncClient() as anonymous:
        for port in s3_server.child.service.ports[1:]:
            try:
                answer = await anonymous.get(f"http://127.0.0.1:{port}/buckets/{s3_server.bucket}/media/one")
            except httpx.RemoteProtocolError:  # gRPC
                continue
            assert answer.status_code in {400, 401, 404}, f"port {port}"


async def test_s3_takes_parts_and_conditions(s3_server: S3Server) -> None:
    bucket = Bucket(s3_server.bucket, s3_server.access_key, s3_server.secret)
    at: dict[str, Any] = {"Bucket": bucket.name, "Key": "media/parts"}
    async with s3_client(s3_server.url, bucket) as client:
        upload = (await client.create_multipart_upload(**at))["UploadId"]
        parts: list[Any] = []
        for number, body in enumerate((b"a" * 5 * 1024 * 1024, b"b"), 1):
            part = await client.upload_part(**at, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        await client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
        assert (await client.head_object(**at))["ContentLength"] == 5 * 1024 * 1024 + 1
        with pytest.raises(ClientError, match="PreconditionFailed"):
            await client.put_object(**at, Body=b"again", IfNoneMatch="*")


async def test_pgbouncer_pools_transactions(pgbouncer: int, database_server: DatabaseServer) -> None:
    database = await database_server.create_database()
    connection = await asyncpg.connect(
        host="127.0.0.1", port=pgbouncer, user=database_server.user, password=database_server.password,
        database=database, ssl=False, statement_cache_size=0,
    )  # fmt: skip
    try:
        async with connection.transaction():
            assert await connection.fetchval("SELECT current_database()") == database
    finally:
        await connection.close()
