"""docker-compose.yml and the Dockerfile keep what the README says of a deployment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LONGEST_POST_S = 30
"""RUNPOD_SYNC_WAIT_S (20) and ten seconds for the answer, see config/settings.py."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE)["services"])


def holders(services: dict[str, Any], variable: str) -> set[str]:
    return {name for name, service in services.items() if variable in service.get("environment", {})}


def test_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {"redis", "worker", "webhooks", "flower", "app-worker", "simulator"}
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        "simulator": ["dev"]
    }


def test_redis_keeps_jobs(services: dict[str, Any]) -> None:
    redis = services["redis"]
    command = " ".join(redis["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--hash-max-ziplist-value 1024" in command
    assert "--requirepass ${REDIS_PASSWORD:?" in command
    assert redis["volumes"] == ["redis-data:/data"]
    assert "ports" not in redis


def test_redis_is_healthy_only_when_it_answers(services: dict[str, Any]) -> None:
    # Without -e, redis-cli ends with 0 on NOAUTH and LOADING.
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
    assert "REDISCLI_AUTH" in services["redis"]["environment"]


def test_what_workers_remember_of_the_store_outlives_their_containers(services: dict[str, Any]) -> None:
    folder = services["worker"]["environment"]["RUNPOD_STATE_DIR"]
    assert services["worker"]["volumes"] == [f"worker-state:{folder}"]
    # A fresh volume has the owner that the folder has in the image.
    assert f"install --directory --owner runpod --group runpod {folder}" in DOCKERFILE


def test_the_worker_can_be_scaled(services: dict[str, Any]) -> None:
    assert not {"container_name", "ports", "hostname", "deploy"} & set(services["worker"])


@pytest.mark.parametrize("name", ["worker", "app-worker"])
def test_a_worker_is_given_time_to_finish_a_submit(services: dict[str, Any], name: str) -> None:
    assert int(services[name]["stop_grace_period"].removesuffix("s")) > LONGEST_POST_S


def test_every_service_of_ours_waits_for_redis_and_runs_as_it_stands(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name != "redis":
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
            assert isinstance(service["command"], list)
            assert all(isinstance(word, str) for word in service["command"])
            assert service["init"] is True
            assert "user" not in service, "the image's own user is not root"


def test_every_client_of_redis_has_its_password(services: dict[str, Any]) -> None:
    users = {"worker": "worker", "webhooks": "webhooks", "flower": "flower", "app-worker": "caller"}
    assert holders(services, "REDIS_URL") == set(users)
    for name, user in users.items():
        url = services[name]["environment"]["REDIS_URL"]
        assert url.startswith(f"redis://{user}:${{REDIS_{user.upper()}_PASSWORD:?"), "a user of its own"
        assert (
            f">${{REDIS_{user.upper()}_PASSWORD:?set REDIS_{user.upper()}_PASSWORD in .env}}"
            in services["redis"]["command"]
        )
    assert holders(services, "REDISCLI_AUTH") == {"redis"}, "the default user is the operator's"


def test_flower_asks_for_a_password_and_what_speaks_plain_http_is_on_loopback(services: dict[str, Any]) -> None:
    assert ":?" in services["flower"]["environment"]["FLOWER_BASIC_AUTH"]
    for name in ("flower", "simulator", "webhooks"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


def test_secrets_are_where_they_are_needed_and_nowhere_else(services: dict[str, Any]) -> None:
    assert holders(services, "RUNPOD_API_KEY") == {"worker", "simulator"}
    assert holders(services, "RUNPOD_WEBHOOK_SECRET") == {"worker", "webhooks"}
    assert holders(services, "FLOWER_BASIC_AUTH") == {"flower"}
    # RUNPOD_ENDPOINT_<NAME> and RUNPOD_API_KEY_<NAME> are the worker's; no service gets .env, which holds every secret.
    files = {name: service["env_file"] for name, service in services.items() if "env_file" in service}
    assert files == {"worker": [{"path": "worker.env", "required": False}]}
    assert (ROOT / "worker.env.example").exists()
    assert {".env", "worker.env"} <= set((ROOT / ".gitignore").read_text().splitlines())


def test_a_container_can_change_nothing_and_take_no_more_than_its_share(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] and service["mem_limit"], name
        assert service["tmpfs"] == ["/tmp"], name
        assert "privileged" not in service and "cap_add" not in service, name
    for name in ("redis", "worker", "app-worker"):
        assert services[name]["mem_limit"].startswith("${"), "how much is enough is the site's to say"
    assert services["redis"]["user"] == "redis", "its image begins as root otherwise"
    words = services["redis"]["command"]
    assert words[words.index("--maxmemory") + 1].startswith("${REDIS_MAXMEMORY:-")


def test_management_is_off_unless_it_is_switched_on(services: dict[str, Any]) -> None:
    assert services["worker"]["environment"]["RUNPOD_MANAGEMENT"] == "${RUNPOD_MANAGEMENT:-off}"


def test_images_and_uv_are_pinned(services: dict[str, Any]) -> None:
    for image in [services["redis"]["image"], *re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)]:
        assert re.search(r":\d+\.\d+\.\d+", image), image
    assert re.search(r"pip install --no-cache-dir uv==\d+\.\d+\.\d+ ", DOCKERFILE)
    assert services["worker"]["image"].startswith("celery-runpod:${CELERY_RUNPOD_VERSION:-")


def test_the_users_of_redis_begin_with_nothing(services: dict[str, Any]) -> None:
    """And get no right over all keys, all channels, or a category of commands."""
    words = services["redis"]["command"]
    assert words.count("--user") == words.count("resetchannels") == 4
    given = " ".join(words[words.index("--user") :]).replace("(", "").replace(")", "").split()
    assert not {"~*", "%R~*", "%W~*", "%RW~*", "&*", "allkeys", "allcommands", "allchannels", "nopass"} & set(given)
    assert not [word for word in given if word.startswith("+@")]


def test_what_must_be_set_is_in_the_example() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    named = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert required <= {name for name, _ in named}
    assert not [name for name, value in named if value], "a copied example must not be a password that all know"


def test_the_application_worker_has_a_celery_app(services: dict[str, Any]) -> None:
    name = re.sub(r"\$\{\w+:-(.*)\}", r"\1", services["app-worker"]["command"][2])
    code = "import sys, celery.app.utils as u; print(type(u.find_app(sys.argv[1])).__name__)"
    found = subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["Celery"]


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


def test_the_image_is_built_from_the_lock_without_development_tools() -> None:
    assert "--constraints requirements.lock" in DOCKERFILE
    assert not re.search(r"--extra dev|--all-extras|\[dev\]", DOCKERFILE)


def test_the_build_is_given_what_it_copies() -> None:
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert copied
    assert set(copied) <= sent
    assert all((ROOT / name).exists() for name in copied)
