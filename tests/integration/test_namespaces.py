"""Two namespaces on one Redis: each worker runs its own jobs, and knows nothing of the other's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celery_runpod import Endpoint, JobResult
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

NAMESPACES = ("blue", "green")
WAIT_S = 60


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With a worker of each namespace."""
    endpoints = ["fast=synthetic:duration=0.3", "slow=synthetic:duration=60"]
    with World(tmp_path_factory.mktemp("namespaces"), endpoints=endpoints) as world:
        for namespace in NAMESPACES:
            _start(world, namespace)
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    forget_connections()
    yield servers
    forget_connections()


def _start(world: World, namespace: str) -> None:
    world.stack.worker(namespace, env={"RUNPOD_NAMESPACE": namespace}, cwd=ROOT)


def _enqueue(monkeypatch: pytest.MonkeyPatch, world: World, namespace: str, endpoint: str, n: int) -> JobResult:
    monkeypatch.setenv("RUNPOD_NAMESPACE", namespace)
    called: Endpoint = world.endpoint(endpoint)
    return called.delay(of=namespace, n=n)


def _keys(world: World, namespace: str) -> list[str]:
    return [
        key
        for key in world.redis.scan_iter(count=1000)
        if key.replace("{", "").replace("}", "").startswith(f"{namespace}:")
    ]


def _open(world: World, namespace: str) -> list[str]:
    world.namespace = namespace
    return world.open_jobs()


def test_each_worker_runs_its_own_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {
        namespace: [_enqueue(monkeypatch, world, namespace, "fast", n) for n in range(10)] for namespace in NAMESPACES
    }
    for namespace, mine in results.items():
        assert [result.get(timeout=WAIT_S) for result in mine] == [{"of": namespace, "n": n} for n in range(10)]
    for namespace, other in (NAMESPACES, NAMESPACES[::-1]):
        keys = " ".join(_keys(world, namespace))
        assert all(result.id in keys for result in results[namespace])
        assert not any(result.id in keys for result in results[other])
        log = next(server for server in world.stack.servers if server.name == namespace).text()
        assert all(result.id in log for result in results[namespace])
        assert not any(result.id in log for result in results[other])
        eventually(lambda namespace=namespace: _open(world, namespace), [])
    assert len(world.jobs("fast")) == 20


def test_a_job_waits_for_a_worker_of_its_own_namespace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = _enqueue(monkeypatch, world, "red", "fast", 1)
    assert waiting.reason == "NO_WORKER"
    done = _enqueue(monkeypatch, world, "blue", "fast", 2)
    assert done.get(timeout=WAIT_S) == {"of": "blue", "n": 2}
    assert waiting.state == "PENDING"
    assert world.redis.llen("red") == 1
    # The caller's own copy of the call, and nothing of any worker's.
    assert sorted(_keys(world, "red")) == [f"{{red}}:outbox{part}" for part in ("", ":lanes", ":messages", ":places")]
    _start(world, "red")
    assert waiting.get(timeout=WAIT_S) == {"of": "red", "n": 1}


def test_a_cancel_reaches_its_own_namespace_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    blue, green = (_enqueue(monkeypatch, world, namespace, "slow", 1) for namespace in NAMESPACES)
    eventually(lambda: {blue.state, green.state}, {"IN_PROGRESS"})
    monkeypatch.setenv("RUNPOD_NAMESPACE", "green")
    blue.cancel()
    green.cancel()
    eventually(lambda: green.state, "REVOKED")
    assert blue.state == "IN_PROGRESS"
    monkeypatch.setenv("RUNPOD_NAMESPACE", "blue")
    blue.cancel()
    eventually(lambda: blue.state, "REVOKED")
    for namespace in NAMESPACES:
        eventually(lambda namespace=namespace: _open(world, namespace), [])
