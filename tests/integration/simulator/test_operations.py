"""RunPod's operations over HTTP, on synthetic endpoints: answers, errors, limits, retention."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.integration.simulator.serving import KEY, Client, simulator
from tests.waiting import eventually

ENDPOINTS = (
    "--endpoint", "fast=synthetic:duration=0.05",
    "--endpoint", "slow=synthetic:duration=60",
    "--endpoint", "full=synthetic:duration=60,workers=1",
    "--endpoint", "one=synthetic:duration=0.2,workers=1",
    "--endpoint", "late=synthetic:duration=0,delay=0.3",
    "--endpoint", "failing=synthetic:duration=0,failures=1",
    "--endpoint", "bulk=synthetic:duration=0,output_bytes=1000")  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with simulator(*ENDPOINTS) as client:
        yield client


@pytest.fixture
def runpod(shared: Client) -> Client:
    shared.reset()
    return shared


@pytest.fixture(scope="module")
def unlimited() -> Iterator[Client]:
    with simulator(*ENDPOINTS, "--no-limits", "--retention", "0.3") as client:
        yield client


def test_run_then_status(runpod: Client) -> None:
    answer = runpod.send("POST", "/v2/fast/run", json={"input": {"prompt": "a bee"}})
    assert set(answer.json()) == {"id", "status"} and answer.json()["status"] == "IN_QUEUE"
    job_id = answer.json()["id"]
    eventually(lambda: runpod.state("fast", job_id), "COMPLETED")
    found = runpod.send("POST", f"/v2/fast/status/{job_id}").json()
    assert found["output"] == {"prompt": "a bee"}
    assert found["executionTime"] >= 50


def test_runsync_answers_the_finished_job_or_its_state_when_the_wait_is_over(runpod: Client) -> None:
    assert runpod.runsync("fast", 5)["output"] == 5
    started = time.monotonic()
    answer = runpod.send("POST", "/v2/slow/runsync?wait=1", json={"input": 1}).json()
    assert answer["id"].startswith("sync-") and answer == {"id": answer["id"], "status": "IN_PROGRESS"}
    assert time.monotonic() - started >= 0.9, "wait is at least 1,000 ms"


def test_status_sync_waits(runpod: Client) -> None:
    job_id = runpod.run("fast", 6)
    assert runpod.send("GET", f"/v2/fast/status-sync/{job_id}").json()["output"] == 6


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v2/nobody/run", {"input": 1}, 404, "endpoint not found"),
        ("GET", "/v2/nobody/fly", None, 404, "endpoint not found"),
        ("GET", "/v2/fast/fly", None, 404, "not found"),
        ("GET", "/v2/fast/status/none", None, 404, "job not found"),
        ("POST", "/v2/fast/cancel/none", None, 404, "job not found"),
        ("GET", "/v2/fast/stream/none", None, 404, "job not found"),
        ("POST", "/v2/fast/retry/none", None, 404, "job not found"),
        ("POST", "/v2/fast/run", {}, 400, "'input' is missing"),
        ("POST", "/v2/fast/run", None, 400, "not JSON"),
        ("GET", "/v2/fast/run", None, 405, "allowed: POST"),
        ("POST", "/v2/fast/runsync?wait=soon", {"input": 1}, 400, "wait must be"),
        ("GET", "/", None, 404, "not found"),
    ],
)
def test_errors(runpod: Client, method: str, path: str, body: Any, status: int, words: str) -> None:
    answer = runpod.send(method, path, json=body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(("header", "status"), [(f"Bearer {KEY}", 200), (KEY, 200), ("Bearer other", 401), ("", 401)])
def test_keys(runpod: Client, header: str, status: int) -> None:
    answer = requests.get(f"{runpod.address}/v2/fast/health", headers={"Authorization": header}, timeout=5)
    assert answer.status_code == status


def test_an_unknown_endpoint_is_told_before_the_key_is_looked_at(runpod: Client) -> None:
    assert requests.post(f"{runpod.address}/v2/nobody/run", json={"input": 1}, timeout=5).status_code == 404


def test_any_key_where_none_is_set() -> None:
    with simulator(*ENDPOINTS, env={"RUNPOD_API_KEY": ""}) as client:
        for header, status in (("Bearer anything", 200), ("", 401)):
            url = f"{client.address}/v2/fast/health"
            assert requests.get(url, headers={"Authorization": header}, timeout=5).status_code == status


def test_cancel_in_queue_in_progress_and_after_the_end(runpod: Client) -> None:
    for name in ("late", "slow"):
        job_id = runpod.run(name)
        assert runpod.send("POST", f"/v2/{name}/cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
        assert runpod.state(name, job_id) == "CANCELLED"
    job_id = str(runpod.runsync("fast")["id"])
    assert runpod.send("POST", f"/v2/fast/cancel/{job_id}").json()["status"] == "COMPLETED"


def test_more_jobs_than_workers_wait_and_a_purge_removes_them(runpod: Client) -> None:
    job_ids = [runpod.run("full", number) for number in range(4)]
    eventually(lambda: runpod.state("full", job_ids[0]), "IN_PROGRESS")
    assert runpod.health("full")["jobs"]["inQueue"] == 3
    assert runpod.send("POST", "/v2/full/purge-queue", json={}).json() == {"removed": 3, "status": "completed"}
    eventually(lambda: [runpod.state("full", job_id) for job_id in job_ids], ["IN_PROGRESS", "404", "404", "404"])


def test_delay_is_time_in_the_queue(runpod: Client) -> None:
    job_id = runpod.run("late")
    assert runpod.state("late", job_id) == "IN_QUEUE"
    eventually(lambda: runpod.state("late", job_id), "COMPLETED")
    assert runpod.status("late", job_id)["delayTime"] >= 290


def test_failures_look_like_those_of_a_handler_and_can_be_retried(runpod: Client) -> None:
    found = runpod.runsync("failing")
    assert found["status"] == "FAILED" and '"error_type": "<class \'RuntimeError\'>"' in found["error"]
    answer = runpod.send("POST", f"/v2/failing/retry/{found['id']}")
    assert answer.json() == {"id": found["id"], "status": "IN_QUEUE"}
    eventually(lambda: runpod.status("failing", found["id"]).get("retries"), 1)
    assert runpod.send("POST", f"/v2/fast/retry/{runpod.runsync('fast')['id']}").status_code == 400


def test_output_bytes(runpod: Client) -> None:
    assert len(runpod.runsync("bulk")["output"]) == 1000


def test_health_counts(runpod: Client) -> None:
    runpod.runsync("fast")
    runpod.runsync("failing")
    assert runpod.health("fast")["jobs"] == {
        "completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0,
    }  # fmt: skip
    assert runpod.health("failing")["jobs"]["failed"] == 1
    assert set(runpod.health("fast")["workers"]) == {
        "idle", "initializing", "ready", "running", "throttled", "unhealthy",
    }  # fmt: skip


def test_bodies_over_the_limit(runpod: Client) -> None:
    over = {"input": "x" * 10_000_000}
    assert runpod.send("POST", "/v2/fast/run", json=over).status_code == 413
    assert runpod.send("POST", "/v2/fast/runsync", json=over).status_code == 200


def test_rate_limit(runpod: Client) -> None:
    seen = [runpod.send("POST", "/v2/fast/purge-queue").status_code for _ in range(3)]
    assert seen == [200, 200, 429]
    assert runpod.send("GET", "/v2/fast/health").status_code == 200
    assert runpod.send("POST", "/v2/one/purge-queue").status_code == 200


def test_clients_that_hang_up_hold_no_place(runpod: Client) -> None:
    host, port = runpod.address.removeprefix("http://").split(":")
    request = f"POST /v2/slow/runsync HTTP/1.1\r\nHost: a\r\nAuthorization: {KEY}\r\nContent-Length: 12\r\n\r\n"
    clients = [socket.create_connection((host, int(port))) for _ in range(400)]
    for client in clients:
        client.sendall(request.encode() + b'{"input": 1}')
    eventually(lambda: runpod.health("slow")["jobs"]["inProgress"], 400)
    again = "/v2/slow/runsync?wait=1000"
    assert runpod.send("POST", again, json={"input": 1}).status_code == 429
    for client in clients:
        client.close()
    eventually(lambda: runpod.send("POST", again, json={"input": 1}).status_code, 200)


def test_execution_timeout_and_time_to_live(unlimited: Client) -> None:
    timed = unlimited.run("slow", policy={"executionTimeout": 200})
    expiring = unlimited.run("slow", policy={"ttl": 200})
    asked = unlimited.run("slow")
    unlimited.send("GET", f"/v2/slow/status/{asked}?ttl=200")
    eventually(lambda: unlimited.state("slow", timed), "TIMED_OUT")
    eventually(lambda: [unlimited.state("slow", job_id) for job_id in (expiring, asked)], ["404", "404"])


def test_short_times_are_refused_with_limits(runpod: Client) -> None:
    answer = runpod.send("POST", "/v2/fast/run", json={"input": 1, "policy": {"ttl": 200}})
    assert (answer.status_code, "policy.ttl must be from 10000" in answer.text) == (400, True)


def test_results_are_forgotten_but_stay_in_the_listing(unlimited: Client) -> None:
    job_id = unlimited.run("fast")
    eventually(lambda: unlimited.state("fast", job_id), "COMPLETED")
    eventually(lambda: unlimited.state("fast", job_id), "404")
    assert [job["status"] for job in unlimited.jobs("fast") if job["id"] == job_id] == ["COMPLETED"]


def test_the_listing_and_the_counts(runpod: Client) -> None:
    job_id = runpod.run("fast", {"n": 1}, webhook=None)
    eventually(lambda: [job["status"] for job in runpod.jobs("fast")], ["COMPLETED"])
    [job] = runpod.jobs("fast")
    assert set(job) == {"id", "endpoint", "status", "input", "webhook", "attempts", "submitted_at", "ended_at"}
    assert (job["id"], job["input"], job["attempts"]) == (job_id, {"n": 1}, 1)
    assert runpod.counts() == {"run": {"200": 1}}
    assert runpod.send("GET", "/_simulator/jobs?endpoint=nobody").status_code == 404
    runpod.reset()
    assert (runpod.counts(), runpod.jobs("fast")) == ({}, [])


def test_many_open_jobs(unlimited: Client) -> None:
    unlimited.reset()
    for number in range(500):
        unlimited.run("slow", number)
    assert unlimited.health("slow")["jobs"]["inProgress"] == 500
    unlimited.reset()
    assert unlimited.health("slow")["jobs"]["inProgress"] == 0
