"""What a caller reads of a job, and of a whole flow: how it waits, how it failed, who is cancelled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from celery import chain, chord, group, states
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from celery_runpod import Endpoint, Flow, JobResult, JobUpdate, _asking, _flow, errors, results
from celery_runpod._live import job_reader
from celery_runpod._live.job_reader import Notes
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from tests.builders import ENDPOINT, NOW, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    for module in (results, _flow, job_reader):
        monkeypatch.setattr(module, "store_of", lambda app: made.store)
    fresh = Notes()
    monkeypatch.setattr(results, "notes", fresh)
    # Heartbeats are compared with the real time.
    made.store.workers.heartbeat("runpod@host", 4_000_000_000.0, 3600.0)
    return made


def result_of(bench: Bench, task_id: str = "t1") -> JobResult:
    return JobResult(task_id, app=bench.app)


def accepted(
    bench: Bench, task_id: str, before: tuple[str, ...] = (), root: str | None = None, **more: Any
) -> JobRecord:
    """A job in RunPod's queue, and what follows it."""
    job = bench.job(task_id, root_id=root or task_id, group_ids=before, **more)
    bench.store.ids.index(job, before, before)
    assert bench.store.accept(job, NOW) == "accepted"
    assert bench.redis.hset(bench.store.keys.job(ENDPOINT, task_id), mapping={"state": "IN_QUEUE", "job_id": "r1"})
    return job


def noted(bench: Bench, task_id: str, **fields: str) -> None:
    bench.redis.hset(bench.store.keys.job(ENDPOINT, task_id), mapping=fields)


# Ids


def test_an_id_may_be_the_uuid_of_a_url_or_a_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    row, cancelled, asked = UUID(int=7), [], []
    monkeypatch.setattr(results, "publish_cancel", lambda app, ids, scope: cancelled.append(ids))
    monkeypatch.setattr(_asking, "ask", lambda task, args, *_, **__: asked.append(args) or "t2")
    bench.app.backend.store_result(str(row), "an output", "SUCCESS")
    assert JobResult(row, app=bench.app).get(timeout=1) == "an output"
    assert JobResult.of(row, app=bench.app).get(timeout=1) == "an output"
    results.cancel(row, app=bench.app)
    results.cancel([row, "t1"], app=bench.app)
    Endpoint(ENDPOINT, app=bench.app).retry(row)
    assert (cancelled, asked) == ([[str(row)], [str(row), "t1"]], [(str(row),)])


# Waiting


def test_a_call_that_shares_its_job_has_that_jobs_reason_and_watches_it(bench: Bench) -> None:
    accepted(bench, "shared", reason="COLD_START")
    accepted(bench, "t1")
    noted(bench, "t1", state="JOINED", joined="shared")
    bench.app.backend.store_result("t1", {"progress": 3}, "IN_PROGRESS")
    assert (result_of(bench).reason, result_of(bench).progress) == ("COLD_START", 3)
    assert bench.redis.keys("*:watched:*") == [bench.store.keys.watched(ENDPOINT, "shared")]


@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
def test_a_timeout_says_why(bench: Bench, timeout: Any) -> None:
    accepted(bench, "t1", reason="COLD_START")
    bench.app.backend.store_result("t1", {"reason": "COLD_START"}, "IN_QUEUE")
    for wait in (lambda: result_of(bench).get(timeout=timeout), lambda: asyncio.run(result_of(bench).aget(timeout))):
        with pytest.raises(CeleryTimeoutError, match=r"t1 was still IN_QUEUE \(COLD_START\) after 0.01 s") as caught:
            wait()
        error = caught.value
        assert isinstance(error, errors.ResultTimeout) and isinstance(error, errors.RunPodError)
        assert (error.task_id, error.state, error.reason, error.waited_s) == ("t1", "IN_QUEUE", "COLD_START", 0.01)


@pytest.mark.parametrize("timeout", [-1, "10", float("nan"), True])
def test_a_timeout_that_cannot_be_is_refused(bench: Bench, timeout: Any) -> None:
    result = result_of(bench)
    for wait in (result.get, lambda given: list(result.watch(given)), lambda given: list(result.stream(timeout=given))):
        with pytest.raises(errors.InvalidOption, match="timeout"):
            wait(timeout)


def test_a_timeout_without_a_worker_says_so(bench: Bench) -> None:
    bench.store.workers.heartbeat("runpod@host", 0.0, 0.0)
    with pytest.raises(errors.ResultTimeout, match="NO_WORKER"):
        result_of(bench).get(timeout=0.01)
    with pytest.raises(errors.ResultTimeout, match="NO_WORKER"):
        result_of(bench).wait(0.01)


def test_a_timeout_that_the_task_itself_raised_stays_what_it_is(bench: Bench) -> None:
    bench.app.backend.store_result("t1", CeleryTimeoutError("of the task"), states.FAILURE)
    with pytest.raises(CeleryTimeoutError, match="of the task") as caught:
        result_of(bench).get(timeout=5)
    assert not isinstance(caught.value, errors.ResultTimeout)


# Cancelled


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_cancelled_job_raises_job_cancelled(bench: Bench, how: str) -> None:
    bench.app.backend.store_result("t1", TaskRevokedError(how), states.REVOKED)
    for wait in (lambda: result_of(bench).get(timeout=5), lambda: asyncio.run(result_of(bench).aget(5))):
        with pytest.raises(TaskRevokedError) as caught:
            wait()
        error = caught.value
        assert isinstance(error, errors.JobCancelled) and (error.message, error.task_id) == (how, "t1")
    assert isinstance(result_of(bench).error, errors.JobCancelled)
    assert isinstance(result_of(bench).get(propagate=False), errors.JobCancelled)
    assert result_of(bench).state == "REVOKED"


def test_other_errors_stay_what_they_are(bench: Bench) -> None:
    bench.app.backend.store_result("t1", errors.JobFailed("no memory", "sdxl", "t1"), states.FAILURE)
    with pytest.raises(errors.JobFailed, match="no memory"):
        result_of(bench).get(timeout=5)


# Watching


def test_watch_ends_with_the_end_and_raises_nothing(bench: Bench) -> None:
    bench.app.backend.store_result("t1", errors.JobFailed("no memory", "sdxl", "t1"), states.FAILURE)
    [update] = result_of(bench).watch()
    assert isinstance(update, JobUpdate) and update.ended and isinstance(update.error, errors.JobFailed)

    async def watched() -> list[JobUpdate]:
        return [update async for update in result_of(bench).awatch(timeout=timedelta(seconds=20))]

    assert [update.state for update in asyncio.run(watched())] == ["FAILURE"]


def test_watch_gives_the_state_at_once_and_may_end_before_the_job(bench: Bench) -> None:
    accepted(bench, "t1", reason="COLD_START")
    updates = list(result_of(bench).watch(timeout=0))
    assert [(one.state, one.reason, one.ended) for one in updates] == [("IN_QUEUE", "COLD_START", False)]
    assert bench.store.watches.among(ENDPOINT, ["t1"]) == {"t1"}


def test_reading_progress_counts_as_watching(bench: Bench) -> None:
    accepted(bench, "t1")
    assert result_of(bench).progress is None
    assert bench.store.watches.among(ENDPOINT, ["t1"]) == set(), "a job of which nothing is shown yet"
    bench.app.backend.store_result("t1", {"progress": 40}, "IN_PROGRESS")
    assert result_of(bench).progress == 40
    assert bench.store.watches.among(ENDPOINT, ["t1"]) == {"t1"}


def test_progress_is_read_though_the_store_refuses_the_note(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.app.backend.store_result("t1", {"progress": 40}, "IN_PROGRESS")

    def away(*_: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(bench.store.ids, "place", away)
    assert result_of(bench).progress == 40


def test_the_async_twins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.app.backend.store_result("t1", 1, states.SUCCESS)
    assert asyncio.run(result_of(bench).astate()) == "SUCCESS"
    given: list[Any] = []

    def apply_async(self: Endpoint, args: Any = (), kwargs: Any = None, **options: Any) -> JobResult:
        given.append((args, kwargs, options))
        return result_of(bench)

    monkeypatch.setattr(Endpoint, "apply_async", apply_async)
    sdxl = Endpoint("sdxl", app=bench.app)

    async def both() -> list[str]:
        return [(await sdxl.adelay({"a": 1}, b=2)).id, (await sdxl.aapply_async(({"a": 1},), {"b": 2}, priority=3)).id]

    assert asyncio.run(both()) == ["t1", "t1"]
    assert given == [(({"a": 1},), {"b": 2}, {}), (({"a": 1},), {"b": 2}, {"priority": 3})]


# Flows


def plain(bench: Bench) -> Any:
    @bench.app.task(name="unit.plain", shared=False)
    def task(*_: Any) -> None:
        pass

    return task


def test_a_later_step_says_that_it_waits_for_an_earlier_one(bench: Bench) -> None:
    accepted(bench, "first", ("last",))
    assert result_of(bench, "last").reason == "EARLIER_STEP"
    assert result_of(bench, "first").reason is None
    bench.store.workers.heartbeat("runpod@host", 0.0, 0.0)
    assert result_of(bench, "last").reason == "NO_WORKER"


def test_the_steps_of_a_chain_with_a_group_and_what_runs(bench: Bench) -> None:
    task = plain(bench)
    result = chain(task.s(), group(task.s(), chain(task.s(), task.s())), task.s()).freeze()
    flow = JobResult.of(result, app=bench.app)
    ids = [step.id for step in flow.steps]
    first, one, two, three, last = ids
    assert (last, flow.id) == (result.id, result.id)
    assert all(type(step) is JobResult for step in flow.steps)
    assert ([update.task_id for update in flow.current], flow.state, flow.ready()) == ([first], "PENDING", False)
    assert JobResult(last, app=bench.app, parent=result.parent).reason == "EARLIER_STEP"

    bench.app.backend.store_result(first, 1, states.SUCCESS)
    accepted(bench, two, (three, last), root=first, reason="COLD_START")
    noted(bench, two, progress='{"step": 7}')
    assert {update.task_id for update in flow.current} == {one, two}
    # What is known of comes before what is still in a queue.
    assert (flow.state, flow.reason, flow.progress) == ("IN_QUEUE", "COLD_START", {"step": 7})
    with pytest.raises(errors.ResultTimeout, match=rf"{two} was still IN_QUEUE \(COLD_START\)"):
        flow.get(timeout=0.01)

    for task_id in (one, two, three, last):
        bench.app.backend.store_result(task_id, task_id, states.SUCCESS)
    assert (flow.current, flow.state, flow.reason, flow.progress, flow.ready()) == ([], "SUCCESS", None, None, True)
    assert flow.get(timeout=5) == last


def test_a_flow_that_failed_has_ended(bench: Bench) -> None:
    task = plain(bench)
    flow = JobResult.of(chain(task.s(), task.s(), task.s()).freeze(), app=bench.app)
    first, second, last = (step.id for step in flow.steps)
    bench.app.backend.store_result(first, 1, states.SUCCESS)
    # Celery stores the error for the steps that follow too.
    for task_id in (second, last):
        bench.app.backend.store_result(task_id, errors.JobFailed("no memory", "sdxl", second), states.FAILURE)
    assert (flow.state, flow.current, flow.ready()) == ("FAILURE", [], True)
    with pytest.raises(errors.JobFailed, match="no memory"):
        flow.get(timeout=5)


def test_a_group_ends_with_its_last_member(bench: Bench) -> None:
    task = plain(bench)
    result = group(task.s(), task.s()).freeze()
    flow = JobResult.of(result, app=bench.app)
    one, two = (step.id for step in flow.steps)
    bench.app.backend.store_result(one, 1, states.SUCCESS)
    assert (flow.id, flow.ready(), [update.task_id for update in flow.current]) == (result.id, False, [two])
    bench.app.backend.store_result(two, TaskRevokedError("revoked"), states.REVOKED)
    assert (flow.ready(), flow.state) == (True, "REVOKED")


def test_a_flow_by_an_id_alone_finds_the_open_steps(bench: Bench) -> None:
    accepted(bench, "first", ("last",), reason="COLD_START")
    flow = JobResult.of("last", app=bench.app)
    assert [step.id for step in flow.steps] == ["first", "last"]
    assert ([update.task_id for update in flow.current], flow.reason) == (["first"], "COLD_START")
    assert not flow.ready()
    bench.app.backend.store_result("last", 1, states.SUCCESS)
    assert (flow.ready(), flow.state, flow.current) == (True, "SUCCESS", [])


def test_a_flow_by_the_id_of_a_group_finds_its_open_members(bench: Bench) -> None:
    for task_id in ("m1", "m2"):
        job = bench.job(task_id, group_ids=("g1",))
        bench.store.ids.index(job, (), ("g1",))
        bench.store.accept(job, NOW)
    flow = JobResult.of("g1", app=bench.app)
    assert [step.id for step in flow.steps] == ["m1", "m2"]
    assert (flow.state, flow.ready()) == (State.WAITING, False)


def test_one_call_is_a_flow_of_one_step(bench: Bench) -> None:
    accepted(bench, "t1", reason="NO_CAPACITY")
    for given in ("t1", result_of(bench), JobResult.of("t1", app=bench.app)):
        flow = JobResult.of(given, app=bench.app)
        assert type(flow) is Flow and [step.id for step in flow.steps] == ["t1"]
        assert (flow.state, flow.reason) == ("IN_QUEUE", "NO_CAPACITY")


def test_a_cancel_of_a_flow_names_all_its_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []
    monkeypatch.setattr(_flow, "publish_cancel", lambda app, ids, scope: asked.append((ids, scope)))
    task = plain(bench)
    flow = JobResult.of(chord([task.s(), task.s()], task.s()).freeze(), app=bench.app)
    flow.cancel()
    [(ids, scope)] = asked
    assert (set(ids), scope) == ({step.id for step in flow.steps}, "tree") and len(ids) == 3
