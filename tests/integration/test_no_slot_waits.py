"""While jobs run at RunPod no worker slot and no message waits for them: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.application import app as application
from tests.servers import ROOT, World
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

HELD = f"""
import asyncio, os, runpod

RELEASED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "released")


async def handler(job):
    while not os.path.exists(RELEASED):
        await asyncio.sleep(0.5)
    return job["input"]


runpod.serverless.start({{"handler": handler, "concurrency_modifier": lambda current: {JOBS}}})
"""
"""One RunPod worker runs all jobs at once, until the test releases them."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "quick.py").write_text(QUICK)
    (tmp_path / "held.py").write_text(HELD)
    with World(tmp_path, endpoints=[f"held={tmp_path / 'held.py'},workers=1", "fast=synthetic:duration=0.3"]) as world:
        env = {"RUNPOD_IMPORTS": "quick", "PYTHONPATH": f"{ROOT}:{tmp_path / 'own'}"}
        world.stack.worker(concurrency=PROCESSES, env=env, cwd=ROOT)
        yield world


def _messages(world: World) -> int:
    """Held by the worker, or waiting in one of its queues (each priority has a list of its own)."""
    lists = [name for queue in QUEUES for name in (queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9)))]
    return int(world.redis.hlen("runpod.unacked")) + sum(int(world.redis.llen(name)) for name in lists)


def _running(world: World) -> int:
    return sum(job["status"] == "IN_PROGRESS" for job in world.jobs("held"))


def test_200_jobs_hold_neither_slots_nor_messages(world: World, tmp_path: Path) -> None:
    # RunPod's own limit of ten minutes must not end them before the test does.
    held = world.endpoint("held", execution_timeout=3600)
    results = [held.delay(n=n) for n in range(JOBS)]
    eventually(lambda: _running(world), JOBS, within_s=WAIT_S)

    # Twice as many tasks as there are slots, of each kind: were the slots held, none of them would end.
    quick = [application.send_task("quick.double", args=[n], queue="default") for n in range(2 * PROCESSES)]
    assert [result.get(timeout=WAIT_S) for result in quick] == [2 * n for n in range(2 * PROCESSES)]
    fast = [world.endpoint("fast").delay(n=n) for n in range(2 * PROCESSES)]
    assert [result.get(timeout=WAIT_S) for result in fast] == [{"n": n} for n in range(2 * PROCESSES)]

    # Each of them has been looked at while it runs.
    messages: list[int] = []
    for result in results:
        eventually(lambda shown=result: shown.state, "IN_PROGRESS", within_s=WAIT_S)
        messages.append(_messages(world))
    assert _running(world) == JOBS
    assert max(messages) < FEW, messages

    (tmp_path / "released").touch()
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(JOBS)]
    eventually(world.open_jobs, [], within_s=60)
