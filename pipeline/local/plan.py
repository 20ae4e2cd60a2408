"""Which services a stack has: from the settings to the list that the supervisor runs.

Three parts: `resolve` settles the settings (addresses of the local servers, free ports for 0), `install`
downloads what is missing, `services` builds the list. Only `services` knows what needs what.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from pipeline.errors import ConfigError
from pipeline.local import kafka, postgres, s3, timescaledb
from pipeline.local.cache import Say, cache_root, silent
from pipeline.local.environment import to_environment, without_settings
from pipeline.local.http import fetch
from pipeline.local.ports import free_port, require_free
from pipeline.local.service import Service
from pipeline.process import Process
from pipeline.settings import Settings, require_secret

SERVERS = ("kafka", "postgres", "s3")
_STEP_S = 180


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: servers of `SERVERS`, wapipe processes with the port of each, resolved settings."""

    settings: Settings
    servers: tuple[str, ...]
    processes: tuple[tuple[Process, int], ...]
    data: Path
    environ: Mapping[str, str]  # what the user has set; children get it without settings, then the settings

    @property
    def public_ports(self) -> list[tuple[int, str, str]]:
        """Port, who has it, and the variable that moves it."""
        have = {
            "kafka": (self.settings.local.kafka_port, "Kafka", "WAPIPE_LOCAL_KAFKA_PORT"),
            "postgres": (self.settings.database.port, "PostgreSQL", "WHATSAPP_DB_PORT"),
            "s3": (self.settings.s3.api_port, "S3", "WHATSAPP_MINIO_API_PORT"),
        }
        return [have[s] for s in self.servers] + [(port, p.name, _variable(p)) for p, port in self.processes]


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the programs of the servers are; None for those that are not part of the plan."""

    broker: kafka.Broker | None = None
    chroot: Path | None = None
    weed: Path | None = None


def resolve(
    settings: Settings,
    servers: Iterable[str],
    processes: Sequence[Process],
    data: Path,
    environ: Mapping[str, str],
) -> Plan:
    """The plan. Raises ConfigError that names every secret that is missing."""
    chosen = tuple(s for s in SERVERS if s in set(servers))
    _require_secrets(settings, chosen, {p.name for p in processes})
    settings = _settled(settings, chosen, data)
    first = settings.consumer.metrics_port
    ports = [(p, _port(p, settings, None if first is None else first + n)) for n, p in enumerate(processes)]
    return Plan(settings, chosen, tuple(ports), data, environ)


async def check_ports(plan: Plan) -> None:
    """Raises ConfigError for the first port that somebody else has."""
    for port, service, variable in plan.public_ports:
        await require_free(port, service, variable)


async def install(plan: Plan, say: Say = silent) -> Installed:
    """Downloads what is missing, all at once. Raises InstallError, ConfigError."""
    root = cache_root(plan.settings.local)

    async def broker() -> kafka.Broker | None:
        env = without_settings(plan.environ)
        return await kafka.install_kafka(root, env, say) if "kafka" in plan.servers else None

    async def chroot() -> Path | None:
        if "postgres" not in plan.servers or plan.settings.local.postgres != "timescaledb":
            return None
        if reason := timescaledb.unavailable():
            raise ConfigError(f"WAPIPE_LOCAL_POSTGRES=timescaledb: {reason}")
        return await timescaledb.install_timescaledb(root, plan.environ, say)

    weed = s3.find_weed() if "s3" in plan.servers else None
    found_broker, found_chroot = await asyncio.gather(broker(), chroot())
    return Installed(found_broker, found_chroot, weed)


def services(plan: Plan, installed: Installed) -> list[Service]:
    """Everything of the plan, with what each needs. Pure: nothing is started or written."""
    outside = without_settings(plan.environ)
    inside = outside | to_environment(plan.settings)
    found = [_server(name, plan, installed, outside) for name in plan.servers]
    if plan.processes:
        steps = [_step("migrate", ("migrate",), ("postgres", "timescaledb"), inside)]
        steps.append(_step("topics", ("topics", "apply"), ("kafka",), inside))
        needs = tuple(s.name for s in (*found, *steps))
        found += steps
        found += [_process(p, port, needs, plan.settings, inside) for p, port in plan.processes]
    return found


def _server(name: str, plan: Plan, installed: Installed, env: Mapping[str, str]) -> Service:
    settings, logs = plan.settings, plan.data / "logs"
    if name == "kafka":
        assert installed.broker is not None
        return kafka.kafka_service(
            installed.broker,
            data=plan.data / "kafka",
            logs=logs,
            port=settings.local.kafka_port,
            controller_port=free_port(),
            env=env,
        )
    if name == "s3":
        assert installed.weed is not None
        bucket = s3.Bucket(
            settings.s3.bucket, settings.s3.access_key, _text(settings.s3.secret_key), settings.s3.region
        )
        return s3.s3_service(
            weed=installed.weed, data=plan.data / "s3", port=settings.s3.api_port, bucket=bucket, env=env
        )
    database = settings.database
    login = postgres.Login(database.user, _text(database.password), database.name)
    if installed.chroot is not None:
        home = plan.data / "timescaledb"
        return timescaledb.timescaledb_service(
            installed.chroot, home=home, logs=logs, port=database.port, login=login, env=env
        )
    return postgres.postgres_service(
        postgres.embedded(), home=plan.data / "postgres", logs=logs, port=database.port, login=login, env=env
    )


def _step(name: str, arguments: tuple[str, ...], needs: tuple[str, ...], env: Mapping[str, str]) -> Service:
    return Service(
        name=name, argv=_wapipe(*arguments), cwd=Path.cwd(), env=env, needs=needs, once=True,
        ready_timeout_s=_STEP_S,
    )  # fmt: skip


def _process(
    process: Process, port: int, needs: tuple[str, ...], settings: Settings, env: Mapping[str, str]
) -> Service:
    # A static member of its group: killed and started again, it has its partitions back at once, not when
    # the group has given up on the dead one.
    own = {_variable(process): str(port), "WAPIPE_INSTANCE_ID": settings.consumer.instance_id or "local"}
    return Service(
        name=process.name,
        argv=_wapipe("run", process.name),
        cwd=Path.cwd(),
        env=dict(env) | own,
        ready=partial(_is_ready, port),
        ports=(port,),
        needs=needs,
        stop_timeout_s=settings.consumer.shutdown_grace_s + 5,
    )


def _wapipe(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pipeline.cli", *arguments)


async def _is_ready(port: int) -> bool:
    code, _ = await fetch(port, "/ready")
    return code == 200


def _settled(settings: Settings, servers: tuple[str, ...], data: Path) -> Settings:
    """The settings with addresses of the local servers, a free port wherever 0 is asked for, and the spool in `data`."""
    changes: dict[str, dict[str, object]] = {"api": {"port": settings.api.port or free_port()}}
    changes["ingress"] = {"port": settings.ingress.port or free_port()}
    changes["spool"] = {"dir": settings.spool.dir or data / "spool"}
    if settings.consumer.metrics_port == 0:
        changes["consumer"] = {"metrics_port": free_port()}
    if "kafka" in servers:
        port = settings.local.kafka_port or free_port()
        changes["local"] = {"kafka_port": port}
        changes["kafka"] = {"bootstrap_servers": f"127.0.0.1:{port}", "security_protocol": "PLAINTEXT"}
    if "postgres" in servers:
        port = settings.database.port or free_port()
        changes["database"] = {"host": "127.0.0.1", "port": port, "pgbouncer_port": None}
    if "s3" in servers:
        port = settings.s3.api_port or free_port()
        changes["s3"] = {"host": "127.0.0.1", "api_port": port, "endpoint_url": None}
    return settings.model_copy(update={k: getattr(settings, k).model_copy(update=v) for k, v in changes.items()})


def _variable(process: Process) -> str:
    """The setting that holds the port of a process."""
    if process.name in ("gateway", "api"):
        return "WHATSAPP_GATEWAY_API_PORT"
    return "WAPIPE_INGRESS_PORT" if process.name == "ingress" else "WAPIPE_METRICS_PORT"


def _port(process: Process, settings: Settings, metrics_port: int | None) -> int:
    if process.name in ("gateway", "api"):
        return settings.api.port
    if process.name == "ingress":
        return settings.ingress.port
    return process.port if metrics_port is None else metrics_port


def _require_secrets(settings: Settings, servers: tuple[str, ...], processes: set[str]) -> None:
    """Raises ConfigError with one sentence for each secret that is missing or a placeholder."""
    wanted: list[tuple[SecretStr | None, str, str]] = []
    if "postgres" in servers:
        wanted.append((settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is closed without it"))
    if "s3" in servers:
        wanted.append((settings.s3.secret_key, "WHATSAPP_MINIO_ROOT_PASSWORD", "the S3 server is closed without it"))
    if processes & {"gateway", "ingress"}:
        key = settings.ingress.hmac_key or settings.ingress.token
        wanted.append((key, "WHATSAPP_HOOK_HMAC_KEY", "webhooks are verified with it (or WHATSAPP_WEBHOOK_TOKEN)"))
    if processes & {"gateway", "api"}:
        wanted.append((settings.api.token, "WHATSAPP_GATEWAY_API_TOKEN", "the API is closed without it"))
    problems: list[str] = []
    for value, name, what_for in wanted:
        try:
            require_secret(value, name, what_for)
        except ConfigError as exc:
            problems.append(str(exc))
    if problems:
        raise ConfigError("; ".join(problems))


def _text(secret: SecretStr | None) -> str:
    assert secret is not None
    return secret.get_secret_value()
