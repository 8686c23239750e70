"""RunPod is not hammered: what one process has taken of the budget, the workers do not send. Counted at the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.budget import PER_WINDOW, Budget
from tests.servers import World
from tests.waiting import eventually

JOBS = 12
WAIT_S = 90


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world.start(runpod=2, application=None)


def test_workers_share_one_budget_and_what_has_none_waits(world: World) -> None:
    # A third process takes all there is, in a window that does not pass while the test looks.
    assert Budget.on(world.redis_url, world.namespace).take("fast", "run", PER_WINDOW["run"]) == PER_WINDOW["run"]
    (spent,) = world.redis.scan_iter(f"{world.namespace}:limits:*")
    world.redis.expire(spent, 3600)
    results = [world.endpoint("fast").delay(n=n) for n in range(JOBS)]
    eventually(lambda: [result.reason for result in results], ["BUDGET"] * JOBS)
    # Each worker has asked, and none has sent.
    assert "run" not in world.requests()
    world.redis.delete(spent)
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(JOBS)]
    assert world.requests()["run"] == {"200": JOBS}
    eventually(world.open_jobs, [])
