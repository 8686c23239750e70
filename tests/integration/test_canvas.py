"""Every form of Celery's canvas with endpoints in it, from an application that has only the client."""

from __future__ import annotations

import uuid

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError

from celery_runpod import JobResult, cancel
from celery_runpod.errors import JobFailed
from tests.application import app, collect, described, note, note_error, note_failure, routed, same, wrap
from tests.servers import World
from tests.waiting import eventually

WAIT_S = 60


def test_single_job(world: World) -> None:
    result = world.endpoint("fast").delay({"prompt": "a cat"}, steps=30)
    assert result.get(timeout=WAIT_S) == {"prompt": "a cat", "steps": 30}
    assert result.state == "SUCCESS"
    eventually(lambda: result.timings.get("execution_s", 0) > 0, True)
    assert result.job_id in {job["id"] for job in world.jobs("fast")}


def test_chain_before_and_after(world: World) -> None:
    flow = chain(wrap.s(1), world.endpoint("fast").s(steps=3), wrap.s())
    assert flow.delay().get(timeout=WAIT_S) == {"value": {"value": 1, "steps": 3}}


def test_endpoint_to_endpoint(world: World) -> None:
    fast = world.endpoint("fast")
    assert chain(fast.s(a=1), fast.s(b=2), fast.s(c=3)).delay().get(timeout=WAIT_S) == {"a": 1, "b": 2, "c": 3}


def test_an_immutable_step_does_not_take_the_previous_result(world: World) -> None:
    fast = world.endpoint("fast")
    assert chain(fast.s(a=1), fast.si(b=2)).delay().get(timeout=WAIT_S) == {"b": 2}


def test_group(world: World) -> None:
    fast = world.endpoint("fast")
    assert group(fast.s(n=n) for n in range(5)).delay().get(timeout=WAIT_S) == [{"n": n} for n in range(5)]


def test_chord(world: World) -> None:
    fast = world.endpoint("fast")
    assert chord([fast.s(n=n) for n in range(5)], collect.s()).delay().get(timeout=WAIT_S) == [
        {"n": n} for n in range(5)
    ]


def test_chord_of_chains(world: World) -> None:
    fast = world.endpoint("fast")
    header = [chain(wrap.s(n), fast.s(), wrap.s()) for n in range(3)]
    assert chord(header, collect.s()).delay().get(timeout=WAIT_S) == [{"value": {"value": n}} for n in range(3)]


def test_chord_in_chord(world: World) -> None:
    fast = world.endpoint("fast")
    inner = [chord([fast.s(n=n), fast.s(n=-n)], collect.s()) for n in (1, 2)]
    assert chord(inner, collect.s()).delay().get(timeout=WAIT_S) == [[{"n": n}, {"n": -n}] for n in (1, 2)]


def test_chain_into_group_into_task(world: World) -> None:
    fast = world.endpoint("fast")
    flow = chain(fast.s(a=1), group(fast.s(b=1), same.s(), fast.s(b=2)), collect.s())
    assert flow.delay().get(timeout=WAIT_S) == [{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 2}]


def test_chord_whose_body_is_an_endpoint(world: World) -> None:
    fast = world.endpoint("fast")
    assert chord([same.s(1), same.s(2)], fast.s()).delay().get(timeout=WAIT_S) == [1, 2]


def test_link(world: World) -> None:
    key = uuid.uuid4().hex
    world.endpoint("fast").apply_async(({"a": 1},), link=note.s(key)).get(timeout=WAIT_S)
    eventually(lambda: world.redis.lrange(key, 0, -1), ["{'a': 1}"])


def test_errback_in_the_applications_own_worker(world: World) -> None:
    key = uuid.uuid4().hex
    result = world.endpoint("failing").apply_async(({"a": 1},), link_error=note_error.s(key=key))
    with pytest.raises(JobFailed):
        result.get(timeout=WAIT_S)
    eventually(lambda: world.redis.lrange(key, 0, -1), [f"JobFailed {result.id}"])


def test_an_errback_as_in_celerys_documentation(world: World) -> None:
    key = uuid.uuid4().hex
    failing = world.endpoint("failing").s(a=1).on_error(note_failure.s(key))
    single = failing.clone().apply_async()
    flow = chain(failing.clone(), wrap.s()).apply_async()
    body = chord([failing.clone(), world.endpoint("fast").s(n=1)], collect.s()).apply_async()
    assert isinstance(single.get(timeout=WAIT_S, propagate=False), JobFailed)
    for result in (flow, body):
        assert result.get(timeout=WAIT_S, propagate=False) is not None
    member = body.parent.results[0]
    called = {f"JobFailed {task_id} True" for task_id in (single.id, flow.parent.id, member.id)}
    eventually(lambda: set(world.redis.lrange(key, 0, -1)), called, within_s=WAIT_S)


def test_failing_job_alone_tells_everything(world: World) -> None:
    result = world.endpoint("fail").delay(how="raise")
    with pytest.raises(JobFailed) as caught:
        result.get(timeout=WAIT_S)
    error = caught.value
    assert (error.error_type, error.endpoint, error.task_id) == ("ValueError", "fail", result.id)
    assert "asked for an exception" in str(error)
    assert "handler" in str(error.traceback)
    assert error.job_id in {job["id"] for job in world.jobs("fail")}
    assert isinstance(result.error, JobFailed)


def test_failing_job_in_a_chain_ends_the_chain(world: World) -> None:
    result = chain(wrap.s(1), world.endpoint("failing").s(), wrap.s()).delay()
    with pytest.raises(JobFailed):
        result.get(timeout=WAIT_S)


def test_failing_job_in_a_chord_fails_its_body(world: World) -> None:
    header = [world.endpoint("fast").s(n=1), world.endpoint("failing").s(n=2)]
    body = chord(header, collect.s()).delay()
    eventually(lambda: body.state, "FAILURE", within_s=WAIT_S)
    assert isinstance(body.result, ChordError)
    assert "JobFailed" in str(body.result)


def test_errbacks_of_a_chords_body_learn_of_a_failing_job(world: World) -> None:
    """In both forms: Celery's documented one, and the task id alone."""
    key = uuid.uuid4().hex
    header = [world.endpoint("fast").s(n=1), chain(wrap.s(2), world.endpoint("failing").s())]
    body = chord(header, collect.s().on_error(note_failure.s(key)).on_error(note_error.s(key))).delay()
    called = [f"ChordError {body.id}", f"ChordError {body.id} True"]
    eventually(lambda: sorted(world.redis.lrange(key, 0, -1)), called, within_s=WAIT_S)


def test_a_call_by_name_with_the_uuid_of_a_row(world: World) -> None:
    row = uuid.uuid4()
    call = app.signature("runpod.run", args=({"a": 1},), kwargs={"endpoint": "fast"})
    assert call.apply_async(task_id=row).id == str(row)
    assert JobResult(row, app=app).get(timeout=WAIT_S) == {"a": 1}


def test_a_message_whose_ids_are_uuids(world: World) -> None:
    """As a process sends it that does not import `celery_runpod`."""
    row = uuid.uuid4()
    app.send_task("runpod.run", args=({"a": 1},), kwargs={"endpoint": "fast"}, queue="runpod", task_id=row)
    assert JobResult(row, app=app).get(timeout=WAIT_S) == {"a": 1}


def test_returned_errors_let_a_chord_survive(world: World) -> None:
    header = [world.endpoint("fast").s(n=1), world.endpoint("failing", on_error="return").s(n=2)]
    first, second = chord(header, collect.s()).delay().get(timeout=WAIT_S)
    assert first == {"n": 1}
    assert second["error"]["type"] == "JobFailed"


def test_cancelled_job_alone(world: World) -> None:
    result = world.endpoint("slow").delay(a=1)
    eventually(lambda: result.state, "IN_PROGRESS")
    job_id = result.job_id
    result.cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT_S)
    assert result.state == "REVOKED"
    eventually(lambda: _status(world, "slow", job_id), "CANCELLED")


def test_cancelled_job_in_a_chain_ends_the_chain_and_calls_the_errback(world: World) -> None:
    key = uuid.uuid4().hex
    first = world.endpoint("slow").s(a=1).set(link_error=note_error.s(key=key))
    result = chain(first, wrap.s()).delay()
    eventually(lambda: JobResult(result.parent.id, app=app).state, "IN_PROGRESS")
    JobResult(result.parent.id, app=app).cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT_S)
    eventually(lambda: world.redis.lrange(key, 0, -1), [f"JobCancelled {result.parent.id}"])


def test_cancelled_job_in_a_chord_fails_its_body(world: World) -> None:
    result = chord([world.endpoint("slow").s(n=1), world.endpoint("fast").s(n=2)], collect.s()).delay()
    member = JobResult(result.parent.results[0].id, app=app)
    eventually(lambda: member.state, "IN_PROGRESS")
    member.cancel()
    eventually(lambda: result.state, "FAILURE", within_s=WAIT_S)
    assert isinstance(result.result, ChordError)
    assert "revoked" in str(result.result)


def test_cancel_by_the_id_of_a_chains_last_step(world: World) -> None:
    before = len(world.jobs("fast"))
    result = chain(world.endpoint("slow").s(a=1), world.endpoint("fast").s(b=1), wrap.s()).delay()
    first = JobResult(result.parent.parent.id, app=app)
    eventually(lambda: first.state, "IN_PROGRESS")
    cancel(result.id, app=app)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT_S)
    assert first.state == "REVOKED"
    assert len(world.jobs("fast")) == before


def test_cancel_a_group(world: World) -> None:
    result = group(world.endpoint("slow").s(n=n) for n in range(4)).delay()
    eventually(lambda: {child.state for child in result.results}, {"IN_PROGRESS"})
    cancel(result, app=app)
    eventually(lambda: {child.state for child in result.results}, {"REVOKED"})


def test_ignored_result_is_not_stored_and_the_link_still_runs(world: World) -> None:
    key = uuid.uuid4().hex
    result = world.endpoint("fast").apply_async(({"a": 1},), ignore_result=True, link=note.s(key))
    eventually(lambda: world.redis.lrange(key, 0, -1), ["{'a': 1}"])
    assert world.redis.get(f"celery-task-meta-{result.id}") is None


def test_priority_and_headers_survive_the_wait(world: World) -> None:
    flow = chain(world.endpoint("fast").s(a=1).set(priority=3), described.s().set(priority=6))
    result = flow.apply_async(headers={"tenant": "blue"})
    found = result.get(timeout=WAIT_S)
    assert found["priority"] == 6
    assert found["root"] == result.parent.id


def test_countdown_is_kept_in_the_store(world: World) -> None:
    result = world.endpoint("fast").apply_async(({"a": 1},), countdown=3)
    eventually(lambda: result.state, "WAITING")
    assert result.reason == "COUNTDOWN"
    assert result.get(timeout=WAIT_S) == {"a": 1}


def test_the_callers_routes_are_kept(world: World) -> None:
    world.stack.start(
        "elsewhere",
        [*_celery(), "-Q", "elsewhere", "-n", "elsewhere@%h", "-c", "1", "-l", "INFO"],
        ready=lambda server: " ready." in server.text(),
    )
    result = chain(world.endpoint("fast").s(a=1), routed.s()).delay()
    assert result.get(timeout=WAIT_S) == ["elsewhere", {"a": 1}]


def test_a_row_of_beat_is_a_task_by_name(world: World) -> None:
    result = app.send_task("runpod.run", args=[{"a": 1}], kwargs={"endpoint": "fast"}, queue="runpod")
    assert result.get(timeout=WAIT_S) == {"a": 1}


def test_500_jobs_in_one_group(world: World) -> None:
    fast = world.endpoint("fast")
    result = group(fast.s(n=n) for n in range(500)).delay()
    assert result.get(timeout=240) == [{"n": n} for n in range(500)]
    inputs = [job["input"]["n"] for job in world.jobs("fast") if set(job["input"]) == {"n"} and job["input"]["n"] >= 10]
    assert len(inputs) == len(set(inputs))


def _status(world: World, endpoint: str, job_id: str | None) -> str | None:
    return next((job["status"] for job in world.jobs(endpoint) if job["id"] == job_id), None)


def _celery() -> list[str]:
    import sys

    return [sys.executable, "-m", "celery", "-A", "tests.application", "worker"]
