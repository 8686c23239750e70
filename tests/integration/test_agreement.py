"""Callers whose Celery app does not share broker, result backend or job store with the RunPod workers, for real."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery, chain, chord, group
from celery.backends.base import KeyValueStoreBackend
from redis import Redis

from celery_runpod import Endpoint
from celery_runpod._cli.doctor.app_checks import check_app
from celery_runpod._cli.doctor.findings import Level
from celery_runpod._publish import agreement
from celery_runpod.django import _system_checks as checks
from celery_runpod.errors import ConfigurationMismatch
from tests import django_project  # noqa: F401 - configures Django
from tests.rabbitmq import rabbitmq_server
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 60


class ElsewhereBackend(KeyValueStoreBackend):
    """A result backend of the caller's own, as `django-db` is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        return self._kept.get(key)

    def set(self, key: Any, value: Any) -> None:
        self._kept[key] = value


def callers(world: World, *, broker: str | None = None, backend: str | None = None, **conf: Any) -> Celery:
    app = Celery("caller", broker=broker or world.broker_url, backend=backend or world.redis_url, set_as_current=False)
    app.conf.update(conf)

    @app.task(name="caller.same", shared=False)
    def same(value: Any = None) -> Any:
        return value

    return app


def elsewhere(world: World) -> str:
    return world.redis_url.rpartition("/")[0] + "/5"


@pytest.fixture(autouse=True)
def store_of_the_workers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", world.redis_url)
    eventually(lambda: bool(world.redis.get("runpod:agreement")), True)


AGREEING: dict[str, Any] = {
    "the same URLs": lambda world: callers(world),
    "another host name": lambda world: callers(
        world,
        broker=world.redis_url.replace("127.0.0.1", "localhost"),
        backend=world.redis_url.replace("127.0.0.1", "localhost"),
    ),
    "arguments as pickle": lambda world: callers(world, task_serializer="pickle", accept_content=["pickle", "json"]),
}


@pytest.mark.parametrize("name", AGREEING)
def test_they_agree(name: str, world: World) -> None:
    app = AGREEING[name](world)
    assert agreement.compare(app).agrees is True
    assert Endpoint("fast", app=app).delay(a=1).get(timeout=WAIT_S) == {"a": 1}


DIFFERING: dict[str, tuple[str, Any]] = {
    "a backend of its own": (
        "result backend",
        lambda world: callers(world, backend="tests.integration.test_agreement:ElsewhereBackend"),
    ),
    "another database as broker": ("broker", lambda world: callers(world, broker=elsewhere(world))),
    "another database as backend": ("result backend", lambda world: callers(world, backend=elsewhere(world))),
    "rpc": ("result backend", lambda world: callers(world, backend="rpc://")),
    "no backend": ("result backend", lambda world: callers(world, backend="disabled://")),
    "a cache": ("result backend", lambda world: callers(world, backend="cache+memory://")),
    "pickle alone": ("accept_content", lambda world: callers(world, accept_content=["pickle"])),
    "results as pickle": ("result_accept_content", lambda world: callers(world, result_accept_content=["pickle"])),
    "results kept as pickle": (
        "result_serializer",
        lambda world: callers(world, result_serializer="pickle", accept_content=["pickle", "json"]),
    ),
    "a prefix at the broker": (
        "broker",
        lambda world: callers(world, broker_transport_options={"global_keyprefix": "shop:"}),
    ),
    "a prefix at the backend": (
        "result backend",
        lambda world: callers(world, result_backend_transport_options={"global_keyprefix": "shop:"}),
    ),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_they_differ(name: str, world: World) -> None:
    setting, make = DIFFERING[name]
    app = make(world)
    endpoint, own = Endpoint("fast", app=app), app.tasks["caller.same"]
    before = len(world.jobs())
    calls = {
        "delay": lambda: endpoint.delay(a=1),
        "s.delay": lambda: endpoint.s(a=1).delay(),
        "chain": lambda: chain(endpoint.s(a=1), own.s(), app=app).apply_async(),
        "group": lambda: group([endpoint.s(a=1), endpoint.s(a=2)], app=app).apply_async(),
    }
    if "backend" not in setting:  # a chord writes there before its first member is published
        calls["chord"] = lambda: chord([endpoint.s(a=1), endpoint.s(a=2)], own.s(), app=app).apply_async()
    for call in calls.values():
        with pytest.raises(ConfigurationMismatch) as caught:
            call()
        assert caught.value.setting == setting
        assert str(caught.value.here) in str(caught.value)
        assert str(caught.value.workers) in str(caught.value)
    assert len(world.jobs()) == before
    assert world.redis.zcard("{runpod}:outbox") == 0


@pytest.mark.parametrize("name", ["another database as backend", "the same URLs"])
def test_djangos_checks_compare_too(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = AGREEING[name](world) if name in AGREEING else DIFFERING[name][1](world)
    monkeypatch.setattr(checks, "client_app", lambda: app)
    expected = [] if name in AGREEING else ["celery_runpod.E003"]
    assert [one.id for one in checks.check_celery_runpod()] == expected


def test_another_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", elsewhere(world))
    with pytest.raises(ConfigurationMismatch, match="job store"):
        Endpoint("fast", app=callers(world)).delay(a=1)


def test_a_password_is_not_shown(world: World) -> None:
    world.redis.config_set("requirepass", "")
    url = urlsplit(elsewhere(world))
    app = callers(world, backend=f"redis://:@{url.hostname}:{url.port}{url.path}?token=very-secret")
    verdict = agreement.compare(app)
    assert "very-secret" not in "".join(map(str, verdict.problems))


def test_a_call_that_wants_no_result_needs_no_backend(world: World) -> None:
    app = callers(world, backend="disabled://")
    before = len(world.jobs("fast"))
    Endpoint("fast", app=app).apply_async(({"a": 1},), ignore_result=True)
    eventually(lambda: len(world.jobs("fast")), before + 1)


def test_a_broker_that_was_emptied_a_moment_ago_is_no_mismatch(world: World) -> None:
    world.redis.delete("runpod.agreement")
    app = callers(world)
    assert agreement.compare(app).agrees is True
    assert Endpoint("fast", app=app).delay(a=2).get(timeout=WAIT_S) == {"a": 2}


def test_it_is_asked_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    look = agreement.look
    monkeypatch.setattr(agreement, "look", lambda app: looks.append(app) or look(app))
    endpoint = Endpoint("fast", app=callers(world))
    for result in [endpoint.delay(n=n) for n in range(5)]:
        result.get(timeout=WAIT_S)
    assert len(looks) == 1


def test_doctor_says_the_same(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").write_text(
        "import celery, celery_runpod\n"
        f"app = celery.Celery('shop', broker={world.redis_url!r}, backend={elsewhere(world)!r})\n"
        f"other = celery.Celery('shop', broker={world.redis_url.replace('127.0.0.1', 'localhost')!r},"
        f" backend={world.redis_url!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    given = {"broker": world.redis_url, "backend": world.redis_url, "result_expires_s": 86_400.0}
    found = [one for one in check_app("shop:app", **given) if one.level is Level.WRONG]
    assert ["result backend" in one.found for one in found] == [True]
    assert [one for one in check_app("shop:other", **given) if one.level is Level.WRONG] == []


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    """Servers and no worker."""
    with World(tmp_path) as world:
        yield world


def test_with_no_worker_yet_the_call_is_published_and_a_warning_says_so_once(
    empty: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", empty.redis_url)
    monkeypatch.setattr(agreement, "_warned", set())
    endpoint = Endpoint("fast", app=callers(empty))
    with caplog.at_level(logging.WARNING, logger="celery_runpod._publish.agreement"):
        results = [endpoint.delay(n=n) for n in range(3)]
    assert [one.reason for one in results] == ["NO_WORKER"] * 3
    assert [record.levelname for record in caplog.records if "no RunPod worker" in record.getMessage()] == ["WARNING"]


def test_workers_that_are_gone_make_no_mismatch(empty: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_STORE_URL", empty.redis_url)
    worker = empty.stack.worker(cwd=ROOT)
    eventually(lambda: bool(empty.redis.hget("runpod.agreement", "token")), True)
    worker.stop()
    Redis.from_url(empty.redis_url).delete("runpod.agreement")
    result = Endpoint("fast", app=callers(empty)).delay(a=1)
    assert result.reason == "NO_WORKER"


@pytest.mark.skipif(rabbitmq_server() is None, reason="no rabbitmq-server is installed")
def test_rabbitmq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with World(tmp_path, broker="rabbitmq") as world:
        world.start(application=None)
        monkeypatch.setenv("RUNPOD_STORE_URL", world.redis_url)
        eventually(lambda: bool(world.redis.get("runpod:agreement")), True)
        app = callers(world)
        eventually(lambda: agreement.compare(app, sleep=lambda _: None).agrees, True)
        assert Endpoint("fast", app=app).delay(a=1).get(timeout=WAIT_S) == {"a": 1}
        theirs = callers(world, broker=world.redis_url)
        with pytest.raises(ConfigurationMismatch, match="broker"):
            Endpoint("fast", app=theirs).delay(a=1)
        other = callers(world, backend=elsewhere(world))
        with pytest.raises(ConfigurationMismatch, match="result backend"):
            Endpoint("fast", app=other).delay(a=1)
