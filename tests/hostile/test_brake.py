"""The brake: `celery-runpod pause` stops submits at once while looks and deliveries go on; bounds on what may be open."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_runpod.errors import TooManyOpenJobs
from celery_runpod.results import JobResult
from tasks.submit_round import FRESH_S
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, asked, command, end_of, no_harm, revive, stays
from tests.servers import World
from tests.waiting import eventually

MOST_OPEN_JOBS, MOST_INPUT_BYTES = 80, 5_000_000


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    env = {"RUNPOD_MOST_OPEN_JOBS": str(MOST_OPEN_JOBS), "RUNPOD_MOST_INPUT_BYTES": str(MOST_INPUT_BYTES)}
    with servers_of(tmp_path_factory.mktemp("brake"), env=env, prepare=start_workers) as world:
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    revive(servers, start_workers)
    yield servers
    command(servers, "resume", "--all")
    servers.no_faults()


def quiet(world: World, count: Callable[[], int]) -> None:
    """Wait until no submit is under way, and none has come for longer than a process believes what it has read of a
    pause (`FRESH_S`)."""
    last, since, until = count(), time.monotonic(), time.monotonic() + WAIT_S
    while time.monotonic() - since < 4 * FRESH_S or world.redis.zcard("{runpod:five}:posts"):
        assert time.monotonic() < until, f"submits go on: {last}"
        time.sleep(0.1)
        if (now := count()) != last:
            last, since = now, time.monotonic()


def countdowns_are_over(world: World, results: list[JobResult]) -> None:
    """Calls of `five` that wait for their time may be submitted from now on."""
    due = "{runpod:five}:due"
    eventually(lambda: [one.id for one in results if world.redis.zscore(due, one.id) is None], [], within_s=WAIT_S)
    now = time.time()
    for one in results:
        world.redis.hset(f"{{runpod:five}}:job:{one.id}", "not_before", repr(now))
    world.redis.zadd(due, {one.id: now for one in results}, xx=True)


def test_a_pause_in_the_middle_stops_submits_and_nothing_else(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(20)]

    def at_runpod() -> set[str]:
        return {job["input"]["mark"] for job in world.jobs("five")} & set(marks)

    with no_harm(world, submits=20):
        # By their numbers half of them are to go after a while, which the test ends once the pause has come.
        results = [
            world.endpoint("five").apply_async(({"mark": mark},), countdown=600 if number % 2 else None)
            for number, mark in enumerate(marks)
        ]
        eventually(lambda: len(at_runpod()) >= 4, True, within_s=WAIT_S)
        answer = command(world, "pause", "--all")
        assert answer.returncode == 0, answer.stderr
        # What was being sent in that moment may arrive.
        quiet(world, lambda: asked(world, "run"))
        countdowns_are_over(world, results[1::2])
        begun, going = asked(world, "run"), at_runpod()
        stays(lambda: asked(world, "run") - begun, 0, for_s=4 * FRESH_S)
        submitted = at_runpod()
        assert submitted >= going and len(submitted) < 20
        ends = {mark: end_of(world, one.id) for mark, one in zip(marks, results, strict=True) if mark in submitted}
        assert ends == {mark: {"mark": mark} for mark in submitted}
        waiting = [one for mark, one in zip(marks, results, strict=True) if mark not in submitted]
        eventually(lambda: {one.reason for one in waiting}, {"ON_HOLD"}, within_s=WAIT_S)
        rows = json.loads(command(world, "jobs", "--json").stdout)
        assert {row["reason"] for row in rows} == {"ON_HOLD"}
        answer = command(world, "resume", "--all")
        assert answer.returncode == 0, answer.stderr
        assert [end_of(world, one.id) for one in waiting] == [{"mark": m} for m in marks if m not in submitted]


def test_a_pause_outlives_the_workers_and_a_cancel_reaches_what_waits(world: World) -> None:
    mark, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert command(world, "pause", "fast").returncode == 0
    result, cancelled = world.endpoint("fast").delay(mark=mark), world.endpoint("fast").delay(mark=other)
    for server in [one for one in world.stack.servers if one.name.startswith("runpod")]:
        world.stack.remove(server)
        server.log.unlink()
    start_workers(world, application=False)
    eventually(lambda: (result.reason, cancelled.reason), ("ON_HOLD", "ON_HOLD"), within_s=WAIT_S)
    cancelled.cancel()
    eventually(lambda: cancelled.state, "REVOKED", within_s=WAIT_S)
    stays(lambda: len(world.submits(mark)) + len(world.submits(other)), 0, for_s=2)
    assert command(world, "resume", "fast").returncode == 0
    with no_harm(world, submits=None):
        assert end_of(world, result.id) == {"mark": mark}
        assert world.submits(other) == []


def call_until_told(world: World, most: int, **fields: Any) -> tuple[list[JobResult], TooManyOpenJobs]:
    """Call until it is refused; the calls that were taken, and the refusal."""
    results: list[JobResult] = []
    while len(results) < most:
        try:
            results.append(world.endpoint("slow").delay(mark=uuid.uuid4().hex, **fields))
        except TooManyOpenJobs as error:
            return results, error
        if len(results) % 20 == 0:
            # What a caller knows of the bound may be a moment old.
            eventually(lambda: world.redis.llen("runpod"), 0, within_s=WAIT_S)
    pytest.fail(f"{most} calls were taken")


def take_back(world: World, results: list[JobResult]) -> None:
    for result in results:
        result.cancel()
    eventually(lambda: {result.state for result in results}, {"REVOKED"}, within_s=120)
    eventually(world.open_jobs, [], within_s=120)
    # Callers read what the leading worker has counted last.
    eventually(lambda: world.redis.hmget("runpod:totals", "jobs", "input_bytes"), ["0", "0"], within_s=WAIT_S)


def test_a_loop_that_calls_for_ever_is_told_before_redis_is_full(world: World) -> None:
    with no_harm(world, submits=None):
        results, error = call_until_told(world, 5 * MOST_OPEN_JOBS)
        try:
            assert error.setting == "RUNPOD_MOST_OPEN_JOBS"
            assert MOST_OPEN_JOBS - 1 <= len(results) <= 3 * MOST_OPEN_JOBS
        finally:
            take_back(world, results)


def test_large_inputs_are_told_before_redis_is_full(world: World) -> None:
    with no_harm(world, submits=None):
        results, error = call_until_told(world, 60, text="x" * 1_000_000)
        try:
            assert error.setting == "RUNPOD_MOST_INPUT_BYTES"
        finally:
            take_back(world, results)
