"""Broker, result backend and job store on one master that real Sentinels watch; the master is killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from celery import chain, chord

from celery_runpod import JobResult
from celery_runpod._cli.doctor.replica_checks import check_replicated
from celery_runpod.errors import JobCancelled
from tests.application import collect, same
from tests.redis_servers import SentinelWorld, kinds, mark_of_end
from tests.waiting import eventually

WAIT_S = 120
"""What a worker held of the broker's messages when the master died comes back after the visibility timeout."""
NAMES = ("e0", "e1", "e2")


@pytest.fixture(scope="module", params=kinds())
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelWorld]:
    endpoints = [*(f"{name}=synthetic:duration=0.5" for name in NAMES), "slow=synthetic:duration=60"]
    with SentinelWorld(tmp_path_factory.mktemp("sentinel"), endpoints, request.param) as world:
        world.stack.env.update(SHORT)
        world.start(runpod=2)
        yield world


SHORT = {
    "RUNPOD_VISIBILITY_TIMEOUT_S": "20",
    "RUNPOD_CHECK_LEASE_S": "15",
    "RUNPOD_CHECK_TOTAL_S": "8",
    "RUNPOD_SUBMIT_TIMEOUT_S": "5",
    "RUNPOD_POLL_TIMEOUT_S": "5",
    "RUNPOD_COUNTDOWN_CAP_S": "10",
}
"""A message that a worker held when the master died comes back after 20 s in place of 90 s."""


@pytest.fixture
def world(servers: SentinelWorld) -> Iterator[SentinelWorld]:
    servers.app()
    yield servers
    servers.watched.settle()
    eventually(servers.open_jobs, [], within_s=WAIT_S)


def test_jobs_canvas_and_a_cancel(world: SentinelWorld) -> None:
    one = world.endpoint("e0")
    assert chain(one.s(a=1), same.s(), one.s(b=1)).delay().get(timeout=WAIT_S) == {"a": 1, "b": 1}
    assert chord([one.s(n=n) for n in range(3)], collect.s()).delay().get(timeout=WAIT_S) == [
        {"n": n} for n in range(3)
    ]
    mark = uuid.uuid4().hex
    slow = world.endpoint("slow").delay(mark=mark)
    eventually(lambda: len(world.submits(mark)), 1)
    JobResult(slow.id).cancel()
    with pytest.raises(JobCancelled):
        JobResult(slow.id).get(timeout=WAIT_S)
    eventually(lambda: world.statuses(mark), ["CANCELLED"])


def test_doctor_names_the_master_and_the_sentinels(world: SentinelWorld) -> None:
    found = {(one.check, one.level.value): one.found for one in check_replicated("store", world.watched.url)}
    assert {level for _, level in found} == {"ok"}
    assert found["store", "ok"].endswith(f"the master 'themaster' is {world.watched.master().address}")
    assert found["store: Sentinel", "ok"] == "3 Sentinels watch it, with a quorum of 2"
    assert found["store: replicas", "ok"].startswith("2 connected")
    unknown = check_replicated("store", world.watched.url.replace("themaster", "another"))
    assert any(one.level.value == "wrong" and "another" in one.found for one in unknown)


def test_a_master_behind_sentinel_that_is_killed_loses_and_doubles_no_job(world: SentinelWorld) -> None:
    marks = [f"{uuid.uuid4().hex}" for _ in range(24)]
    results = [world.endpoint(NAMES[number % 3]).delay(mark=mark) for number, mark in enumerate(marks)]
    eventually(lambda: sum(len(world.submits(mark)) for mark in marks) >= 6, True)
    killed = world.watched.fail_over()
    try:
        outputs = [mark_of_end(world, result.id, WAIT_S) for result in results]
    finally:
        killed.start()
    assert outputs.count(None) < len(marks) // 2
    for mark, output in zip(marks, outputs, strict=True):
        assert output in (mark, None)
        assert len(world.submits(mark)) == 1 or (output is None and not world.submits(mark))
