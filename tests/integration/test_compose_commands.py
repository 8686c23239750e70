"""Every command of docker-compose.yml, run without Docker: each becomes ready."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from celery_runpod import Endpoint, cancel
from celery_runpod._asking import pause, resume
from celery_runpod._devstack.stack import Server, Stack, cli, free_port, redis_server, worker_ready
from celery_runpod._protocol import FORMAT
from celery_runpod._store.keys import Keys
from celery_runpod._webhooks.signed_urls import sign_url
from tests.compose import GIVEN, filled, password, rights_for, version_of
from tests.servers import ROOT


class Deployment:
    """The services of docker-compose.yml on loopback, with free ports."""

    def __init__(self, folder: Path) -> None:
        composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self.ports = {name: free_port() for name in ("redis", "8900", "8000", "5555")}
        self.simulator_url = f"http://127.0.0.1:{self.ports['8900']}"
        given = {**GIVEN, "RUNPOD_BASE_URL": f"{self.simulator_url}/v2"}
        self.services: dict[str, Any] = filled(composed, given)
        self.data = folder / "data"
        self.data.mkdir()
        self.stack = Stack(folder)
        self.stack.env["PYTHONPATH"] = str(ROOT)
        self.redis_url = f"redis://:{GIVEN['REDIS_PASSWORD']}@127.0.0.1:{self.ports['redis']}/0"

    def command(self, name: str) -> list[str]:
        first, *rest = self.services[name]["command"]
        rest = [self._here(word) for word in rest]
        if first == "celery-runpod":
            return cli(*rest)
        if first == "celery":
            return [sys.executable, "-m", "celery", *rest]
        assert first == "redis-server", first
        return [
            redis_server(),
            *rights_for(redis_server(), rest),
            "--port",
            str(self.ports["redis"]),
            "--bind",
            "127.0.0.1",
        ]

    def url(self, user: str) -> str:
        """Redis as one of the services sees it."""
        return self.redis_url.replace(f":{GIVEN['REDIS_PASSWORD']}", f"{user}:{password(user)}")

    def start(self, name: str, ready: Callable[[Server], bool]) -> Server:
        env = {key: self._here(value) for key, value in self.services[name].get("environment", {}).items()}
        cwd = self.data if name == "redis" else ROOT
        return self.stack.start(name, self.command(name), env=env, cwd=cwd, ready=ready)

    def _here(self, word: str) -> str:
        word = word.replace("@redis:6379/", f"@127.0.0.1:{self.ports['redis']}/").replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"^(--port=)?(8900|8000|5555)$", lambda m: f"{m[1] or ''}{self.ports[m[2]]}", word)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("compose"))

    def answers(_: Server) -> bool:
        try:
            return bool(Redis.from_url(deployment.redis_url, socket_timeout=1).ping())
        except RedisError:
            return False

    try:
        deployment.start("redis", answers)
        deployment.start("simulator", lambda server: " ready at " in server.text())
        yield deployment
    finally:
        deployment.stack.stop()


def _status(url: str, **options: Any) -> int | None:
    try:
        return requests.get(url, timeout=5, **options).status_code
    except requests.ConnectionError:
        return None


def test_every_service_is_tried_here(deployment: Deployment) -> None:
    assert set(deployment.services) == {"redis", "simulator", "worker", "webhooks", "flower", "app-worker"}


def test_redis_keeps_jobs_and_asks_for_its_password(deployment: Deployment) -> None:
    redis = Redis.from_url(deployment.redis_url, decode_responses=True)
    # One at a time: Redis 6 takes no more.
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    for name, value in {**wanted, "hash-max-ziplist-value": "1024"}.items():
        assert redis.config_get(name) == {name: value}
    with pytest.raises(RedisError):
        Redis.from_url(f"redis://127.0.0.1:{deployment.ports['redis']}/0").ping()


def test_the_worker_runs_a_job_of_the_simulator(deployment: Deployment) -> None:
    worker = deployment.start("worker", worker_ready)
    url = deployment.url("caller")
    app = Celery("client", broker=url, backend=url, set_as_current=False)
    assert Endpoint("echo", app=app).delay(a=1).get(timeout=90) is not None
    cancel("no-such-task", app=app)
    pause("echo", timeout=60, app=app)
    assert resume("echo", timeout=60, app=app)
    assert GIVEN["RUNPOD_API_KEY"] not in worker.text()
    assert GIVEN["REDIS_PASSWORD"] not in worker.text()


def test_the_webhooks_refuse_what_is_not_signed(deployment: Deployment) -> None:
    deployment.start("webhooks", lambda server: "webhooks ready at " in server.text())
    answer = requests.post(f"http://127.0.0.1:{deployment.ports['8000']}/runpod/webhook", json={"id": "x"}, timeout=5)
    assert 400 <= answer.status_code < 500
    redis = Redis.from_url(deployment.redis_url, decode_responses=True)
    keys = Keys("runpod")
    redis.hset(keys.job("hooked", "t1"), mapping={"state": "SUBMITTING", "attempt": "1", "format": str(FORMAT)})
    url = sign_url(
        f"http://127.0.0.1:{deployment.ports['8000']}/runpod/webhook",
        GIVEN["RUNPOD_WEBHOOK_SECRET"],
        "runpod",
        "hooked",
        "t1",
        1,
        time.time() + 600,
    )
    answer = requests.post(url, json={"id": "a-job"}, timeout=5)
    assert (answer.status_code, answer.json()) == (200, {"status": "taken"})
    assert redis.smembers(keys.candidates("hooked", "t1", 1)) == {"a-job"}


def test_flower_asks_for_its_password(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{deployment.ports['5555']}/"
    user, word = GIVEN["FLOWER_BASIC_AUTH"].split(":")
    deployment.start("flower", lambda _: _status(url) is not None)
    assert _status(url) == 401
    assert _status(url, auth=(user, word)) == 200
    assert (_status(f"{url}metrics"), _status(f"{url}metrics", auth=(user, word))) == (401, 200)
    for page in ("workers?refresh=1", "broker", "tasks", "api/workers?refresh=1"):
        assert _status(f"{url}{page}", auth=(user, word)) == 200
    revoked = requests.post(f"{url}api/task/revoke/no-such-task", auth=(user, word), timeout=10)
    assert revoked.status_code == 200
    if version_of(redis_server()) >= (7, 0):
        sent = requests.post(f"{url}api/task/send-task/runpod.gpus", json={}, auth=(user, word), timeout=10)
        assert sent.status_code >= 500, "Flower's Redis user cannot send a task"


def test_the_workers_of_the_application(deployment: Deployment) -> None:
    worker = deployment.start("app-worker", worker_ready)
    assert worker.process.poll() is None
    assert "flask_chat" in worker.text()


def test_every_role_does_its_work(deployment: Deployment) -> None:
    """After all that the services did above, Redis has refused none of them anything."""
    redis = Redis.from_url(deployment.redis_url, decode_responses=True)
    refused = {(one["username"], one["object"]) for one in redis.acl_log(100)}
    # A Redis before 7.2 is asked by redis-py for a command that is not allowed there; redis-py goes on without.
    introductions = {(user, thing) for user, thing in refused if thing in ("client|setinfo", "client")}
    # The test above had Flower try to send a task, and wait for its result.
    tried = {"_kombu.binding.runpod", "_kombu.binding_permanent.runpod", "runpod.deliver", "subscribe"}
    sent = {
        one for one in refused if one[0] == "flower" and (one[1] in tried or one[1].startswith("celery-task-meta-"))
    }
    assert refused - introductions - sent == set()
