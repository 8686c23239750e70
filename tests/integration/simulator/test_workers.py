"""Handler files in real worker processes with RunPod's own SDK: results, errors, crashes, hangs, cancels, scaling."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest

from celery_runpod.api import RunPodClient
from tests.integration.simulator.serving import HANDLERS, KEY, Client, simulator
from tests.waiting import eventually


def endpoint(name: str, options: str = "workers=2,idle=60") -> tuple[str, str]:
    return "--endpoint", f"{name}={HANDLERS / name}.py,{options}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    names = ("echo", "fail", "progress", "generator", "asynchronous")
    found = [argument for name in names for argument in endpoint(name, "workers=1,idle=60")]
    with simulator(*found, "--no-limits") as client:
        yield client


@pytest.fixture
def runpod(shared: Client) -> Client:
    shared.reset()
    return shared


def workers(runpod: Client, handler: str) -> list[int]:
    """The process ids of a handler's workers."""
    found = []
    for process in psutil.Process(runpod.process.pid).children():
        try:
            if process.cmdline()[-1:] == [str(HANDLERS / f"{handler}.py")] and process.status() != "zombie":
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def ends(runpod: Client, name: str, job_id: str, state: str) -> None:
    eventually(lambda: runpod.state(name, job_id), state, within_s=40)


def test_a_result(runpod: Client) -> None:
    found = runpod.runsync("echo", {"prompt": "a bee"})
    assert (found["status"], found["output"]) == ("COMPLETED", {"prompt": "a bee"})
    assert found["workerId"].startswith("echo-")


def test_an_empty_dict_is_dropped(runpod: Client) -> None:
    assert "output" not in runpod.runsync("echo", {})


def test_an_exception_and_a_returned_error(runpod: Client) -> None:
    raised = runpod.runsync("fail", {"how": "raise"})
    error = json.loads(raised["error"])
    assert (raised["status"], error["error_type"]) == ("FAILED", "<class 'ValueError'>")
    assert error["worker_id"] == raised["workerId"]
    returned = runpod.runsync("fail", {"how": "return"})
    assert (returned["status"], returned["error"]) == ("FAILED", "the input asked for an error")
    assert "seen" in returned["output"]


def test_progress_is_the_output_while_in_progress(runpod: Client) -> None:
    job_id = runpod.run("progress", {"steps": 2, "seconds": 1.0})
    eventually(lambda: runpod.status("progress", job_id).get("output"), {"step": 1, "of": 2})
    assert runpod.state("progress", job_id) == "IN_PROGRESS"
    ends(runpod, "progress", job_id, "COMPLETED")
    assert runpod.status("progress", job_id)["output"] == {"steps": 2}


def test_a_stream_comes_in_parts(runpod: Client) -> None:
    runpod.fault(kind="part", operation="stream")
    job_id = runpod.run("generator", {"text": "a few words"})
    eventually(lambda: runpod.state("generator", job_id), "COMPLETED")
    answers = [runpod.send("GET", f"/v2/generator/stream/{job_id}").json() for _ in range(4)]
    assert [[chunk["output"] for chunk in one["stream"]] for one in answers] == [["a"], ["few"], ["words"], []]
    client = RunPodClient(KEY, base_url=f"{runpod.address}/v2")
    assert list(client.stream("generator", runpod.run("generator", {"text": "one by one"}))) == ["one", "by", "one"]


def test_a_generator_streams_and_aggregates(runpod: Client) -> None:
    job_id = runpod.run("generator", {"text": "one two three", "seconds": 0.1})
    words: list[str] = []
    answer = {"status": "IN_QUEUE", "stream": [None]}
    while answer["status"] in ("IN_QUEUE", "IN_PROGRESS") or answer["stream"]:
        answer = runpod.send("GET", f"/v2/generator/stream/{job_id}?wait=500").json()
        words += [chunk["output"] for chunk in answer["stream"]]
    assert words == ["one", "two", "three"]
    assert runpod.status("generator", job_id)["output"] == words
    assert runpod.send("GET", f"/v2/generator/stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}


def test_an_async_handler_is_cancelled_without_its_worker(runpod: Client) -> None:
    runpod.runsync("asynchronous", {"seconds": 0})
    before = workers(runpod, "asynchronous")
    job_id = runpod.run("asynchronous", {"seconds": 600})
    ends(runpod, "asynchronous", job_id, "IN_PROGRESS")
    runpod.send("POST", f"/v2/asynchronous/cancel/{job_id}")
    eventually(lambda: runpod.health("asynchronous")["workers"]["running"], 0)
    assert runpod.runsync("asynchronous", {"seconds": 0})["status"] == "COMPLETED"
    assert workers(runpod, "asynchronous") == before


def test_a_plain_handler_is_cancelled_with_its_worker(runpod: Client) -> None:
    job_id = runpod.run("fail", {"how": "hang"})
    ends(runpod, "fail", job_id, "IN_PROGRESS")
    before = workers(runpod, "fail")
    runpod.send("POST", f"/v2/fail/cancel/{job_id}")
    assert runpod.state("fail", job_id) == "CANCELLED"
    assert runpod.runsync("fail", {})["output"] == "fine"
    assert workers(runpod, "fail") != before


def test_a_hang_ends_by_the_execution_timeout_and_its_worker_is_killed(runpod: Client) -> None:
    runpod.runsync("fail", {})
    before = workers(runpod, "fail")
    job_id = runpod.run("fail", {"how": "hang"}, policy={"executionTimeout": 500})
    ends(runpod, "fail", job_id, "TIMED_OUT")
    eventually(lambda: set(before) & set(workers(runpod, "fail")), set())
    assert runpod.runsync("fail", {})["output"] == "fine"


def test_a_handler_that_exits_is_run_again_and_then_fails(runpod: Client) -> None:
    job_id = runpod.run("fail", {"how": "exit", "code": 3})
    ends(runpod, "fail", job_id, "FAILED")
    found = runpod.status("fail", job_id)
    assert found["error"] == "the worker exited with exit code 3 while running the job, 3 times; not tried again"
    assert found["retries"] == 2
    assert runpod.health("fail")["workers"]["unhealthy"] == 1
    assert runpod.runsync("fail", {})["output"] == "fine"
    assert runpod.health("fail")["workers"]["unhealthy"] == 0


def test_a_crash_on_demand(runpod: Client) -> None:
    runpod.fault("crash", endpoint="echo", operation="worker", times=1)
    job_id = runpod.run("echo", 7)
    ends(runpod, "echo", job_id, "COMPLETED")
    assert [job["attempts"] for job in runpod.jobs("echo")] == [2]


def test_a_result_that_runpod_refuses_is_lost(runpod: Client) -> None:
    runpod.fault("status", endpoint="echo", operation="worker", status=400)
    job_id = runpod.run("echo", 7, policy={"executionTimeout": 6000})
    ends(runpod, "echo", job_id, "TIMED_OUT")


def test_a_handler_that_never_starts_shows_as_unhealthy(tmp_path: object) -> None:
    path = f"{tmp_path}/broken.py"
    with open(path, "w", encoding="utf-8") as file:
        file.write("raise SystemExit(2)\n")
    with simulator("--endpoint", f"broken={path}") as client:
        job_id = client.run("broken")
        eventually(lambda: client.health("broken")["workers"]["unhealthy"] >= 2, True)
        assert client.state("broken", job_id) == "IN_QUEUE"


def test_workers_come_with_the_jobs_and_go_when_idle() -> None:
    with simulator(*endpoint("asynchronous", "workers=2,idle=0.5"), *endpoint("progress", "workers=2,idle=0.5")) as one:
        assert workers(one, "progress") == []
        job_ids = [one.run("progress", {"steps": 1, "seconds": 3.0}) for _ in range(5)]
        eventually(lambda: one.health("progress")["workers"]["running"], 2, within_s=40)
        assert len(workers(one, "progress")) == 2
        for job_id in job_ids[2:]:
            one.send("POST", f"/v2/progress/cancel/{job_id}")
        eventually(lambda: workers(one, "progress"), [], within_s=40)
        assert [one.state("progress", job_id) for job_id in job_ids[:2]] == ["COMPLETED"] * 2
        assert one.health("progress")["workers"]["unhealthy"] == 0


def test_one_async_worker_runs_several_jobs_at_once() -> None:
    with simulator(*endpoint("asynchronous", "workers=1,idle=60")) as one:
        job_ids = [one.run("asynchronous", {"seconds": 3.0}) for _ in range(4)]
        states = lambda: {one.state("asynchronous", job_id) for job_id in job_ids}  # noqa: E731
        eventually(states, {"IN_PROGRESS"}, within_s=40)
        assert len(workers(one, "asynchronous")) == 1
        eventually(states, {"COMPLETED"}, within_s=40)
