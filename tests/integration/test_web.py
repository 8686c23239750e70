"""Webhooks through `celery-runpod webhooks`, forged and replayed; Flower with jobs' states; waiting in async code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import requests
from celery.exceptions import TaskRevokedError, TimeoutError

from celery_runpod.cli.stack import cli, free_port
from tests.servers import World
from tests.waiting import eventually

FORGED = {"id": "forged", "status": "COMPLETED", "output": "forged"}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    env = {
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "the-current-secret",
        "RUNPOD_WEBHOOK_SECRET_PREVIOUS": "the-previous-secret",
    }
    endpoints = [
        "fast=synthetic:duration=0.5",
        "slow=synthetic:duration=60",
        "failing=synthetic:duration=0.2,failures=1",
    ]
    world = World(tmp_path_factory.mktemp("web"), endpoints=endpoints, env=env)
    try:
        ready = lambda server: " ready at " in server.text()  # noqa: E731
        world.stack.start("webhooks", [*cli("webhooks"), "--port", str(port)], ready=ready)
        world.app()
        yield world.start()
    finally:
        world.stack.stop()


def _webhook_of(world: World, job_id: str | None) -> str:
    return str(next(job["webhook"] for job in world.jobs() if job["id"] == job_id))


def test_a_webhook_brings_the_result_without_a_poll(web: World) -> None:
    polls = web.requests().get("status", {}).get("200", 0)
    # The first look comes after 10 s with webhooks: the result is there before.
    result = web.endpoint("fast", backoff=None).using(backoff={"first_s": 60, "cap_s": 60}).delay(a=1)
    assert result.get(timeout=50) == {"a": 1}
    assert web.requests().get("status", {}).get("200", 0) == polls
    eventually(web.open_jobs, [])


@pytest.mark.parametrize("change", ["attempt=2", "signature=0", "task=other", "endpoint=other"])
def test_an_altered_url_is_refused(web: World, change: str) -> None:
    result = web.endpoint("slow").delay(a=1)
    eventually(lambda: result.state, "IN_PROGRESS")
    name = change.partition("=")[0]
    url, _, query = _webhook_of(web, result.job_id).partition("?")
    altered = "&".join(change if part.startswith(f"{name}=") else part for part in query.split("&"))
    assert requests.post(f"{url}?{altered}", json=FORGED, timeout=5).status_code == 403
    assert requests.post(url, json=FORGED, timeout=5).status_code == 403
    assert result.state == "IN_PROGRESS"
    result.cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    eventually(web.open_jobs, [], within_s=60)


def test_a_replayed_webhook_changes_nothing(web: World) -> None:
    result = web.endpoint("fast").delay(a=2)
    assert result.get(timeout=60) == {"a": 2}
    url = _webhook_of(web, result.job_id)
    told = {"id": result.job_id, "status": "FAILED", "error": "replayed"}
    assert [requests.post(url, json=told, timeout=5).status_code for _ in range(3)] == [200, 200, 200]
    eventually(lambda: web.redis.llen("runpod.deliver"), 0)
    eventually(web.open_jobs, [])
    assert result.state == "SUCCESS"
    assert result.get() == {"a": 2}


def test_what_is_no_webhook_is_refused(web: World) -> None:
    result = web.endpoint("fast").delay(a=3)
    result.get(timeout=60)
    url = _webhook_of(web, result.job_id)
    assert requests.post(url, data="not json", timeout=5).status_code == 400
    assert requests.post(url, json=["a list"], timeout=5).status_code == 400
    assert requests.get(url, timeout=5).status_code == 405


def test_flower_shows_jobs_by_name_and_their_states(web: World) -> None:
    port = free_port()
    flower = web.stack.start(
        "flower",
        [*cli("flower"), "--port", str(port)],
        env={"FLOWER_UNAUTHENTICATED_API": "1"},
        ready=lambda server: "Visit me" in server.text(),
    )

    def listening() -> bool:
        web.endpoint("fast").delay(a=0).get(timeout=30)
        return bool(requests.get(f"http://127.0.0.1:{port}/api/tasks", timeout=10).json())

    try:
        # Flower says that it is ready before it listens to events.
        eventually(listening, True, within_s=60)
        result = web.endpoint("slow").delay(secret_prompt="nobody may read this")
        eventually(lambda: result.state, "IN_PROGRESS")

        def shown() -> tuple[str | None, str | None]:
            tasks = requests.get(f"http://127.0.0.1:{port}/api/tasks", timeout=10).json()
            task = tasks.get(result.id, {})
            return task.get("name"), task.get("state")

        eventually(shown, ("runpod.run[slow]", "IN_PROGRESS"), within_s=30)
        requests.post(f"http://127.0.0.1:{port}/api/task/revoke/{result.id}?terminate=true", timeout=10)
        eventually(lambda: result.state, "REVOKED")
        eventually(
            lambda: {job["status"] for job in web.jobs("slow") if job["id"] == result.job_id} - {"CANCELLED"}, set()
        )
    finally:
        web.stack.remove(flower)
    eventually(web.open_jobs, [], within_s=60)


def test_an_output_is_in_no_log(web: World) -> None:
    assert web.endpoint("fast").delay(secret="nobody may read this").get(timeout=60)


def test_waiting_in_async_code(web: World) -> None:
    assert asyncio.run(web.endpoint("fast").delay(a=4).aget(timeout=60)) == {"a": 4}
    result = web.endpoint("slow").delay(a=5)
    with pytest.raises(TimeoutError):
        asyncio.run(result.aget(timeout=0.5))
    result.cancel()
    with pytest.raises(TaskRevokedError):
        asyncio.run(result.aget(timeout=30))
    eventually(web.open_jobs, [], within_s=60)


def test_a_job_submitted_by_runsync(web: World) -> None:
    assert web.endpoint("fast", sync=True).delay(a=6).get(timeout=60) == {"a": 6}
    assert web.requests()["runsync"]["200"] >= 1
    eventually(web.open_jobs, [])


def test_no_secret_is_in_any_log(web: World) -> None:
    from tests.servers import API_KEY

    logs = "".join(server.text() for server in web.stack.servers)
    for secret in (API_KEY, "signature=", "nobody may read this"):
        assert secret not in logs
