"""What a purge means for our jobs, and what is kept of a job that failed."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import JobNotFound, JobPurged, PurgeRefused, RateLimited, RetryRefused, Unavailable, decode
from celery_runpod.options import Options
from config.profiles import Profile
from tasks.endpoint_tasks import purge_queue
from tasks.retry import retry
from tests.builders import ENDPOINT, Bench

GONE = JobNotFound("job not found", "status", ENDPOINT, 404)
FAILED = Job("r1", "FAILED", error="out of memory")


def purge(bench: Bench) -> int:
    return int(bench.app.tasks[purge_queue.name](ENDPOINT))


def run_again(bench: Bench, task_id: str = "t1", message: str = "m1", **kwargs: Any) -> str:
    """The task, as the message `message` runs it."""
    task = bench.app.tasks[retry.name]
    task.push_request(id=message)
    try:
        return str(task.run(task_id, **kwargs))
    finally:
        task.pop_request()


def failed(bench: Bench, **changes: Any) -> None:
    bench.accepted(**changes)
    bench.runpod.says("status", FAILED)
    bench.check(after_s=2)
    bench.deliver()


@pytest.mark.parametrize("answer", [GONE, Job("r1", "CANCELLED")], ids=["404", "CANCELLED"])
def test_a_queued_job_that_is_gone_after_a_purge_was_purged(answer: Any) -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("purge-queue", 1)
    bench.runpod.says("status", answer)
    assert purge(bench) == 1
    bench.check()
    error = decode(bench.record().outcome["error"])
    assert isinstance(error, JobPurged)
    assert (error.task_id, error.job_id) == ("t1", "r1")


def test_a_purge_whose_worker_was_lost_is_not_done_twice() -> None:
    bench = Bench()
    bench.accepted()
    task = bench.app.tasks[purge_queue.name]
    task.push_request(id="m1", called_directly=False, delivery_info={"redelivered": True})
    try:
        with pytest.raises(Unavailable, match="it may have been done") as caught:
            task.run(ENDPOINT)
    finally:
        task.pop_request()
    assert caught.value.sent
    assert bench.runpod.called("purge-queue") == 0
    assert bench.store.least_due(ENDPOINT) == bench.now


def test_a_purge_leaves_what_runs_and_what_came_later() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("purge-queue", 0)
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"), Job("r1", "CANCELLED"))
    purge(bench)
    bench.check()
    assert bench.record().state is State.IN_PROGRESS
    bench.check(after_s=20)
    assert bench.record().state is State.CANCELLED
    bench.now += 5
    bench.accepted("t2")
    bench.runpod.says("status", Job("r2", "CANCELLED"))
    bench.check(after_s=2)
    assert bench.record("t2").state is State.CANCELLED


def test_while_a_submit_is_unanswered_nothing_is_purged() -> None:
    bench = Bench()
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted()
    with pytest.raises(PurgeRefused):
        purge(bench)
    assert bench.runpod.called("purge-queue") == 0


@pytest.mark.parametrize(
    ("trouble", "noted"),
    [
        (RateLimited("slow", "purge-queue", ENDPOINT, 429), False),
        (Unavailable("refused", "purge-queue", ENDPOINT, sent=False), False),
        (Unavailable("reset", "purge-queue", ENDPOINT), True),
    ],
)
def test_a_purge_that_may_have_been_done_counts(trouble: Exception, noted: bool) -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("purge-queue", trouble)
    bench.runpod.says("status", Job("r1", "CANCELLED"))
    with pytest.raises(type(trouble)):
        purge(bench)
    bench.check(after_s=2)
    assert bench.record().state is (State.ENDED_HERE if noted else State.CANCELLED)


def test_a_failed_job_runs_again_as_a_new_call() -> None:
    bench = Bench()
    failed(bench, options=Options(deadline=300.0, start_timeout=60.0), api_key_name="blue")
    bench.now += 3600
    new_id = run_again(bench)
    again = bench.record(new_id)
    assert (again.input, again.api_key_name, again.root_id, again.state) == ({"a": 1}, "blue", "t1", State.WAITING)
    assert (again.end_by, again.start_by) == (bench.now + 300, bench.now + 60)
    assert json.loads(again.continuation)["options"]["task_id"] == new_id
    bench.check()
    assert bench.record(new_id).job_id == "r2"


def test_a_repeated_message_begins_no_second_job_and_another_one_is_refused() -> None:
    bench = Bench()
    failed(bench)
    new_id = run_again(bench)
    assert run_again(bench) == new_id
    bench.check()
    assert bench.runpod.called("run") == 2
    with pytest.raises(RetryRefused, match=new_id) as refused:
        run_again(bench, message="m2")
    assert refused.value.again_as == new_id


@pytest.mark.parametrize("ended", [Job("r1", "COMPLETED", output=1), Job("r1", "CANCELLED")], ids=str)
def test_of_what_has_not_failed_no_input_is_kept(ended: Job) -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", ended)
    bench.check(after_s=2)
    bench.deliver()
    assert bench.store.retries.failed(ENDPOINT, "t1") is None
    with pytest.raises(RetryRefused, match=f"ended as {ended.state}"):
        run_again(bench)


def test_how_long_it_is_kept_is_a_setting_and_a_profiles_own() -> None:
    for bench, kept_s in (
        (Bench(), 86_400),
        (Bench(RUNPOD_KEEP_FAILED_S="60"), 60),
        (Bench({ENDPOINT: Profile(ENDPOINT, keep_failed_s=5.0)}), 5),
    ):
        failed(bench)
        assert bench.redis.ttl(bench.store.keys.failed(ENDPOINT, "t1")) == kept_s
    bench = Bench(RUNPOD_KEEP_FAILED_S="0")
    failed(bench)
    assert bench.store.retries.failed(ENDPOINT, "t1") is None
    with pytest.raises(RetryRefused, match="RUNPOD_KEEP_FAILED_S"):
        run_again(bench)


def test_a_member_of_a_group_or_chord_is_refused_also_through_its_chain() -> None:
    bench = Bench()
    for number, options in enumerate(
        (
            {"group_id": "g"},
            {"chord": {"task": "body", "args": [], "kwargs": {}, "options": {}}},
            {"chain": [{"task": "x", "args": [], "kwargs": {}, "options": {"chord": {"task": "body"}}}]},
        )
    ):
        job = bench.job(f"t{number}")
        continuation = json.loads(job.continuation)
        continuation["options"].update(options)
        failed_job = replace(job, continuation=json.dumps(continuation))
        bench.store.ids.index(failed_job, (), ())
        bench.store.accept(failed_job, bench.now)
        assert (
            bench.store.record_outcome(failed_job, State.ENDED_HERE, {"error": None}, bench.now, bench.now)
            == "recorded"
        )
        bench.deliver(job.task_id)
        with pytest.raises(RetryRefused, match="group or chord"):
            run_again(bench, job.task_id)
        assert bench.store.retries.failed(ENDPOINT, job.task_id).get("retried_as") is None


def test_a_job_whose_chain_was_cancelled_meanwhile_is_refused() -> None:
    bench = Bench()
    failed(bench)
    bench.store.cancels.note_cancel(["t1"], scope="tree")
    with pytest.raises(RetryRefused, match="was cancelled"):
        run_again(bench)
    assert bench.runpod.called("run") == 1


def test_a_worker_that_was_killed_over_a_retry_leaves_it_to_the_next_delivery() -> None:
    bench = Bench()
    failed(bench)
    new_id = str(uuid.uuid5(uuid.NAMESPACE_OID, "m1:t1"))
    assert bench.store.retries.claim_retry(ENDPOINT, "t1", new_id) == (new_id, False)
    assert run_again(bench) == new_id
    assert bench.record(new_id).state is State.WAITING


def test_a_retry_whose_message_never_came_back_is_begun_by_the_next_one_under_the_same_id() -> None:
    bench = Bench()
    failed(bench)
    bench.store.retries.claim_retry(ENDPOINT, "t1", "claimed-and-killed")
    assert run_again(bench, message="m2") == "claimed-and-killed"
    assert bench.record("claimed-and-killed").state is State.WAITING
    with pytest.raises(RetryRefused, match="as task claimed-and-killed"):
        run_again(bench, message="m3")


def test_what_a_newer_version_has_kept_is_left_to_it() -> None:
    bench = Bench()
    failed(bench)
    bench.redis.hset(bench.store.keys.failed(ENDPOINT, "t1"), "format", "99")
    with pytest.raises(RetryRefused, match="newer version"):
        run_again(bench)


def test_a_failure_that_is_just_being_delivered_is_waited_for() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", FAILED)
    bench.check(after_s=2)
    with pytest.raises(RetryRefused, match="has not reached the caller"):
        run_again(bench)
    waited = len(bench.slept)
    slept = bench._sleep

    def delivered_meanwhile(seconds: float) -> None:
        slept(seconds)
        if len(bench.slept) == waited + 3:
            bench.deliver()

    object.__setattr__(bench.services, "sleep", delivered_meanwhile)
    assert bench.record(run_again(bench)).state is State.WAITING
    assert len(bench.slept) == waited + 3
