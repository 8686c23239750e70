"""While jobs run at RunPod no worker slot and no message waits for them: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.application import app as application
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

JOBS = 200
PROCESSES = 2
FEW = 20
"""Checks that serve many jobs each; far less than one message for a job."""
QUEUES = ("runpod", "runpod.status", "runpod.deliver", "default")
WAIT_S = 120

QUICK = """
from celery import shared_task


@shared_task(name="quick.double")
def double(value):
    return 2 * value
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    forget_connections()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "quick.py").write_text(QUICK)
    world = World(tmp_path, endpoints=["long=synthetic:duration=90", "fast=synthetic:duration=0.3"])
    try:
        env = {"RUNPOD_IMPORTS": "quick", "PYTHONPATH": f"{ROOT}:{tmp_path / 'own'}"}
        world.stack.worker(concurrency=PROCESSES, env=env, cwd=ROOT)
        yield world
    finally:
        world.stack.stop()
        forget_connections()


def _messages(world: World) -> int:
    """Held by the worker, or waiting in one of its queues (each priority has a list of its own)."""
    lists = [name for queue in QUEUES for name in (queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9)))]
    return int(world.redis.hlen("runpod.unacked")) + sum(int(world.redis.llen(name)) for name in lists)


def _at_runpod(world: World) -> int:
    return sum(job["status"] in ("IN_QUEUE", "IN_PROGRESS") for job in world.jobs("long"))


def test_200_jobs_hold_neither_slots_nor_messages(world: World) -> None:
    results = [world.endpoint("long").delay(n=n) for n in range(JOBS)]
    seen: list[tuple[int, int]] = []

    def all_submitted() -> bool:
        return len(world.jobs("long")) == JOBS

    eventually(all_submitted, True, within_s=60)

    # Twice as many tasks as there are slots, of each kind: were the slots held, none of them would end.
    quick = [application.send_task("quick.double", args=[n], queue="default") for n in range(2 * PROCESSES)]
    assert [result.get(timeout=WAIT_S) for result in quick] == [2 * n for n in range(2 * PROCESSES)]
    fast = [world.endpoint("fast").delay(n=n) for n in range(2 * PROCESSES)]
    assert [result.get(timeout=WAIT_S) for result in fast] == [{"n": n} for n in range(2 * PROCESSES)]

    def count() -> bool:
        before, held, after = _at_runpod(world), _messages(world), _at_runpod(world)
        seen.append((min(before, after), held))
        return after == 0

    eventually(count, True, within_s=180)
    # Once jobs end, each has a message that delivers it.
    while_all_ran = [held for running, held in seen if running == JOBS]
    assert while_all_ran, f"no count was made while all jobs ran: {seen}"
    assert max(while_all_ran) < FEW, seen
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(JOBS)]
    eventually(world.open_jobs, [], within_s=60)
