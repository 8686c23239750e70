"""`using(sync=True)`: /runsync, which is held for a while; then parked like any other job, and looked at in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celery_runpod.errors import JobFailed, SubmissionUnconfirmed
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 90
SHORT = {"RUNPOD_SYNC_WAIT_S": "1", "RUNPOD_SUBMIT_TIMEOUT_S": "5", "RUNPOD_UNCONFIRMED_WINDOW_S": "12"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    endpoints = (
        "fast=synthetic:duration=0.3",
        "five=synthetic:duration=5",
        "failing=synthetic:duration=0.1,failures=1",
        "slow=synthetic:duration=60",
    )
    with World(tmp_path_factory.mktemp("world"), endpoints=endpoints) as world:
        world.stack.worker(env=SHORT, cwd=ROOT)
        yield world


def submits(world: World) -> dict[str, int]:
    """How often each way of submitting was asked for."""
    found = world.requests()
    return {name: sum(found.get(name, {}).values()) for name in ("run", "runsync")}


def grown(world: World, before: dict[str, int]) -> dict[str, int]:
    return {name: number - before[name] for name, number in submits(world).items()}


def test_a_fast_job_needs_one_round_trip_and_no_look(world: World) -> None:
    before, looks = submits(world), world.requests().get("status", {})
    assert world.endpoint("fast", sync=True).delay(a=1).get(timeout=WAIT_S) == {"a": 1}
    assert grown(world, before) == {"run": 0, "runsync": 1}
    assert world.requests().get("status", {}) == looks


def test_a_job_that_outlasts_the_wait_is_parked(world: World) -> None:
    before = submits(world)
    job = world.endpoint("five", sync=True).delay(a=1)
    eventually(lambda: job.state, "IN_PROGRESS")
    assert str(job.job_id).startswith("sync-")
    assert job.get(timeout=WAIT_S) == {"a": 1}
    assert grown(world, before) == {"run": 0, "runsync": 1}


def test_a_job_that_fails(world: World) -> None:
    with pytest.raises(JobFailed):
        world.endpoint("failing", sync=True).delay(a=1).get(timeout=WAIT_S)


def test_a_lost_answer_is_an_unknown_submit_and_is_not_sent_again(world: World) -> None:
    before = submits(world)
    world.fault(endpoint="fast", operation="runsync", kind="drop_after", times=1)
    job = world.endpoint("fast", sync=True).delay(mark="lost")
    eventually(lambda: (job.state, job.reason), ("SUBMITTING", "UNCONFIRMED"))
    with pytest.raises(SubmissionUnconfirmed):
        job.get(timeout=WAIT_S)
    assert grown(world, before) == {"run": 0, "runsync": 1}
    assert len([one for one in world.jobs("fast") if one["input"] == {"mark": "lost"}]) == 1


@pytest.mark.parametrize("fault", [{"kind": "drop_before"}, {"kind": "status", "status": 429}], ids=str)
def test_what_a_429_or_a_lost_request_leaves_behind(world: World, fault: dict[str, Any]) -> None:
    """A 429 was not taken, and goes again; a cut connection may have been, and does not."""
    before = submits(world)
    world.fault(endpoint="fast", operation="runsync", times=1, **fault)
    job = world.endpoint("fast", sync=True).delay(a=2)
    if fault["kind"] == "status":
        assert job.get(timeout=WAIT_S) == {"a": 2}
        assert grown(world, before)["runsync"] == 2
    else:
        with pytest.raises(SubmissionUnconfirmed):
            job.get(timeout=WAIT_S)


def test_a_held_submit_is_cancelled_when_its_answer_comes(world: World) -> None:
    job = world.endpoint("slow", sync=True).delay(mark="cancelled")
    eventually(lambda: job.state, "IN_PROGRESS")
    job.cancel()
    eventually(lambda: job.state, "REVOKED")
    eventually(lambda: [one["status"] for one in world.jobs("slow")], ["CANCELLED"])


def test_results_are_fetched_before_runpod_forgets_them(world: World) -> None:
    """A backoff of minutes would be too slow for results that are kept for one minute: it is bounded by 15 s."""
    slow = {"first": 300, "cap": 600}
    job = world.endpoint("five", sync=True, backoff=slow).delay(a=3)
    eventually(lambda: job.state, "IN_QUEUE")
    due = world.redis.zscore("{runpod:five}:look", job.id)
    submitted_at = float(world.redis.hget(f"{{runpod:five}}:job:{job.id}", "submitted_at"))
    assert due - submitted_at <= 15 * 1.1
    assert job.get(timeout=WAIT_S) == {"a": 3}
