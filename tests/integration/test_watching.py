"""Watching a job, and a whole flow, from the caller's process: real Redis, real workers, the simulator."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from celery_runpod import JobResult, errors
from tests.application import collect, same, wrap
from tests.servers import World
from tests.waiting import eventually

WAIT_S = 60


def endpoint_id(world: World, task_id: str) -> str:
    """RunPod's id of the endpoint that has a job."""
    from celery_runpod._store.store import store_of

    place = store_of(world.app()).ids.place(task_id)
    assert place is not None and place.endpoint is not None
    return place.endpoint


def test_a_job_is_watched_until_its_end(world: World) -> None:
    result = world.endpoint("progress").delay(steps=5, seconds=2)
    updates = list(result.watch(timeout=WAIT_S))
    assert [update.ended for update in updates] == [False] * (len(updates) - 1) + [True]
    states = list(dict.fromkeys(update.state for update in updates))
    assert "IN_PROGRESS" in states and states[-1] == "SUCCESS"
    assert any(update.progress is not None for update in updates)
    assert updates[-1].result == result.get(timeout=WAIT_S)
    assert updates[-1].job_id in {job["id"] for job in world.jobs("progress")}
    seconds = [update.seconds for update in updates if update.seconds is not None]
    assert seconds and seconds == sorted(seconds)


def test_a_result_whose_notification_is_lost_is_read_all_the_same(world: World) -> None:
    """As when Redis fails over, or the caller's connection is cut, just when the job ends."""
    result = world.endpoint("fast").delay(n=1)
    silent = JobResult(f"copy-of-{result.id}", app=world.app())
    with ThreadPoolExecutor(1) as other:
        waits = other.submit(silent.get, timeout=WAIT_S)
        channel = silent.backend.get_key_for_task(silent.id).decode()
        eventually(lambda: dict(world.redis.pubsub_numsub(channel))[channel], 1, within_s=WAIT_S)
        assert result.get(timeout=WAIT_S) == {"n": 1}
        stored = json.loads(world.redis.get(result.backend.get_key_for_task(result.id)))
        world.redis.set(channel, json.dumps({**stored, "task_id": silent.id}))
        assert waits.result(timeout=WAIT_S) == {"n": 1}


def test_many_are_watched_in_one_event_loop(world: World) -> None:
    started = [world.endpoint("fast").delay(n=n) for n in range(10)]

    async def last(result: JobResult) -> str:
        state = ""
        async for update in result.awatch(timeout=WAIT_S):
            state = update.state
        return state

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(last(result) for result in started))

    assert asyncio.run(all_of_them()) == ["SUCCESS"] * 10


def test_a_watch_of_a_failure_raises_nothing(world: World) -> None:
    *_, last = world.endpoint("fail").delay(how="raise").watch(timeout=WAIT_S)
    assert last.state == "FAILURE" and isinstance(last.error, errors.JobFailed)


def test_workers_see_which_jobs_are_watched(world: World) -> None:
    from celery_runpod._store.store import store_of

    store = store_of(world.app())
    watched, other = (world.endpoint("slow").delay(n=n) for n in range(2))
    eventually(lambda: (watched.state, other.state), ("IN_PROGRESS", "IN_PROGRESS"), within_s=WAIT_S)
    assert watched.progress is None
    endpoint = endpoint_id(world, watched.id)
    assert store.watches.among(endpoint, [watched.id, other.id]) == {watched.id}
    for result in (watched, other):
        result.cancel()
        with pytest.raises(errors.JobCancelled):
            result.get(timeout=30)


def test_a_chain_says_which_step_runs_and_is_cancelled_as_a_whole(world: World) -> None:
    flow = JobResult.of(chain(wrap.s(1), world.endpoint("slow").s(), same.s(), wrap.s()).delay())
    first, gpu, after, last = flow.steps
    eventually(lambda: (flow.state, [one.task_id for one in flow.current]), ("IN_PROGRESS", [gpu.id]), within_s=WAIT_S)
    assert (first.reason, gpu.reason, after.reason, last.reason) == (None, None, "EARLIER_STEP", "EARLIER_STEP")
    update = next(iter(last.watch(timeout=0)))
    assert update.step is not None and (update.step.task_id, update.step.state) == (gpu.id, "IN_PROGRESS")
    by_id = JobResult.of(last.id)
    assert ([one.task_id for one in by_id.current], by_id.state) == ([gpu.id], "IN_PROGRESS")
    with pytest.raises(errors.ResultTimeout, match="IN_PROGRESS"):
        flow.get(timeout=0.1)
    flow.cancel()
    eventually(lambda: (flow.ready(), flow.state), (True, "REVOKED"), within_s=30)
    for step in (gpu, last):
        with pytest.raises(TaskRevokedError) as caught:
            step.get(timeout=30)
        assert isinstance(caught.value, errors.JobCancelled)


def test_a_failure_ends_the_watch_of_a_later_step(world: World) -> None:
    result = chain(world.endpoint("failing").s(), wrap.s()).delay()
    *_, last = JobResult(result.id).watch(timeout=WAIT_S)
    assert (last.ended, last.state) == (True, "FAILURE") and isinstance(last.error, errors.JobFailed)


def test_a_chord_that_waits_for_its_members_is_cancelled_as_a_whole(world: World) -> None:
    flow = JobResult.of(chord([world.endpoint("slow").s(n=n) for n in range(2)], collect.s()).delay())
    body = flow.steps[-1]
    eventually(lambda: (body.reason, len(flow.current)), ("EARLIER_STEP", 2), within_s=WAIT_S)
    flow.cancel()
    eventually(lambda: {step.state for step in flow.steps[:2]}, {"REVOKED"}, within_s=30)
    eventually(flow.ready, True, within_s=30)


def test_a_group_of_which_one_is_cancelled(world: World) -> None:
    flow = JobResult.of(group(world.endpoint("slow").s(a=1), world.endpoint("fast").s(b=2)).delay())
    slow, fast = flow.steps
    assert fast.get(timeout=WAIT_S) == {"b": 2}
    with pytest.raises(errors.ResultTimeout, match=slow.id):
        flow.get(timeout=0.2)
    slow.cancel()
    with pytest.raises(errors.JobCancelled):
        flow.get(timeout=30)
    assert (flow.ready(), flow.state) == (True, "REVOKED")


def test_a_timeout_names_the_reason(world: World) -> None:
    result = world.endpoint("slow").apply_async(({"a": 1},), countdown=600)
    eventually(lambda: result.reason, "COUNTDOWN", within_s=30)
    with pytest.raises(errors.ResultTimeout, match=r"WAITING \(COUNTDOWN\)"):
        result.get(timeout=0.2)
    with pytest.raises(errors.ResultTimeout, match=r"WAITING \(COUNTDOWN\)"):
        asyncio.run(result.aget(timeout=0.2))
    result.cancel()
    with pytest.raises(errors.JobCancelled):
        result.get(timeout=30)


def test_the_awaitable_calls(world: World) -> None:
    async def both() -> list[object]:
        results = [await world.endpoint("fast").adelay({"a": 1}, b=2)]
        results.append(await world.endpoint("fast").aapply_async(({"c": 3},), priority=3))
        found = [await result.aget(timeout=WAIT_S) for result in results]
        return [*found, *[await result.astate() for result in results]]

    assert asyncio.run(both()) == [{"a": 1, "b": 2}, {"c": 3}, "SUCCESS", "SUCCESS"]
