"""Faults on demand: each kind, as a client and a worker see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.simulator.serving import Client, simulator
from tests.waiting import eventually

ENDPOINTS = ("--endpoint", "fast=synthetic:duration=0.05", "--endpoint", "other=synthetic:duration=0.05")


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with simulator(*ENDPOINTS, "--no-limits") as client:
        yield client


@pytest.fixture
def runpod(shared: Client) -> Client:
    shared.reset()
    return shared


def send(runpod: Client) -> requests.Response:
    return runpod.send("POST", "/v2/fast/run", json={"input": 1})


def test_status_with_headers_and_body(runpod: Client) -> None:
    runpod.fault("status", operation="run", status=429, headers={"Retry-After": "3"}, body="slow down", times=1)
    answer = send(runpod)
    assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (429, "3", "slow down")
    assert runpod.jobs("fast") == []
    assert send(runpod).status_code == 200
    assert runpod.counts() == {"run": {"429": 1, "200": 1}}


def test_status_without_body_is_a_page_as_of_a_cdn(runpod: Client) -> None:
    runpod.fault("status", operation="run", status=502)
    answer = send(runpod)
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")
    assert runpod.send("GET", "/v2/fast/health").status_code == 200


def test_body_after_the_deed(runpod: Client) -> None:
    runpod.fault("body", operation="run", body="not json", times=1)
    answer = send(runpod)
    assert (answer.status_code, answer.text) == (200, "not json")
    assert len(runpod.jobs("fast")) == 1


def test_delay(runpod: Client) -> None:
    runpod.fault("delay", operation="run", seconds=0.3)
    started = time.monotonic()
    assert send(runpod).status_code == 200
    assert time.monotonic() - started >= 0.3


def test_drop_before_does_nothing_and_is_not_counted(runpod: Client) -> None:
    runpod.fault("drop_before", operation="run", times=1)
    with pytest.raises(requests.ConnectionError):
        send(runpod)
    assert (runpod.jobs("fast"), runpod.counts()) == ([], {})


def test_drop_after_does_the_deed_and_never_answers(runpod: Client) -> None:
    runpod.fault("drop_after", operation="run", times=1)
    with pytest.raises(requests.ConnectionError):
        send(runpod)
    assert (len(runpod.jobs("fast")), runpod.counts()) == (1, {"run": {"dropped": 1}})


def test_truncate(runpod: Client) -> None:
    runpod.fault("truncate", operation="run", times=1)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        send(runpod)
    assert len(runpod.jobs("fast")) == 1


def test_vanish_at_submit_and_at_status(runpod: Client) -> None:
    fault = runpod.fault("vanish", operation="run")
    job_id = runpod.run("fast")
    assert runpod.state("fast", job_id) == "404"
    runpod.send("DELETE", f"/_simulator/faults/{fault}")
    job_id = runpod.run("fast")
    runpod.fault("vanish", operation="status")
    assert runpod.state("fast", job_id) == "404"
    eventually(lambda: [job["status"] for job in runpod.jobs("fast")], ["VANISHED", "VANISHED"])


def test_vanish_later_and_when_a_worker_takes_it(runpod: Client) -> None:
    runpod.fault("vanish", operation="run", seconds=0.3, times=1)
    job_id = runpod.run("fast")
    assert runpod.state("fast", job_id) in ("IN_PROGRESS", "COMPLETED")
    eventually(lambda: runpod.state("fast", job_id), "404")
    runpod.fault("vanish", operation="worker")
    assert runpod.state("fast", runpod.run("fast")) == "404"


@pytest.mark.parametrize("operation", ["run", "worker"])
def test_run_twice(runpod: Client, operation: str) -> None:
    runpod.fault("run_twice", operation=operation, times=1)
    job_id = runpod.run("fast")
    eventually(lambda: runpod.state("fast", job_id), "COMPLETED")
    assert [job["attempts"] for job in runpod.jobs("fast")] == [2]


@pytest.mark.parametrize("operation", ["run", "worker"])
def test_crash_once_is_run_again(runpod: Client, operation: str) -> None:
    runpod.fault("crash", operation=operation, times=1)
    job_id = runpod.run("fast")
    eventually(lambda: runpod.state("fast", job_id), "COMPLETED")
    assert runpod.status("fast", job_id)["retries"] == 1


def test_crash_again_and_again_fails_the_job(runpod: Client) -> None:
    runpod.fault("crash", operation="worker", seconds=0.02)
    job_id = runpod.run("fast")
    eventually(lambda: runpod.state("fast", job_id), "FAILED")
    assert runpod.status("fast", job_id)["error"] == (
        "the worker crashed while running the job, 3 times; not tried again"
    )


@pytest.mark.parametrize("kind", ["drop_before", "status"])
def test_a_result_that_does_not_arrive_leaves_the_job_in_progress_until_its_timeout(runpod: Client, kind: str) -> None:
    runpod.fault(kind, operation="worker")
    job_id = runpod.run("fast", policy={"executionTimeout": 400})
    time.sleep(0.2)
    assert runpod.state("fast", job_id) == "IN_PROGRESS"
    eventually(lambda: runpod.state("fast", job_id), "TIMED_OUT")


def test_one_endpoint_and_every_second_request(runpod: Client) -> None:
    runpod.fault("status", endpoint="fast", operation="run", status=503, every=2)
    assert [send(runpod).status_code for _ in range(4)] == [200, 503, 200, 503]
    assert runpod.send("POST", "/v2/other/run", json={"input": 1}).status_code == 200


def test_list_and_delete(runpod: Client) -> None:
    ids = [runpod.fault("delay", seconds=0.0), runpod.fault("status", operation="cancel")]
    listed = runpod.send("GET", "/_simulator/faults").json()
    assert [fault["id"] for fault in listed] == ids
    assert runpod.send("DELETE", f"/_simulator/faults/{ids[0]}").status_code == 200
    assert runpod.send("DELETE", f"/_simulator/faults/{ids[0]}").status_code == 404
    assert runpod.send("DELETE", "/_simulator/faults").status_code == 200
    assert runpod.send("GET", "/_simulator/faults").json() == []


def test_a_bad_fault_is_told(runpod: Client) -> None:
    answer = runpod.send("POST", "/_simulator/faults", json={"kind": "explode"})
    assert answer.status_code == 400 and "field 'kind': 'explode' given; allowed:" in answer.json()["error"]
    assert runpod.send("POST", "/_simulator/faults", data="{").json() == {"error": "the body is not JSON"}


def test_a_file_of_faults_is_in_force_from_the_start_and_after_a_reset(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nkind = "status"\noperation = "run"\nstatus = 503\ntimes = 1\n')
    with simulator(*ENDPOINTS, "--faults", str(path)) as client:
        for _ in range(2):
            assert [send(client).status_code for _ in range(2)] == [503, 200]
            client.reset()


def test_reopen_hides_the_result_from_status_for_ever(runpod: Client) -> None:
    runpod.fault("reopen", operation="worker", endpoint="fast", body="99 %", times=1)
    job_id = send(runpod).json()["id"]
    eventually(lambda: runpod.jobs("fast")[0]["status"], "COMPLETED")
    told = runpod.send("GET", f"/v2/fast/status/{job_id}").json()
    assert (told["status"], told["output"], "executionTime" in told) == ("IN_PROGRESS", "99 %", True)
