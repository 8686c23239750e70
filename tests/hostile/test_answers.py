"""Answers of RunPod, or of whoever stands in between, that nobody expects: each job ends alone, typed, with its id."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from celery import chain, chord
from celery.exceptions import ChordError

from celery_runpod.errors import JobError, JobFailed, OutputMissing, OutputTooDeep
from celery_runpod.results import JobResult
from tests.application import collect, note, same
from tests.hostile.harm import WAIT_S, end_of, no_harm, typed
from tests.hostile.messages import deep
from tests.servers import World
from tests.waiting import eventually


def says(world: World, body: str, times: int | None = None, endpoint: str = "fast") -> None:
    """What /status answers for an endpoint from now on."""
    world.fault(operation="status", endpoint=endpoint, kind="body", body=body, times=times)


def run(world: World, endpoint: str = "fast", **options: Any) -> tuple[JobResult, str]:
    mark = uuid.uuid4().hex
    return world.endpoint(endpoint, **options).delay(mark=mark), mark


def completed(output: str) -> str:
    return f'{{"status": "COMPLETED", "output": {output}}}'


@pytest.mark.parametrize("levels", [70, 600, 5_000, 100_000])
def test_an_output_too_deep_is_an_error_that_keeps_runpods_id(world: World, levels: int) -> None:
    with no_harm(world, submits=1):
        says(world, completed(deep(levels)))
        result, mark = run(world)
        error = typed(world, result.id, OutputTooDeep)
        assert isinstance(error, OutputTooDeep)
        assert error.job_id == world.submits(mark)[0]["id"]
        world.no_faults()


def test_a_deep_output_of_a_member_fails_its_chord(world: World) -> None:
    with no_harm(world, submits=2):
        says(world, completed(deep(600)), times=1)
        members = [world.endpoint("fast").s(mark=uuid.uuid4().hex) for _ in range(2)]
        typed(world, chord(members, collect.s()).apply_async().id, ChordError, OutputTooDeep)
        world.no_faults()


def test_a_chain_does_not_go_on_with_a_deep_output(world: World) -> None:
    with no_harm(world, submits=1):
        says(world, completed(deep(600)))
        result = chain(world.endpoint("fast").s(mark=uuid.uuid4().hex), same.s()).apply_async()
        typed(world, result.parent.id, OutputTooDeep)
        eventually(lambda: result.state, "FAILURE", within_s=WAIT_S)
        world.no_faults()


def test_no_output_is_no_success_and_a_chain_does_not_go_on_with_it(world: World) -> None:
    key = f"hostile:{uuid.uuid4().hex}"
    with no_harm(world, submits=1):
        says(world, '{"status": "COMPLETED"}')
        result = chain(world.endpoint("fast").s(mark=(mark := uuid.uuid4().hex)), note.s(key)).apply_async()
        error = typed(world, result.parent.id, OutputMissing)
        assert isinstance(error, OutputMissing)
        assert error.job_id == world.submits(mark)[0]["id"]
        eventually(lambda: result.state, "FAILURE", within_s=WAIT_S)
        assert world.redis.lrange(key, 0, -1) == []
        world.no_faults()


def test_no_output_is_never_paid_for_again(world: World) -> None:
    with no_harm(world, submits=1):
        says(world, '{"status": "COMPLETED"}')
        result, _ = run(world, retries=3)
        typed(world, result.id, OutputMissing)
        world.no_faults()


def test_a_handler_without_output_may_say_so(world: World) -> None:
    with no_harm(world, submits=1):
        says(world, '{"status": "COMPLETED"}')
        result, _ = run(world, allow_empty_output=True)
        assert end_of(world, result.id) is None
        world.no_faults()


def test_an_output_that_is_null_is_one(world: World) -> None:
    with no_harm(world, submits=1):
        says(world, completed("null"))
        result, _ = run(world, allow_empty_output=True)
        assert end_of(world, result.id) is None
        world.no_faults()


NO_ANSWERS = (
    "<html><body>Bad gateway</body></html>" * 1000,
    deep(100_000),
    f'{{"status": {deep(500)}}}',
    f'{{"status": "COMPLETED", "output": {"[" * 100_000}',
    '{"status": "COMPLETED", "status": 3}',
    '{"status": "IN_PROGRESS", "delayTime": "x", "executionTime": -1e300}',
    '{"status": "IN_QUEUE", "delayTime": {"a": 1}}',
    "\x00" * 10_000,
    '"' + "x" * 1_000_000 + '"',
)


def test_an_answer_that_is_none_is_asked_for_again(world: World) -> None:
    with no_harm(world, submits=len(NO_ANSWERS)):
        for body in NO_ANSWERS:
            says(world, body, times=2)
            result, mark = run(world)
            assert end_of(world, result.id, what=body[:40]) == {"mark": mark}
            world.no_faults()


@pytest.mark.parametrize("levels", [600, 100_000])
def test_progress_too_deep_is_left_out_and_the_job_goes_on(world: World, levels: int) -> None:
    with no_harm(world, submits=1):
        says(world, f'{{"status": "IN_PROGRESS", "output": {deep(levels)}}}', times=3)
        result, mark = run(world)
        assert end_of(world, result.id) == {"mark": mark}


ERRORS = (deep(600), deep(100_000), json.dumps({"error_message": ["x"] * 100_000}), json.dumps("e" * 3_000_000), "[[]]")


def test_an_error_of_any_shape_is_a_failed_job(world: World) -> None:
    with no_harm(world, submits=len(ERRORS)):
        for error in ERRORS:
            says(world, f'{{"status": "FAILED", "error": {error}}}')
            result, mark = run(world)
            ended = typed(world, result.id, JobFailed, OutputTooDeep, what=error[:40])
            assert isinstance(ended, JobError)
            assert ended.job_id == world.submits(mark)[0]["id"]
            world.redis.delete(f"celery-task-meta-{result.id}")
            world.no_faults()
        # What failed is kept for a retry by hand, which is what its input and its error take in Redis.
        for key in world.redis.scan_iter("*:failed:*"):
            world.redis.delete(key)


def test_an_answer_to_a_submit_that_is_none_pays_once(world: World) -> None:
    bodies = (deep(100_000), f'{{"id": {deep(500)}}}', '{"id": "../x"}', f'{{"id": "{"x" * 300_000}"}}')
    with no_harm(world, submits=len(bodies)):
        sent = []
        for body in bodies:
            fault = world.fault(operation="run", endpoint="fast", kind="body", body=body, times=1)
            sent.append((body, *run(world)))
            eventually(lambda fault=fault: world.happened(fault), 1, within_s=WAIT_S)
        # Each waits until the time is over in which its submit might still be confirmed: all of them at once.
        for body, result, mark in sent:
            typed(world, result.id, JobError, what=body[:40])
            assert len(world.submits(mark)) == 1
        world.no_faults()


def test_one_404_in_the_middle_is_no_verdict(world: World) -> None:
    with no_harm(world, submits=1):
        result, mark = run(world, "five")
        eventually(lambda: result.state, "IN_PROGRESS", within_s=WAIT_S)
        missing = {"kind": "status", "status": 404, "body": '{"error": "job not found"}', "times": 1}
        fault = world.fault(operation="status", endpoint="five", **missing)
        eventually(lambda: world.happened(fault), 1, within_s=WAIT_S)
        assert end_of(world, result.id) == {"mark": mark}
