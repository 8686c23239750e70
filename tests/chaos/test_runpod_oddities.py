"""Answers and accidents that RunPod is known for: each job ends once, with RunPod's word or one of our own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from celery_runpod.errors import DeadlineExceeded, JobExpired, JobFailed, JobTimedOut, OutputMissing, StartTimeout
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import World
from tests.waiting import eventually

WAIT_S = 120


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        tmp_path_factory.mktemp("odd"),
        endpoints=[
            "fast=synthetic:duration=0.3",
            "slow=synthetic:duration=60",
            "some_seconds=synthetic:duration=5",
            "queued=synthetic:duration=60,workers=1",
            "fail=examples/handlers/fail.py",
        ],
        env={**SHORT_WAITS, "RUNPOD_NOT_FOUND_GRACE_S": "2"},
    ) as world:
        yield world.start(application=None)


@pytest.fixture
def world(odd: World) -> Iterator[World]:
    odd.app()
    yield odd
    odd.no_faults()
    eventually(odd.open_jobs, [], within_s=90)


def run(world: World, endpoint: str = "fast", **options: Any) -> tuple[Any, str]:
    mark = uuid.uuid4().hex
    return world.endpoint(endpoint, **options).delay(mark=mark), mark


def says(world: World, body: Any, times: int = 1, **fault: Any) -> None:
    world.fault(operation="status", endpoint="fast", kind="body", body=json.dumps(body), times=times, **fault)


def test_completed_without_output_is_an_error_unless_the_call_allows_it(world: World) -> None:
    says(world, {"status": "COMPLETED"})
    with pytest.raises(OutputMissing) as caught:
        run(world)[0].get(timeout=WAIT_S)
    assert caught.value.job_id
    says(world, {"status": "COMPLETED"})
    assert run(world, allow_empty_output=True)[0].get(timeout=WAIT_S) is None


@pytest.mark.parametrize("error", [None, {"code": 7}, ["a", 1], 3, ""], ids=repr)
def test_failed_with_an_error_of_any_kind_or_none(world: World, error: Any) -> None:
    says(world, {"status": "FAILED"} | ({} if error is None else {"error": error}))
    with pytest.raises(JobFailed) as caught:
        run(world)[0].get(timeout=WAIT_S)
    assert caught.value.error == error
    assert str(caught.value)


@pytest.mark.parametrize("body", [{"status": "PAUSED"}, {"status": 7}, {}, [], "text", {"status": "RUNNING"}], ids=repr)
def test_an_answer_that_says_nothing_new_is_no_end(world: World, body: Any) -> None:
    says(world, body, times=2)
    result, mark = run(world)
    assert result.get(timeout=WAIT_S) == {"mark": mark}


def test_a_job_that_runpod_loses_from_its_queue_is_told_as_lost(world: World) -> None:
    world.fault(endpoint="fast", operation="run", kind="vanish", times=1)
    result, _ = run(world)
    with pytest.raises(JobExpired, match="was lost"):
        result.get(timeout=WAIT_S)


def test_one_404_about_a_job_that_runs_ends_nothing(world: World) -> None:
    result, mark = run(world, "some_seconds")
    eventually(lambda: result.state, "IN_PROGRESS")
    gone = {"kind": "status", "status": 404, "body": '{"error": "job not found"}'}
    world.fault(endpoint="some_seconds", operation="status", times=1, **gone)
    assert result.get(timeout=WAIT_S) == {"mark": mark}


def test_an_endpoint_that_is_lost_for_some_seconds_costs_no_job(world: World) -> None:
    results = [run(world) for _ in range(5)]
    world.fault(operation="status", kind="status", status=404, body='{"error": "endpoint not found"}')
    eventually(lambda: {result.reason for result, _ in results}, {"ENDPOINT_NOT_FOUND"}, within_s=30)
    world.no_faults()
    for result, mark in results:
        assert result.get(timeout=WAIT_S) == {"mark": mark}
        assert world.statuses(mark) == ["COMPLETED"]


def test_a_job_that_is_looked_at_for_the_first_time_at_its_deadline_has_its_result(world: World) -> None:
    result, mark = run(world, "some_seconds", deadline=10, backoff={"first": 600, "cap": 600})
    assert result.get(timeout=WAIT_S) == {"mark": mark}


def test_a_job_that_runpod_runs_twice_ends_once(world: World) -> None:
    world.fault(endpoint="fast", operation="run", kind="run_twice", times=1)
    result, mark = run(world)
    assert result.get(timeout=WAIT_S) == {"mark": mark}
    assert world.statuses(mark) == ["COMPLETED"]


def test_a_worker_that_dies_again_and_again_is_a_failed_job(world: World) -> None:
    with pytest.raises(JobFailed):
        world.endpoint("fail").delay(how="exit").get(timeout=WAIT_S)


def test_an_outage_longer_than_every_pause_costs_no_job(world: World) -> None:
    world.fault(operation="status", kind="status", status=503, body="<html>down</html>")
    results = [run(world) for _ in range(5)]
    eventually(lambda: {result.reason for result, _ in results}, {"API_DOWN"})
    world.fault(operation="run", kind="status", status=429, body="down")
    results += [run(world) for _ in range(5)]
    refused = world.requests()["run"].get("429", 0)
    eventually(lambda: world.requests()["run"].get("429", 0) >= refused + 3, True, within_s=60)
    world.no_faults()
    for result, mark in results:
        assert result.get(timeout=WAIT_S) == {"mark": mark}
        assert world.statuses(mark) == ["COMPLETED"]


def test_a_deadline_is_kept_while_the_api_is_down_and_the_cancel_is_made_up_for(world: World) -> None:
    result, mark = run(world, "slow", deadline=6)
    eventually(lambda: result.state, "IN_PROGRESS")
    world.fault(operation="*", kind="status", status=503, body="<html>down</html>")
    with pytest.raises(DeadlineExceeded):
        result.get(timeout=WAIT_S)
    assert world.statuses(mark) == ["IN_PROGRESS"]
    world.no_faults()
    eventually(lambda: world.statuses(mark), ["CANCELLED"], within_s=90)


def test_a_start_timeout_is_kept_while_the_api_is_down(world: World) -> None:
    busy, _ = run(world, "queued")
    eventually(lambda: busy.state, "IN_PROGRESS")
    result, mark = run(world, "queued", start_timeout=5)
    eventually(lambda: result.state, "IN_QUEUE")
    world.fault(operation="status", kind="drop_before")
    with pytest.raises(StartTimeout):
        result.get(timeout=WAIT_S)
    world.no_faults()
    busy.cancel()
    eventually(lambda: world.statuses(mark), ["CANCELLED"], within_s=90)


def test_a_job_that_no_worker_takes_in_its_time_to_live_timed_out(world: World) -> None:
    busy, _ = run(world, "queued")
    eventually(lambda: busy.state, "IN_PROGRESS")
    result, _ = run(world, "queued", ttl=10)
    with pytest.raises(JobTimedOut):
        result.get(timeout=WAIT_S)
    busy.cancel()


def test_failed_jobs_are_run_again_as_often_as_the_call_allows(world: World) -> None:
    mark = uuid.uuid4().hex
    result = world.endpoint("fail", retries=2).delay(how="raise", mark=mark)
    with pytest.raises(JobFailed):
        result.get(timeout=WAIT_S)
    assert world.statuses(mark) == ["FAILED"] * 3


def test_calls_with_one_idempotency_key_are_one_job(world: World) -> None:
    mark = uuid.uuid4().hex
    keyed = world.endpoint("fast", idempotency_key=f"order {mark}")
    results = [keyed.delay(mark=mark) for _ in range(5)]
    assert [result.get(timeout=WAIT_S) for result in results] == [{"mark": mark}] * 5
    assert keyed.delay(mark=mark).get(timeout=WAIT_S) == {"mark": mark}
    assert world.statuses(mark) == ["COMPLETED"]
    assert len({result.job_id for result in results}) == 1
