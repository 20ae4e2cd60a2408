"""A port in use is named with its holder and the way out."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pipeline.errors import ConfigError
from pipeline.local.ports import free_port, is_free, require_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


async def test_port_in_use_says_who_and_what_to_set(taken: int) -> None:
    with pytest.raises(ConfigError) as caught:
        await require_free(taken, "Kafka", "WAPIPE_LOCAL_KAFKA_PORT", patience_s=0)
    message = str(caught.value)
    assert f"port {taken} for Kafka is in use by {os.getpid()} (" in message
    assert "set WAPIPE_LOCAL_KAFKA_PORT to another port" in message


async def test_a_free_port_passes_and_is_given_once() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(is_free(p) for p in ports)
    await require_free(ports[0], "Kafka", "WAPIPE_LOCAL_KAFKA_PORT")
