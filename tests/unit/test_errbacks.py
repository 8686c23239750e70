"""Errbacks of a call: those with Celery's three arguments are wrapped where they are known, and called as Celery does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError
from kombu.transport.memory import Channel

from celery_runpod import Endpoint
from celery_runpod._protocol import ERRBACK
from celery_runpod._worker_mark import mark_as_worker
from celery_runpod.errors import JobFailed, encode

CALLS: list[tuple[Any, ...]] = []


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    made = Celery("errbacks", broker="memory://", backend="cache+memory://", set_as_current=False)
    for name in ("check_reachable", "refuse_mismatch", "refuse_over_bounds"):
        monkeypatch.setattr(f"celery_runpod._publish.caller_task.{name}", lambda *_, **__: None)
    monkeypatch.setattr("celery_runpod._publish.caller_task.forget", lambda _: False)
    CALLS.clear()
    Channel.queues.clear()  # the memory of all apps

    @made.task(shared=False, name="celerys")
    def celerys(request: Any, exc: Any, traceback: Any) -> None:
        CALLS.append((request.id, exc, traceback))

    @made.task(shared=False, name="with_more")
    def with_more(request: Any, exc: Any, traceback: Any, more: int, *, key: str) -> None:
        CALLS.append((request.id, more, key))

    @made.task(shared=False, name="by_id")
    def by_id(task_id: str) -> None:
        CALLS.append((task_id,))

    @made.task(shared=False, name="any")
    def any_(*args: Any) -> None:
        CALLS.append(args)

    @made.task(shared=False, name="plain")
    def plain(value: Any = None) -> Any:
        return value

    made.finalize()
    return made


def published(app: Celery) -> dict[str, Any]:
    """The body's third part of the one message that was published."""
    found = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        for queue in ("runpod", "celery"):
            while channel._size(queue):
                message = channel._get(queue)
                found.append(json.loads(channel.decode_body(message["body"], "base64"))[2])
    (one,) = found
    return dict(one)


def shapes(errbacks: Any) -> list[Any]:
    """Names of errbacks; of a wrapped one, in a list."""
    return [[one["args"][0]["task"]] if one["task"] == ERRBACK else one["task"] for one in errbacks or ()]


def test_those_that_take_celerys_arguments_are_wrapped(app: Celery) -> None:
    tasks = app.tasks
    errbacks = [
        tasks["celerys"].s(),
        tasks["with_more"].s(1, key="k"),
        tasks["by_id"].s(),
        tasks["any"].s(),
        tasks["celerys"].si(1, 2, 3),
        app.signature("of another process"),
    ]
    Endpoint("sdxl", app=app).apply_async(({"a": 1},), link_error=errbacks)
    kept = [["celerys"], ["with_more"], "by_id", "any", "celerys", "of another process"]
    assert shapes(published(app)["errbacks"]) == kept


def test_the_wrapper_goes_where_the_errback_would(app: Celery) -> None:
    app.conf.task_routes = {"celerys": {"queue": "mine"}}
    Endpoint("sdxl", app=app).apply_async(({"a": 1},), link_error=app.tasks["celerys"].s())
    (errback,) = published(app)["errbacks"]
    assert (errback["task"], errback["options"]["queue"]) == (ERRBACK, "mine")
    assert errback["options"]["task_id"]


@pytest.mark.parametrize("first", [True, False])
def test_in_a_chain_those_of_endpoints_alone_are_wrapped(app: Celery, first: bool) -> None:
    sdxl, plain = Endpoint("sdxl", app=app).s(a=1), app.tasks["plain"].s()
    steps = [sdxl, plain] if first else [plain, sdxl]
    chain(*[step.on_error(app.tasks["celerys"].s()) for step in steps]).apply_async()
    embed = published(app)
    here, (after,) = embed["errbacks"], embed["chain"]
    there = after["options"]["link_error"]
    assert (shapes(here), shapes(there)) == ((["celerys"],), ("celerys",)) or (shapes(here), shapes(there)) == (
        ([["celerys"]], ["celerys"]) if first else (["celerys"], [["celerys"]])
    )


def test_a_message_without_an_endpoint_is_left_alone(app: Celery) -> None:
    app.tasks["plain"].apply_async(link_error=app.tasks["celerys"].s())
    assert shapes(published(app)["errbacks"]) == ["celerys"]


def test_in_the_runpod_worker_nothing_is_wrapped(app: Celery) -> None:
    mark_as_worker(app)
    Endpoint("sdxl", app=app).apply_async(({"a": 1},), link_error=app.tasks["celerys"].s())
    assert shapes(published(app)["errbacks"]) == ["celerys"]


def test_it_is_called_with_the_request_the_error_and_the_traceback(app: Celery) -> None:
    error = JobFailed("no", "sdxl", "t1", "r1")
    app.backend.store_result("t1", error, "FAILURE", traceback="a traceback")
    app.tasks[ERRBACK]("t1", app.tasks["celerys"].s())
    ((task_id, given, traceback),) = CALLS
    assert (task_id, encode(given), traceback) == ("t1", encode(error), "a traceback")


def test_of_a_cancelled_job_it_gets_the_cancel(app: Celery) -> None:
    app.backend.store_result("t1", TaskRevokedError("revoked"), "REVOKED")
    app.tasks[ERRBACK]("t1", dict(app.tasks["celerys"].s()))
    ((_, given, _),) = CALLS
    assert isinstance(given, TaskRevokedError)


def test_arguments_of_its_own_follow_celerys(app: Celery) -> None:
    app.backend.store_result("t1", JobFailed("no", "sdxl", "t1", "r1"), "FAILURE")
    app.tasks[ERRBACK]("t1", json.loads(json.dumps(app.tasks["with_more"].s(1, key="k"))))
    assert CALLS == [("t1", 1, "k")]


def test_in_the_process_of_the_failure_celery_calls_it_itself(app: Celery) -> None:
    """Where a plain task of the user's fails, Celery gives the wrapper the three arguments."""
    app.tasks[ERRBACK](SimpleNamespace(id="t2"), ValueError("x"), "tb", app.tasks["celerys"].s())
    assert [(CALLS[0][0], str(CALLS[0][1]), CALLS[0][2])] == [("t2", "x", "tb")]


def test_chords_and_groups_wrap_too(app: Celery) -> None:
    sdxl = Endpoint("sdxl", app=app)
    group(sdxl.s(a=1)).on_error(app.tasks["celerys"].s())
    body = sdxl.s().on_error(app.tasks["celerys"].s())
    chord([sdxl.s(a=1)], body).apply_async()
    embed = published(app)
    assert shapes(embed["chord"]["options"]["link_error"]) == [["celerys"]]


@pytest.mark.parametrize("endpoint_first", [True, False])
def test_the_body_of_a_chord_fails_at_a_runpod_worker_too(app: Celery, endpoint_first: bool) -> None:
    """Celery's documented way to see the error of a chord: an errback on its body."""
    sdxl, plain = Endpoint("sdxl", app=app).s(a=1), app.tasks["plain"].s()
    member = chain(sdxl, plain) if endpoint_first else sdxl
    chord([member], plain.on_error(app.tasks["celerys"].s())).apply_async()
    embed = published(app)
    body = embed["chain"][0]["options"]["chord"] if endpoint_first else embed["chord"]
    (errback,) = body["options"]["link_error"]
    assert shapes([errback]) == [["celerys"]] and errback["kwargs"] == {"task": "plain"}


def test_each_task_of_a_body_that_is_a_group_too(app: Celery) -> None:
    sdxl, plain = Endpoint("sdxl", app=app).s(a=1), app.tasks["plain"]
    chord([sdxl], group(plain.s().on_error(app.tasks["celerys"].s()), plain.s())).apply_async()
    first, second = published(app)["chord"]["kwargs"]["tasks"]
    assert shapes(first["options"]["link_error"]) == [["celerys"]] and "link_error" not in second["options"]


def test_a_chord_that_follows_too_and_its_own_tasks_are_left_to_celery(app: Celery) -> None:
    sdxl, plain, celerys = Endpoint("sdxl", app=app).s(a=1), app.tasks["plain"], app.tasks["celerys"]
    members = group(plain.s().on_error(celerys.s()), sdxl)
    chain(plain.s(), members, plain.s().on_error(celerys.s())).apply_async()
    (after,) = published(app)["chain"]
    member, _ = after["kwargs"]["header"]["kwargs"]["tasks"]
    assert shapes(member["options"]["link_error"]) == ["celerys"]
    assert shapes(after["kwargs"]["body"]["options"]["link_error"]) == [["celerys"]]


def test_the_request_names_the_task_that_has_failed(app: Celery) -> None:
    app.backend.store_result("t1", ValueError("x"), "FAILURE")
    seen: list[str] = []

    @app.task(shared=False, name="names")
    def names(request: Any, exc: Any, traceback: Any) -> None:
        seen.append(request.task)

    app.tasks[ERRBACK]("t1", app.tasks["names"].s(), task="shop.album")
    assert seen == ["shop.album"]
