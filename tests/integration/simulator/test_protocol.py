"""What a worker says and is told, spoken bare; and a worker with RunPod's SDK that joins from outside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from celery_runpod._devstack.process_guard import kill_group
from tests.integration.simulator.serving import HANDLERS, KEY, Client, simulator
from tests.waiting import eventually

OUTSIDE = ("--endpoint", "outside=external")


@pytest.fixture
def runpod() -> Iterator[Client]:
    with simulator(*OUTSIDE) as client:
        yield client


@pytest.fixture
def unlimited() -> Iterator[Client]:
    with simulator(*OUTSIDE, "--no-limits") as client:
        yield client


def take(runpod: Client, worker: str = "w1") -> requests.Response:
    return runpod.send("GET", f"/v2/outside/job-take/{worker}?job_in_progress=0")


def post(runpod: Client, job_id: str, body: str, call: str = "job-done", worker: str = "w1") -> requests.Response:
    return runpod.send("POST", f"/v2/outside/{call}/{worker}/{job_id}?isStream=false", data=body)


def attempts(runpod: Client) -> list[int]:
    return [job["attempts"] for job in runpod.jobs("outside")]


def hung_up(runpod: Client) -> socket.socket:
    """A worker that asks for a job and does not wait for the answer."""
    host, port = runpod.address.removeprefix("http://").split(":")
    worker = socket.create_connection((host, int(port)))
    worker.sendall(f"GET /v2/outside/job-take/gone? HTTP/1.1\r\nHost: a\r\nAuthorization: {KEY}\r\n\r\n".encode())
    return worker


def test_a_job_that_is_cancelled_before_it_is_handed_over_is_not_handed_over(runpod: Client) -> None:
    runpod.fault("delay", operation="worker", seconds=0.5, times=1)
    job_id = runpod.run("outside")
    with hung_up(runpod) as worker:
        eventually(lambda: runpod.state("outside", job_id), "IN_PROGRESS")
        runpod.send("POST", f"/v2/outside/cancel/{job_id}")
        assert worker.recv(100).startswith(b"HTTP/1.1 204")


def test_a_job_whose_worker_hung_up_before_it_got_it_was_not_tried(runpod: Client) -> None:
    runpod.fault("delay", operation="worker", seconds=0.3, times=1)
    job_id = runpod.run("outside")
    with hung_up(runpod):
        eventually(lambda: attempts(runpod), [1])
    eventually(lambda: attempts(runpod), [0])
    assert take(runpod).json()["id"] == job_id
    assert "retries" not in runpod.status("outside", job_id)
    assert attempts(runpod) == [1]


@pytest.mark.parametrize("size", [21_000_000, 65 * 1024 * 1024])
def test_a_result_that_is_too_large_is_lost(runpod: Client, size: int) -> None:
    job_id = runpod.run("outside")
    take(runpod)
    assert post(runpod, job_id, json.dumps({"output": "x" * size})).status_code == 400
    found = runpod.status("outside", job_id)
    assert (found["status"], "output" in found) == ("COMPLETED", False)


@pytest.mark.parametrize("body", ["{", '{"output": NaN}', '{"output": 1e999}', "[" * 100_000])
def test_a_result_that_is_not_json_does_not_arrive(runpod: Client, body: str) -> None:
    job_id = runpod.run("outside")
    take(runpod)
    assert post(runpod, job_id, body).status_code == 400
    assert runpod.state("outside", job_id) == "IN_PROGRESS"


def test_a_body_far_over_the_limit_is_told_as_too_large(runpod: Client) -> None:
    answer = runpod.send("POST", "/v2/outside/run", data=b" " * (65 * 1024 * 1024))
    assert (answer.status_code, answer.json()["error"]) == (413, "the body of /run is over 10 MB")
    assert runpod.send("POST", "/v2/pods", data=b" " * (65 * 1024 * 1024)).status_code == 413


def test_without_limits_nothing_is_too_large(unlimited: Client) -> None:
    job_id = unlimited.run("outside", "x" * 70_000_000)
    take(unlimited)
    assert post(unlimited, job_id, json.dumps({"output": "x" * 2_000_000}), "job-stream").status_code == 200
    assert post(unlimited, job_id, json.dumps({"output": "x" * 70_000_000})).status_code == 200
    assert len(unlimited.status("outside", job_id)["output"]) == 70_000_000


@contextmanager
def sdk(runpod: Client, handler: str) -> Iterator[None]:
    """A worker started by hand, with the variables of docs/simulator.md; its whole group is ended."""
    base = f"{runpod.address}/v2/outside"
    env = {
        "RUNPOD_POD_ID": "by-hand",
        "RUNPOD_AI_API_KEY": KEY,
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    process = subprocess.Popen(
        [sys.executable, str(HANDLERS / f"{handler}.py")],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # The SDK's process for pings outlives a worker that is ended alone.
        kill_group(process.pid)
        process.wait()


def test_a_worker_from_outside_survives_a_timeout_a_cancel_and_a_reset(unlimited: Client) -> None:
    def ends(state: str, **policy: Any) -> str:
        job_id = unlimited.run("outside", {"seconds": 600}, policy=policy)
        eventually(lambda: unlimited.state("outside", job_id), state, within_s=60)
        return job_id

    with sdk(unlimited, "asynchronous"):
        ends("TIMED_OUT", executionTimeout=500)
        unlimited.send("POST", f"/v2/outside/cancel/{ends('IN_PROGRESS')}")
        ends("IN_PROGRESS")
        unlimited.reset()
        found = unlimited.runsync("outside", {"seconds": 0})
        assert (found["status"], found["workerId"]) == ("COMPLETED", "by-hand")
        eventually(lambda: unlimited.health("outside")["workers"]["running"], 0)
