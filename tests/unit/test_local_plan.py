"""The services of a stack: order, ports, secrets and what each child gets to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.local.environment import to_environment
from pipeline.local.kafka import Broker
from pipeline.local.plan import SERVERS, Installed, Plan, resolve, services
from pipeline.local.supervisor import ordered
from pipeline.registry import select
from pipeline.settings import load_settings

SECRETS = {
    "WHATSAPP_DB_PASSWORD": "database's own",
    "WHATSAPP_MINIO_ROOT_PASSWORD": "object's own",
    "WHATSAPP_HOOK_HMAC_KEY": "webhook's own",
    "WHATSAPP_GATEWAY_API_TOKEN": "reader's own",
}
INSTALLED = Installed(Broker(Path("/java"), Path("/jars")), None, Path("/weed"))


def plan(data: Path, **environ: str) -> Plan:
    settings = load_settings(SECRETS | environ)
    return resolve(settings, SERVERS, select(["all"]), data, {"PATH": "/bin", "POSTGRES_DB": "stray"} | environ)


def test_servers_come_first_then_steps_then_processes(tmp_path: Path) -> None:
    names = [s.name for s in ordered(services(plan(tmp_path), INSTALLED))]
    assert names == [
        "kafka",
        "postgres",
        "s3",
        "migrate",
        "topics",
        "gateway",
        "messages",
        "contacts",
        "sessions",
        "media",
        "sync",
    ]


def test_processes_see_the_settings_and_servers_see_no_secret(tmp_path: Path) -> None:
    chosen = plan(tmp_path, WAPIPE_LOCAL_KAFKA_PORT="19092", WHATSAPP_DB_PORT="15435")
    found = {s.name: s for s in services(chosen, INSTALLED)}
    env = found["messages"].env
    assert env["WAPIPE_KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
    assert (env["WHATSAPP_DB_HOST"], env["WHATSAPP_DB_PORT"]) == ("127.0.0.1", "15435")
    assert env["WHATSAPP_DB_PASSWORD"] == "database's own"
    assert env["POSTGRES_DB"] == ""  # an older name for a setting that is given under its first one
    assert env["PATH"] == "/bin"
    for server in ("kafka", "postgres", "s3"):
        assert not set(SECRETS.values()) & set(found[server].env.values())
        assert not any("own" in argument for argument in found[server].argv)


def test_each_process_has_a_port_of_its_own(tmp_path: Path) -> None:
    found = {s.name: s for s in services(plan(tmp_path, WAPIPE_METRICS_PORT="7000"), INSTALLED)}
    assert found["gateway"].ports == (4011,)
    assert [found[n].ports[0] for n in ("messages", "contacts", "sessions")] == [7001, 7002, 7003]
    assert found["contacts"].env["WAPIPE_METRICS_PORT"] == "7002"


def test_port_zero_is_a_free_one(tmp_path: Path) -> None:
    zero = dict.fromkeys(
        (
            "WAPIPE_LOCAL_KAFKA_PORT",
            "WHATSAPP_DB_PORT",
            "WHATSAPP_MINIO_API_PORT",
            "WHATSAPP_GATEWAY_API_PORT",
        ),
        "0",
    )
    chosen = plan(tmp_path, **zero, WAPIPE_METRICS_PORT="0")
    ports = [port for port, _, _ in chosen.public_ports]
    assert len(set(ports)) == 9
    assert 0 not in ports


def test_every_missing_secret_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(load_settings({}), SERVERS, select(["all"]), tmp_path, {})
    assert all(name in str(caught.value) for name in SECRETS)


def test_servers_alone_need_no_steps_and_only_their_secrets(tmp_path: Path) -> None:
    settings = load_settings({"WHATSAPP_MINIO_ROOT_PASSWORD": "object's own"})
    alone = resolve(settings, ("kafka", "s3"), [], tmp_path, {})
    assert [s.name for s in services(alone, INSTALLED)] == ["kafka", "s3"]


def test_settings_survive_the_way_through_an_environment() -> None:
    environ = SECRETS | {
        "WAPIPE_SOURCE_HMAC_KEYS": '{"berlin": "its own"}',
        "WHATSAPP_SYNC_ENABLED": "false",
        "WHATSAPP_PGBOUNCER_PORT": "6435",
        "WAPIPE_INGRESS_DEADLINE_S": "2.5",
        "POSTGRES_USER": "from the older name",
    }
    settings = load_settings(environ)
    assert load_settings(to_environment(settings)) == settings


def test_the_spool_of_a_stack_is_in_its_folder_unless_it_is_said_where(tmp_path: Path) -> None:
    found = {s.name: s for s in services(plan(tmp_path / "data"), INSTALLED)}
    assert found["gateway"].env["WAPIPE_SPOOL_DIR"] == str(tmp_path / "data" / "spool")
    assert plan(tmp_path, WAPIPE_SPOOL_DIR="/elsewhere").settings.spool_folder == Path("/elsewhere")
