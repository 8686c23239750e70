"""Callers whose Celery app does not fit the workers': told at the call, by every canvas, before a GPU is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from redis import Redis

from celery_runpod import Endpoint
from celery_runpod.errors import ConfigurationMismatch, RunPodError
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import no_harm, revive
from tests.servers import World, forget_connections
from tests.waiting import eventually

APPS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "results in another database": lambda url, other: {"broker": url, "backend": other},
    "broker in another database": lambda url, other: {"broker": other, "backend": url},
    "both in another database": lambda url, other: {"broker": other, "backend": other},
    "results by rpc": lambda url, other: {"broker": url, "backend": "rpc://"},
    "no results": lambda url, other: {"broker": url},
}
CALLS: dict[str, Callable[[Endpoint], Any]] = {
    "delay": lambda fast: fast.delay(a=1),
    "signature": lambda fast: fast.s(a=1).delay(),
    "chain": lambda fast: chain(fast.s(a=1), fast.s()).apply_async(),
    "group": lambda fast: group(fast.s(a=1), fast.s(a=2)).apply_async(),
    "chord": lambda fast: chord([fast.s(a=1), fast.s(a=2)], fast.si({"a": 3})).apply_async(),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with servers_of(tmp_path_factory.mktemp("setups"), prepare=_start) as world:
        yield world


def _start(world: World) -> None:
    start_workers(world, application=False)


@pytest.fixture
def world(servers: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("REDIS_URL", servers.redis_url)
    servers.app()
    revive(servers, _start)
    yield servers
    servers.app()


def app_of(world: World, **urls: Any) -> Celery:
    app = Celery("wrong", set_as_current=False, **urls)
    app.set_current()
    app.set_default()
    return app


@pytest.mark.parametrize("name", APPS)
def test_a_mismatch_is_raised_at_the_call(world: World, name: str) -> None:
    other = world.redis_url.removesuffix("/0") + "/1"
    with no_harm(world):
        app = app_of(world, **APPS[name](world.redis_url, other))
        try:
            for kind, call in CALLS.items():
                # Celery itself refuses a chord where results are not kept.
                refused = (ConfigurationMismatch, *([NotImplementedError] if kind == "chord" else []))
                with pytest.raises(refused) as caught:
                    call(Endpoint("fast", app=app))
                assert str(caught.value)
        finally:
            Redis.from_url(other).flushdb()
            forget_connections()
            world.app()


def test_another_name_of_the_same_redis_is_no_mismatch(world: World) -> None:
    with no_harm(world, submits=1):
        url = world.redis_url.replace("127.0.0.1", "localhost")
        app = app_of(world, broker=url, backend=url)
        assert Endpoint("fast", app=app).delay(a=1).get(timeout=60) == {"a": 1}
        world.app()


def test_pickled_results_are_told_at_the_call(world: World) -> None:
    with no_harm(world, submits=None):
        app = app_of(world, broker=world.redis_url, backend=world.redis_url)
        app.conf.update(result_serializer="pickle", result_accept_content=["pickle"])
        before = len(world.jobs())
        with pytest.raises(RunPodError):
            Endpoint("fast", app=app).delay(a=1)
        assert len(world.jobs()) == before
        world.app()


def test_a_key_prefix_of_the_callers_is_told_at_the_call(world: World) -> None:
    with no_harm(world, submits=None):
        app = app_of(world, broker=world.redis_url, backend=world.redis_url)
        app.conf.result_backend_transport_options = {"global_keyprefix": "mine_"}
        before = len(world.jobs())
        with pytest.raises(ConfigurationMismatch):
            Endpoint("fast", app=app).delay(a=1)
        assert len(world.jobs()) == before
        world.app()


def test_where_no_worker_was_ever_up_the_call_is_taken(tmp_path_factory: pytest.TempPathFactory) -> None:
    with servers_of(tmp_path_factory.mktemp("nobody")) as world:
        result = world.endpoint("fast").delay(a=1)
        assert result.reason == "NO_WORKER"
        start_workers(world, application=False)
        assert result.get(timeout=60) == {"a": 1}
        eventually(world.open_jobs, [], within_s=60)
