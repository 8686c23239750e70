"""POST /run that answers 503 or hangs: lost at most is what was under way, and one probe after each pause."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from celery_runpod._store.keys import Keys
from celery_runpod.errors import SubmissionUnconfirmed
from celery_runpod.results import JobResult
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, asked, end_of, no_harm, revive
from tests.servers import World
from tests.waiting import eventually

JOBS = 120
UNDER_WAY = 36
"""As many POSTs as one worker has at once: 32 of a check, and its four slots."""
COUNTDOWN_S = 5.0
"""In which the calls are accepted."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with servers_of(tmp_path_factory.mktemp("outages"), prepare=_start) as world:
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    revive(servers, _start)
    yield servers
    servers.no_faults()


def _start(world: World) -> None:
    start_workers(world, application=False)


def calls_that_wait(world: World, seconds: float) -> dict[str, JobResult]:
    """So many accepted calls that may be submitted from the same moment on, by mark."""
    marks = [uuid.uuid4().hex for _ in range(JOBS)]
    fast = world.endpoint("fast")
    results = {mark: fast.apply_async(({"mark": mark},), countdown=seconds) for mark in marks}
    eventually(lambda: world.redis.llen("runpod"), 0, within_s=120)
    return results


def unconfirmed(world: World, results: dict[str, JobResult]) -> int:
    """How many of the calls ended so; every other one has its output, and none was submitted twice."""
    ends: dict[str, Any] = {mark: end_of(world, one.id, within_s=180) for mark, one in results.items()}
    lost = {mark for mark, end in ends.items() if isinstance(end, SubmissionUnconfirmed)}
    assert {mark: end for mark, end in ends.items() if mark not in lost} == {
        mark: {"mark": mark} for mark in ends if mark not in lost
    }
    assert max(len(world.submits(mark)) for mark in results) == 1
    return len(lost)


def trouble_at_run(world: World, **kind: Any) -> None:
    """POST /run is in trouble until two probes have met it. What is lost are the POSTs under way at its onset, and one
    for each probe."""
    with no_harm(world, submits=None):
        fault = world.fault(operation="run", endpoint="fast", **kind)
        results = calls_that_wait(world, seconds=COUNTDOWN_S)
        eventually(lambda: world.happened(fault) > 0, True, within_s=WAIT_S)
        healths = asked(world, "health")
        # Some pauses long: each of them ends with one POST.
        at_onset = _after_the_onset(world, fault)
        eventually(lambda: world.happened(fault) >= at_onset + 2, True, within_s=120)
        happened = world.happened(fault)
        world.no_faults()
        assert at_onset <= UNDER_WAY
        assert happened <= at_onset + 4
        assert asked(world, "health") > healths
        # One more may have been on its way when the fault was lifted.
        assert unconfirmed(world, results) <= happened + 1


def test_503_costs_what_was_under_way_and_one_a_probe(world: World) -> None:
    trouble_at_run(world, kind="status", status=503, body="<html>down</html>")


def test_a_run_that_hangs_costs_what_was_under_way(world: World) -> None:
    # Longer than RUNPOD_SUBMIT_TIMEOUT_S.
    trouble_at_run(world, kind="delay", seconds=6)


def _after_the_onset(world: World, fault: str) -> int:
    """How many POSTs had failed when the gate had closed and no POST was under way: what follows are probes."""
    keys = Keys("runpod")

    def seen() -> tuple[bool, int]:
        closed = bool(world.redis.hexists(keys.pause("fast", "run"), "until"))
        return closed, int(world.redis.zcard(keys.posts("fast")))

    eventually(seen, (True, 0), within_s=WAIT_S)
    return world.happened(fault)


def test_no_probe_goes_while_health_does_not_answer(world: World) -> None:
    with no_harm(world, submits=None):
        down = world.fault(operation="run", endpoint="fast", kind="status", status=503)
        world.fault(operation="health", endpoint="fast", kind="status", status=503)
        results = calls_that_wait(world, seconds=COUNTDOWN_S)
        eventually(lambda: world.happened(down) > 0, True, within_s=WAIT_S)
        at_onset, healths = _after_the_onset(world, down), asked(world, "health")
        eventually(lambda: asked(world, "health") >= healths + 2, True, within_s=120)
        # One may have been begun between the two looks.
        assert world.happened(down) <= at_onset + 1
        world.no_faults()
        assert unconfirmed(world, results) <= UNDER_WAY + 2
