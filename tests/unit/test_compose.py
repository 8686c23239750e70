"""docker-compose.yml and the Dockerfile keep what the README says of a deployment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def test_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {"redis", "worker", "webhooks", "flower", "app-worker", "simulator"}
    assert services["simulator"]["profiles"] == ["dev"]


def test_redis_keeps_jobs(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--requirepass ${REDIS_PASSWORD:?" in command
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]


def test_the_worker_can_be_scaled(services: dict[str, Any]) -> None:
    assert not {"container_name", "ports", "hostname"} & set(services["worker"])


@pytest.mark.parametrize("name", ["worker", "app-worker"])
def test_a_worker_is_given_time_to_finish_a_submit(services: dict[str, Any], name: str) -> None:
    assert int(services[name]["stop_grace_period"].removesuffix("s")) > 30


def test_every_service_of_ours_waits_for_redis(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name != "redis":
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
            assert isinstance(service["command"], list)


def test_flower_asks_for_a_password(services: dict[str, Any]) -> None:
    assert ":?" in services["flower"]["environment"]["FLOWER_BASIC_AUTH"]


def test_the_api_key_is_in_the_worker_alone(services: dict[str, Any]) -> None:
    holders = {name for name, service in services.items() if "RUNPOD_API_KEY" in service.get("environment", {})}
    assert holders == {"worker", "simulator"}


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
