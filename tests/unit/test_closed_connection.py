"""A connection that the broker has closed, under uvloop: an error that aiokafka's background tasks survive."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import pipeline.broker  # noqa: F401 - what is tested is done to aiokafka when it is imported


async def _send_on_a_closed_transport(*, token: bool) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection._reader, connection._writer, connection._read_task = reader, writer, asyncio.create_task(reader.read())
    connection._versions = {MetadataRequest.API_KEY: (0, 0)}
    writer.transport.abort()
    await connection._read_task
    try:
        send, what = (connection._send_sasl_token, b"x") if token else (connection.send, MetadataRequest([]))
        with pytest.raises(KafkaConnectionError, match="the handler is closed"):
            await send(what)
        assert not connection.connected()
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("token", [False, True])
def test_a_request_on_a_closed_connection_is_an_error_of_the_connection(token: bool) -> None:
    uvloop.run(_send_on_a_closed_transport(token=token))
