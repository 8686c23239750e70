"""RunPod is not hammered: what one process has taken of the budget, the workers do not send. Counted at the simulator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod._store.store import JobStore
from tasks.budget import PER_WINDOW, WINDOW_S, Budget
from tests.servers import World
from tests.waiting import eventually

JOBS = 12
WAIT_S = 90


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world.start(runpod=2, application=None)


def test_workers_share_one_budget_and_what_has_none_waits(world: World) -> None:
    # A third process takes all there is, some seconds ahead, so that the window does not pass while the test looks.
    store = JobStore(world.redis, world.namespace)
    ahead = Budget(store.scripts, lambda: time.time() + WINDOW_S - 1)
    assert ahead.take("fast", "run", PER_WINDOW["run"]) == PER_WINDOW["run"]
    spent = store.keys.calls("fast", "run")
    results = [world.endpoint("fast").delay(n=n) for n in range(JOBS)]
    eventually(lambda: [result.reason for result in results], ["BUDGET"] * JOBS)
    # Each worker has asked, and none has sent.
    assert "run" not in world.requests()
    world.redis.delete(spent)
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(JOBS)]
    assert world.requests()["run"] == {"200": JOBS}
    eventually(world.open_jobs, [])
