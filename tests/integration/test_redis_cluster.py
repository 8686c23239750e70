"""The job store on a real Redis Cluster: three masters, each with a replica; one of them is killed."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group

from celery_runpod import JobResult
from celery_runpod.errors import JobCancelled, JobFailed
from tests.application import collect, same
from tests.redis_servers import ClusterWorld, kinds, mark_of_end
from tests.waiting import eventually

WAIT_S = 120
NAMES = [f"e{number}" for number in range(6)]
ENDPOINTS = (
    *(f"{name}=synthetic:duration=0.5" for name in NAMES),
    "slow=synthetic:duration=60",
    "failing=synthetic:duration=0.1,failures=1",
    "generator=examples/handlers/generator.py",
)


@pytest.fixture(scope="module", params=kinds())
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    with (
        ClusterWorld(tmp_path_factory.mktemp("cluster"), ENDPOINTS, request.param) as world,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RUNPOD_STORE_URL", world.cluster.url)
        world.start(runpod=2)
        yield world


@pytest.fixture
def world(servers: ClusterWorld) -> Iterator[ClusterWorld]:
    servers.app()
    yield servers
    servers.cluster.settle()
    eventually(servers.open_jobs, [], within_s=90)


def begin(world: ClusterWorld, mark: str, each: int) -> list[Any]:
    """So many jobs on each of the endpoints, which lie on all masters."""
    return [
        world.endpoint(name).using(labels=[mark]).delay(mark=f"{mark}-{name}-{number}")
        for name in NAMES
        for number in range(each)
    ]


def paid(world: ClusterWorld, mark: str) -> dict[str, int]:
    """How often each input of this mark was submitted."""
    counts: dict[str, int] = {}
    for job in world.jobs():
        given = str(job["input"].get("mark", "")) if isinstance(job["input"], dict) else ""
        if given.startswith(mark):
            counts[given] = counts.get(given, 0) + 1
    return counts


def test_the_endpoints_lie_on_all_masters(world: ClusterWorld) -> None:
    assert {world.store.workers.master_of(name) for name in NAMES} == set(world.store.workers.masters())
    assert len(world.store.workers.masters()) == 3


def test_jobs_and_canvas(world: ClusterWorld) -> None:
    one, two = world.endpoint("e0"), world.endpoint("e1")
    assert one.delay(a=1).get(timeout=WAIT_S) == {"a": 1}
    flow = chain(one.s(a=1), group(two.s(b=1), same.s(), one.s(b=2)), collect.s())
    assert flow.delay().get(timeout=WAIT_S) == [{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 2}]
    assert chord([one.s(n=n) for n in range(3)], two.s()).delay().get(timeout=WAIT_S) == [{"n": n} for n in range(3)]


def test_a_cancel_reaches_jobs_of_all_masters(world: ClusterWorld) -> None:
    mark = uuid.uuid4().hex
    flow = group([world.endpoint("slow").s(mark=mark), *(world.endpoint(name).s(n=1) for name in NAMES)]).delay()
    eventually(lambda: len(world.submits(mark)), 1)
    JobResult.of(flow).cancel()
    slow: Any = flow.results[0]
    with pytest.raises(JobCancelled):
        JobResult(slow.id).get(timeout=WAIT_S)
    eventually(lambda: world.statuses(mark), ["CANCELLED"])


def test_retries_and_errors(world: ClusterWorld) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(JobFailed):
        world.endpoint("failing", retries=1).delay(mark=mark).get(timeout=WAIT_S)
    assert len(world.submits(mark)) == 2


def test_calls_with_one_key_share_a_job(world: ClusterWorld) -> None:
    mark = uuid.uuid4().hex
    calls = [world.endpoint("e2", idempotency_key=mark).delay(mark=mark) for _ in range(3)]
    assert [call.get(timeout=WAIT_S) for call in calls] == 3 * [{"mark": mark}]
    assert len(world.submits(mark)) == 1


def test_chunks_are_read(world: ClusterWorld) -> None:
    result = world.endpoint("generator", stream=True).delay(text="one two three")
    assert [chunk.output for chunk in JobResult(result.id).stream(timeout=WAIT_S)] != []
    result.get(timeout=WAIT_S)


def test_a_master_that_is_killed_loses_and_doubles_no_job(world: ClusterWorld) -> None:
    mark = uuid.uuid4().hex
    results = begin(world, mark, each=8)
    eventually(lambda: len(paid(world, mark)) >= len(results) // 4, True)
    killed = world.cluster.fail_over(world.store.keys.due("e0"))
    # The new master has no replica before this one is back: what waits is not submitted until then.
    killed.start()
    outputs = [mark_of_end(world, result.id, WAIT_S) for result in results]
    assert outputs.count(None) < len(results) // 2
    assert {output for output in outputs if output} <= set(paid(world, mark))
    assert len({output for output in outputs if output}) == len(results) - outputs.count(None)
    assert set(paid(world, mark).values()) == {1}


def test_without_a_replica_nothing_is_submitted_and_the_reason_is_shown(world: ClusterWorld) -> None:
    mark = uuid.uuid4().hex
    replica = world.cluster.replica_of(world.store.keys.due("e0"))
    replica.server.kill(signal.SIGSTOP)
    try:
        result = world.endpoint("e0").delay(mark=mark)
        eventually(lambda: JobResult(result.id).reason, "NO_REPLICA", within_s=WAIT_S)
        assert world.submits(mark) == []
        logs = [server.text() for server in world.stack.servers if server.name.startswith("runpod")]
        assert any("submit.no_replica" in text for text in logs)
    finally:
        replica.server.kill(signal.SIGCONT)
    assert result.get(timeout=WAIT_S) == {"mark": mark}
    assert len(world.submits(mark)) == 1
