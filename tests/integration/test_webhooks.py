"""Webhooks through `celery-runpod webhooks`: a hint brings the result soon, and whatever it says changes nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from celery.exceptions import TaskRevokedError

from celery_runpod import JobResult
from celery_runpod._devstack.stack import cli, free_port
from celery_runpod._webhooks.signed_urls import sign_url
from tests.servers import World
from tests.waiting import eventually

SECRET, PREVIOUS = "the-current-secret-of-tests", "the-previous-secret-of-tests"
FORGED = {"id": "forged", "status": "COMPLETED", "output": "forged"}
SELDOM = {"first": 600, "cap": 600}
QUEUES = ("runpod", "runpod.status", "runpod.deliver")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    env = {
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": SECRET,
        "RUNPOD_WEBHOOK_SECRET_PREVIOUS": PREVIOUS,
        "RUNPOD_NOT_FOUND_GRACE_S": "1",
    }
    endpoints = ["fast=synthetic:duration=0.5", "four=synthetic:duration=4", "slow=synthetic:duration=60"]
    with World(tmp_path_factory.mktemp("hooks"), endpoints=endpoints, env=env) as world:
        ready = "webhooks ready at "
        world.stack.start("webhooks", [*cli("webhooks"), "--port", str(port)], ready=lambda one: ready in one.text())
        world.app()
        yield world.start()


def looks(world: World) -> int:
    return sum(world.requests().get("status", {}).values())


def url_of(world: World, job_id: str | None) -> str:
    return str(next(job["webhook"] for job in world.jobs() if job["id"] == job_id))


def running(world: World) -> tuple[JobResult, str]:
    """A job that runs for a minute, and its webhook's URL."""
    result = world.endpoint("slow").delay(a=1)
    eventually(lambda: result.state, "IN_PROGRESS")
    return result, url_of(world, result.job_id)


def end(result: JobResult) -> None:
    result.cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)


def test_a_webhook_brings_the_result_with_one_look(world: World) -> None:
    before = looks(world)
    assert world.endpoint("fast", backoff=SELDOM).delay(a=1).get(timeout=50) == {"a": 1}
    assert looks(world) == before + 1


def test_a_forged_body_changes_nothing(world: World) -> None:
    result, url = running(world)
    for status in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"):
        forged = {"id": result.job_id, "status": status, "output": "forged", "error": "forged"}
        assert requests.post(url, json=forged, timeout=5).status_code == 200
    before = looks(world)
    eventually(lambda: looks(world) >= before + 2, True)
    assert (result.state, result.job_id) == ("IN_PROGRESS", world.jobs("slow")[-1]["id"])
    end(result)


@pytest.mark.parametrize("change", ["attempt=2", "signature=0", "task=other", "endpoint=other", "expires=9999999999"])
def test_an_altered_url_is_refused(world: World, change: str) -> None:
    result, url = running(world)
    name = change.partition("=")[0]
    base, _, query = url.partition("?")
    altered = "&".join(change if part.startswith(f"{name}=") else part for part in query.split("&"))
    assert requests.post(f"{base}?{altered}", json=FORGED, timeout=5).status_code == 403
    assert requests.post(base, json=FORGED, timeout=5).status_code == 403
    assert result.state == "IN_PROGRESS"
    end(result)


def test_an_expired_url_is_refused_and_one_of_the_previous_secret_is_not(world: World) -> None:
    base = url_of(world, world.jobs()[-1]["id"]).partition("?")[0]
    old = sign_url(base, SECRET, "runpod", "fast", "t1", 1, time.time() - 1000)
    assert requests.post(old, json=FORGED, timeout=5).status_code == 403
    previous = sign_url(base, PREVIOUS, "runpod", "fast", "t1", 1, time.time())
    assert requests.post(previous, json=FORGED, timeout=5).status_code == 200
    assert requests.get(previous, timeout=5).status_code == 405


def test_a_replayed_webhook_costs_nothing(world: World) -> None:
    result = world.endpoint("fast").delay(a=2)
    assert result.get(timeout=60) == {"a": 2}
    eventually(world.open_jobs, [])
    url = url_of(world, result.job_id)
    unknown = sign_url(url.partition("?")[0], SECRET, "runpod", "fast", "nobody", 1, time.time())
    told = {"id": result.job_id, "status": "FAILED", "error": "replayed", "output": "x" * 1_000_000}
    before, keys = looks(world), set(world.redis.keys("*"))
    for one in (url, unknown) * 4:
        assert requests.post(one, json=told, timeout=20).status_code == 200
        assert requests.post(one, data="not json", timeout=5).status_code == 200
        assert [world.redis.llen(queue) for queue in QUEUES] == [0, 0, 0]
    assert {key for key in set(world.redis.keys("*")) - keys if ":fast" in key} == set()
    assert (looks(world), result.state, result.get()) == (before, "SUCCESS", {"a": 2})


def test_an_unanswered_submit_adopts_what_status_knows_and_nobody_else_has(world: World) -> None:
    other = world.endpoint("four", backoff=SELDOM).delay(whose="other's")
    eventually(lambda: other.job_id is not None, True)
    fault = world.fault(endpoint="four", operation="run", kind="drop_after", times=1)
    result = world.endpoint("four", backoff=SELDOM).delay(whose="mine")
    eventually(lambda: (world.happened(fault), result.reason), (1, "UNCONFIRMED"))
    mine = next(job for job in world.jobs("four") if job["input"] == {"whose": "mine"})
    # Another record has the first, /status does not know the second, and the others are no ids.
    for named, status in ((other.job_id, 200), ("9f-unknown-u1", 200), ("../x", 400), ("x" * 300, 400), (7, 400)):
        forged = {"id": named, "status": "COMPLETED", "output": "forged"}
        assert requests.post(mine["webhook"], json=forged, timeout=5).status_code == status
    deep = '{"id": "x", "output": ' + "[" * 100_000
    assert requests.post(mine["webhook"], data=deep, timeout=5).status_code == 400
    # RunPod's own webhook comes with the job's end.
    assert result.get(timeout=60) == {"whose": "mine"}
    assert result.job_id == mine["id"]
    assert other.get(timeout=60) == {"whose": "other's"}


def test_an_unsigned_request_is_refused_at_the_end_of_its_headers(world: World) -> None:
    parts = urlsplit(url_of(world, world.jobs()[-1]["id"]))
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20000000\r\n\r\n"
    )
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 403 ")


def test_the_webhooks_answer_while_others_send_slowly(world: World) -> None:
    parts = urlsplit(url_of(world, world.jobs()[-1]["id"]))
    place = (str(parts.hostname), parts.port or 0)
    half_sent = [socket.create_connection(place, timeout=10) for _ in range(300)]
    try:
        for client in half_sent:
            client.sendall(b"POST /runpod/webhook HTTP/1.1\r\nHost:")
        assert requests.get(f"http://{place[0]}:{place[1]}/health", timeout=10).json() == {"status": "ok"}
        assert world.endpoint("fast", backoff=SELDOM).delay(a=3).get(timeout=50) == {"a": 3}
    finally:
        for client in half_sent:
            client.close()


def test_a_body_over_the_limit_is_refused(world: World) -> None:
    _, url = result = running(world)
    assert requests.post(url, data=b" " * 25_000_002, timeout=20).status_code == 413
    end(result[0])


def test_no_url_and_no_output_is_in_any_log_or_key(world: World) -> None:
    assert world.endpoint("fast").delay(secret="nobody may read this").get(timeout=60)
    logs = "".join(server.text() for server in world.stack.servers)
    for secret in ("signature=", "nobody may read this", SECRET, json.dumps("forged")):
        assert secret not in logs
