"""A worker that is told to end, and one that is killed: another goes on, and every job was submitted once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod import JobResult
from celery_runpod._devstack.stack import Server
from tests.servers import ROOT, World
from tests.waiting import eventually

JOBS = 20
WAIT_S = 120


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(
        tmp_path,
        endpoints=["five=synthetic:duration=5"],
        # A killed worker's messages come back after this time.
        env={
            "RUNPOD_SUBMIT_TIMEOUT_S": "2",
            "RUNPOD_POLL_TIMEOUT_S": "2",
            "RUNPOD_CHECK_TOTAL_S": "5",
            "RUNPOD_CHECK_LEASE_S": "6",
            "RUNPOD_COUNTDOWN_CAP_S": "4",
            "RUNPOD_VISIBILITY_TIMEOUT_S": "10",
        },
    ) as world:
        yield world


def _start(world: World) -> tuple[Server, list[JobResult]]:
    """A worker with open jobs, all of them at RunPod."""
    worker = world.stack.worker("first", cwd=ROOT)
    results = [world.endpoint("five").delay(n=n) for n in range(JOBS)]
    eventually(lambda: len(world.jobs("five")), JOBS)
    eventually(lambda: {result.job_id is not None for result in results}, {True})
    return worker, results


def _a_post_is_under_way(world: World) -> bool:
    return any(world.redis.hget(key, "state") == "SUBMITTING" for key in world.redis.scan_iter("*:job:*"))


def _all_done_once(world: World, results: list[JobResult]) -> None:
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(JOBS)]
    assert Counter(job["input"]["n"] for job in world.jobs("five")) == Counter(range(JOBS))
    eventually(world.open_jobs, [], within_s=60)


def test_a_worker_that_is_told_to_end(world: World) -> None:
    worker, results = _start(world)
    worker.kill(signal.SIGTERM, children=False)
    eventually(worker.process.poll, 0, within_s=60)
    assert not all(result.ready() for result in results), "the jobs were to be open when the worker ended"
    world.stack.worker("second", cwd=ROOT)
    _all_done_once(world, results)


def test_a_worker_that_is_killed(world: World) -> None:
    worker, results = _start(world)
    worker.kill(signal.SIGKILL)
    eventually(worker.process.poll, -signal.SIGKILL, within_s=60)
    assert not all(result.ready() for result in results), "the jobs were to be open when the worker was killed"
    world.stack.worker("second", cwd=ROOT)
    _all_done_once(world, results)


def test_a_worker_told_to_end_while_it_submits(world: World) -> None:
    """A POST under way is finished, and its answer recorded: nothing is left unconfirmed."""
    worker = world.stack.worker("first", cwd=ROOT)
    world.fault(endpoint="five", operation="run", kind="delay", seconds=1, times=2)
    results = [world.endpoint("five").delay(n=n) for n in range(JOBS)]
    eventually(lambda: _a_post_is_under_way(world), True)
    worker.kill(signal.SIGTERM, children=False)
    eventually(worker.process.poll, 0, within_s=60)
    world.stack.worker("second", cwd=ROOT)
    _all_done_once(world, results)
