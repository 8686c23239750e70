"""A job's life: every step from every state, deadlines, and what RunPod shows of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_runpod._simulator.simulated_jobs import MOST_LOST, NOTHING, Job, State


def new(**fields: object) -> Job:
    return Job("9f-u1", "sdxl", {"prompt": "a bee"}, 100.0, **fields)  # type: ignore[arg-type]


def in_state(state: State) -> Job:
    job = new()
    if state is State.CANCELLED:
        job.cancel(101.0)
    elif state is not State.IN_QUEUE:
        job.start(101.0, "w1")
        if state is State.COMPLETED:
            job.finish(102.0, output=1)
        elif state is State.FAILED:
            job.finish(102.0, error="no")
        elif state is State.TIMED_OUT:
            job.time_out(102.0)
    assert job.state is state
    return job


STEPS: dict[str, tuple[Callable[[Job], bool], set[State]]] = {
    "start": (lambda job: job.start(200.0, "w2"), {State.IN_QUEUE}),
    "report": (lambda job: job.report("half"), {State.IN_PROGRESS}),
    "stream": (lambda job: job.stream("a"), {State.IN_PROGRESS}),
    "finish": (lambda job: job.finish(200.0, output=2), {State.IN_PROGRESS}),
    "cancel": (lambda job: job.cancel(200.0), {State.IN_QUEUE, State.IN_PROGRESS}),
    "time_out": (lambda job: job.time_out(200.0), {State.IN_PROGRESS}),
    "requeue": (lambda job: job.requeue(200.0), {State.IN_PROGRESS}),
    "give_back": (lambda job: job.give_back(200.0), {State.IN_PROGRESS}),
    "lose": (lambda job: job.lose(200.0, "crashed"), {State.IN_PROGRESS}),
    "retry": (lambda job: job.retry(200.0), {State.FAILED, State.TIMED_OUT}),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_possible_in_its_states_alone_and_otherwise_changes_nothing(step: str, state: State) -> None:
    do, allowed = STEPS[step]
    job = in_state(state)
    before = job.answer()
    assert do(job) is (state in allowed)
    if state not in allowed:
        assert job.answer() == before


def test_times_are_shown_in_milliseconds() -> None:
    job = new()
    assert job.answer() == {"id": "9f-u1", "status": "IN_QUEUE"}
    job.start(102.5, "w1")
    assert job.answer() == {"id": "9f-u1", "status": "IN_PROGRESS", "delayTime": 2500, "workerId": "w1"}
    job.finish(103.75, output=[1])
    assert job.answer() == {
        "id": "9f-u1", "status": "COMPLETED", "delayTime": 2500, "executionTime": 1250, "workerId": "w1", "output": [1],
    }  # fmt: skip


def test_progress_is_the_output_while_in_progress_and_not_after() -> None:
    job = new()
    job.start(101.0, "w1")
    job.report({"step": 1})
    assert job.answer()["output"] == {"step": 1}
    job.finish(102.0)
    assert "output" not in job.answer()


def test_an_empty_dict_is_dropped_and_null_is_not() -> None:
    empty, null = new(), new()
    for job, output in ((empty, {}), (null, None)):
        job.start(101.0, "w1")
        job.finish(102.0, output=output)
    assert "output" not in empty.answer()
    assert null.answer()["output"] is None


def test_a_failure_keeps_error_of_any_type_and_the_output_beside_it() -> None:
    job = new()
    job.start(101.0, "w1")
    job.finish(102.0, output={"seen": 1}, error={"code": 7})
    assert (job.state, job.answer()["error"], job.answer()["output"]) == (State.FAILED, {"code": 7}, {"seen": 1})


def test_a_job_whose_workers_die_runs_again_and_then_fails() -> None:
    job = new()
    for attempt in range(1, MOST_LOST + 1):
        assert job.start(100.0 + attempt, "w1")
        assert job.lose(100.5 + attempt, "exited with exit code 1")
    assert (job.state, job.attempts, job.retries) == (State.FAILED, MOST_LOST, MOST_LOST - 1)
    assert job.error == "the worker exited with exit code 1 while running the job, 3 times; not tried again"


def test_a_retry_forgets_the_old_outcome() -> None:
    job = in_state(State.FAILED)
    assert job.retry(200.0)
    assert job.answer() == {"id": "9f-u1", "status": "IN_QUEUE", "retries": 1}
    assert job.error is NOTHING


@pytest.mark.parametrize(
    ("state", "fields", "expected"),
    [
        (State.IN_QUEUE, {}, 86_500.0),
        (State.IN_QUEUE, {"ttl_s": 10.0}, 110.0),
        (State.IN_PROGRESS, {}, 701.0),
        (State.IN_PROGRESS, {"execution_timeout_s": 5.0}, 106.0),
        (State.IN_PROGRESS, {"ttl_s": 10.0}, 110.0),
        (State.COMPLETED, {}, 1902.0),
        (State.COMPLETED, {"sync": True}, 162.0),
        (State.COMPLETED, {"ttl_s": 10.0}, 110.0),
        (State.CANCELLED, {}, 1901.0),
    ],
)
def test_deadlines(state: State, fields: dict[str, object], expected: float) -> None:
    job = in_state(state)
    for name, value in fields.items():
        setattr(job, name, value)
    assert job.deadline() == expected


def test_a_job_that_did_not_reach_its_worker_was_not_tried() -> None:
    job = in_state(State.IN_PROGRESS)
    job.give_back(102.0)
    assert (job.state, job.attempts, job.retries, job.started_at) == (State.IN_QUEUE, 0, 0, None)


def test_retention_can_be_set() -> None:
    assert in_state(State.COMPLETED).deadline(3.0) == 105.0


def test_the_webhook_has_input_webhook_and_times_always() -> None:
    job = new(webhook="http://127.0.0.1/hook")
    job.cancel(101.0)
    assert job.webhook_body() == {
        "id": "9f-u1", "status": "CANCELLED", "delayTime": 0, "executionTime": 0,
        "input": {"prompt": "a bee"}, "webhook": "http://127.0.0.1/hook",
    }  # fmt: skip


def test_a_deleted_job_is_listed_with_the_reason_unless_it_had_ended() -> None:
    queued, done = in_state(State.IN_QUEUE), in_state(State.COMPLETED)
    queued.gone, done.gone = "PURGED", "FORGOTTEN"
    assert [queued.described()["status"], done.described()["status"]] == ["PURGED", "COMPLETED"]
