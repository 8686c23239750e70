"""Flower with jobs' states; waiting in async code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import requests
from celery.exceptions import TaskRevokedError, TimeoutError

from celery_runpod._devstack.stack import cli, free_port
from tests.servers import World
from tests.waiting import eventually


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    endpoints = [
        "fast=synthetic:duration=0.5",
        "slow=synthetic:duration=60",
        "failing=synthetic:duration=0.2,failures=1",
    ]
    with World(tmp_path_factory.mktemp("web"), endpoints=endpoints) as world:
        yield world.start()


def test_flower_shows_jobs_by_name_and_their_states(web: World) -> None:
    port, session = free_port(), requests.Session()
    session.auth = ("user", "password")
    flower = web.stack.start(
        "flower",
        [*cli("flower"), "--port", str(port)],
        env={"FLOWER_BASIC_AUTH": "user:password"},
        ready=lambda server: "Visit me" in server.text(),
    )

    def listening() -> bool:
        web.endpoint("fast").delay(a=0).get(timeout=30)
        return bool(session.get(f"http://127.0.0.1:{port}/api/tasks", timeout=10).json())

    try:
        # Flower says that it is ready before it listens to events.
        eventually(listening, True, within_s=60)
        result = web.endpoint("slow").delay(secret_prompt="nobody may read this")
        eventually(lambda: result.state, "IN_PROGRESS")

        def shown() -> tuple[str | None, str | None]:
            tasks = session.get(f"http://127.0.0.1:{port}/api/tasks", timeout=10).json()
            task = tasks.get(result.id, {})
            return task.get("name"), task.get("state")

        eventually(shown, ("runpod.run[slow]", "IN_PROGRESS"), within_s=30)
        page = session.get(f"http://127.0.0.1:{port}/task/{result.id}", timeout=10).text
        assert f"job {result.job_id}" in page and 'id="task-terminate"' in page
        assert "nobody may read this" not in page
        session.post(f"http://127.0.0.1:{port}/api/task/revoke/{result.id}?terminate=true", timeout=10)
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
    for secret in (API_KEY, "nobody may read this"):
        assert secret not in logs
