"""A broker and a database that can be broken: a broker with many addresses, each the one of a proxy, and servers that go down
and come up again."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import psutil

from pipeline.local.child import Child
from pipeline.local.kafka import install_kafka, kafka_service
from pipeline.local.ports import free_port
from pipeline.local.service import Service
from pipeline.local.state import wait_gone
from tests.faults.proxy import Proxy
from tests.stack import KafkaServer, Servers

_MOST_SITES = 8  # at a time on one broker: each is told an address of its own
# A broker that comes back beside forty processes that wait for it, on two cores of a busy machine, was once not ready after 90 s.
_READY_S = 300


class ProxiedServers(Servers):
    """Servers whose broker advertises further addresses: those of `proxies`, of which each site takes one."""

    def __init__(self) -> None:
        super().__init__()
        self._behind = [free_port() for _ in range(_MOST_SITES)]
        self.proxies = [Proxy(port) for port in self._behind]

    async def _kafka(self) -> KafkaServer:
        broker = await install_kafka(self.cache, self._env)
        port, controller, data = free_port(), free_port(), self.root / "kafka"
        service = kafka_service(
            broker, data=data, logs=self.root / "logs", port=port, controller_port=controller, env=self._env
        )
        own = {f"PROXIED{n}": ports for n, ports in enumerate(zip(self._behind, self.proxies, strict=True))}
        bound = "".join(f",{name}://127.0.0.1:{behind}" for name, (behind, _) in own.items())
        told = "".join(f",{name}://127.0.0.1:{proxy.port}" for name, (_, proxy) in own.items())
        listeners = (
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{bound}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}{told}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
            f"{''.join(f',{name}:PLAINTEXT' for name in own)}\n"
            "log.retention.check.interval.ms=500\nlog.initial.task.delay.ms=500\n"
        )

        async def prepare() -> None:
            assert service.prepare
            await service.prepare()
            with (data / "server.properties").open("a") as properties:
                properties.write(listeners)

        return KafkaServer(port, await self._run(replace(service, prepare=prepare)))


class Server:
    """A server that goes down and comes up again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._service: Service = replace(child.service, ready_timeout_s=_READY_S)

    async def kill(self) -> None:
        """kill -9 of all its processes; returns when they are gone."""
        family = [psutil.Process(self.child.pid), *psutil.Process(self.child.pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self.child.wait()
        await asyncio.to_thread(wait_gone, family, 30)

    async def down(self) -> None:
        """Stops it cleanly."""
        await self.child.stop()

    async def up(self) -> None:
        """Starts it again; returns when it is ready."""
        self.child = Child(self._service, self.child.log)
        await self.child.start()
        await self.child.wait_ready()
