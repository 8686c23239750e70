"""How the end of a call is published to the caller's own worker: when it is, and what outlives a kill."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group, states
from celery.app.trace import build_tracer
from kombu.exceptions import OperationalError
from kombu.transport.memory import Channel

from celery_app.overrides.poison import settle
from celery_runpod import Endpoint
from celery_runpod._protocol import ENDED_QUEUE, FINISH, JOB_ENDED, RUN
from celery_runpod._publish import caller_task, job_ends
from celery_runpod._publish.job_ends import ask
from celery_runpod._store.states import State
from celery_runpod.errors import JobCancelled, JobFailed, JobUndeliverable, decode, encode
from celery_runpod.options import Options
from tasks.cancel import cancel_jobs
from tasks.delivery import MOST_CLAIMS
from tasks.put_back import MOST_TRIES
from tests.builders import ENDPOINT, Bench

QUEUE = "of-the-shop"


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.app.conf.update(task_default_queue="celery", task_publish_retry=False)
    return made


def call(task_id: str = "t1", *, asked: bool = True, **options: Any) -> dict[str, Any]:
    """A signature of a call."""
    made: dict[str, Any] = {"task": RUN, "kwargs": {"endpoint": ENDPOINT}, "options": {"task_id": task_id, **options}}
    if asked:
        ask(made, QUEUE)
    return made


def ended(bench: Bench, error: Exception | None = None, asked: bool = True, **changes: Any) -> None:
    """A job whose verdict is recorded, and whose continuation holds what `call` does."""
    follows = {name: changes.pop(name) for name in ("chain", "link", "link_error", "chord") if name in changes}
    continuation = {**call(asked=asked, queue="runpod.deliver", **follows), "task": FINISH, "args": []}
    job = bench.accepted(continuation=json.dumps(continuation), **changes)
    outcome = {"output": {"url": "x"}, "error": None if error is None else encode(error)}
    state = State.COMPLETED if error is None else State.FAILED
    assert bench.store.record_outcome(job, state, outcome, bench.now, bench.now + 30) == "recorded"


def finish(bench: Bench, **request: Any) -> None:
    tracer = build_tracer(FINISH, bench.app.tasks[FINISH], app=bench.app)
    tracer("t1", (ENDPOINT, "t1", 1), {}, request={"id": "t1", "delivery_info": {}, "args": (), **request})


def told(bench: Bench) -> list[dict[str, Any]]:
    """The arguments of each message that the own worker would take; they are taken out."""
    found = []
    with bench.app.connection_for_read() as connection:
        channel = connection.default_channel
        while message := channel.basic_get(QUEUE, no_ack=True):
            assert message.headers["task"] == JOB_ENDED and message.headers["ignore_result"]
            assert "url" not in str(message.headers)  # no output in logs and Flower
            found.append(message.decode()[1])
    return found


def delivered(bench: Bench) -> bool:
    return bool(bench.redis.hget(bench.store.keys.job(ENDPOINT, "t1"), "state") == "DELIVERED")


@pytest.mark.parametrize("ignore_result", [False, True])
def test_an_output(bench: Bench, ignore_result: bool) -> None:
    ended(bench, ignore_result=ignore_result)
    finish(bench, ignore_result=ignore_result)
    news = {"task_id": "t1", "endpoint": ENDPOINT, "state": "SUCCESS", "output": {"url": "x"}, "error": None}
    assert told(bench) == [news]
    assert delivered(bench)


def test_an_error(bench: Bench) -> None:
    error = JobFailed("boom", ENDPOINT, "t1", "r1", "ValueError")
    ended(bench, error=error)
    finish(bench)
    [news] = told(bench)
    assert (news["state"], news["output"]) == ("FAILURE", None)
    assert decode(news["error"]).args == error.args


def test_an_error_that_is_the_result(bench: Bench) -> None:
    ended(
        bench, JobFailed("boom", ENDPOINT, "t1"), options=Options(deadline=600.0, on_error="return"), chain=[call("n")]
    )
    finish(bench)
    [news] = told(bench)
    assert (news["state"], news["output"]["error"]["type"], news["error"]) == ("SUCCESS", "JobFailed", None)


def test_a_cancel(bench: Bench) -> None:
    continuation = {**call(chain=[call("next")], queue="runpod.deliver"), "task": FINISH, "args": []}
    bench.accepted(continuation=json.dumps(continuation))
    cancel_jobs(bench.services, ["t1"])
    finish(bench)
    news = told(bench)
    assert [(one["task_id"], one["state"]) for one in news] == [("t1", "REVOKED"), ("next", "REVOKED")]
    assert isinstance(decode(news[0]["error"]), JobCancelled)


def test_nobody_asked(bench: Bench) -> None:
    ended(bench, asked=False)
    finish(bench)
    assert told(bench) == [] and delivered(bench)


def test_calls_behind_one_that_failed_end_too(bench: Bench) -> None:
    save: dict[str, Any] = {"task": "shop.save", "options": {"task_id": "save", "link": [call("after-save")]}}
    members = {"task": "celery.group", "kwargs": {"tasks": [call("in-a-group"), call("unasked", asked=False)]}}
    ended(
        bench,
        JobFailed("boom", ENDPOINT, "t1"),
        chain=[call("last", link_error=[call("errback")]), members, save],
        link=[call("linked")],
        link_error=[call("errback")],
        chord=call("body"),
    )
    finish(bench)
    news = told(bench)
    assert news[0]["task_id"] == "t1"
    assert {one["task_id"] for one in news} == {"t1", "last", "in-a-group", "after-save", "linked", "body"}
    assert {decode(one["error"]).args[0] for one in news} == {"boom"}


def test_calls_behind_one_that_worked_begin_and_are_not_ended(bench: Bench) -> None:
    ended(bench, chain=[call("last")])
    finish(bench)
    assert [one["task_id"] for one in told(bench)] == ["t1"]


def test_killed_after_the_result_was_stored(bench: Bench) -> None:
    ended(bench)
    bench.store.claim_finish(ENDPOINT, "t1", 1, "killed", bench.now, bench.now + 60)
    bench.app.backend.store_result("t1", {"url": "x"}, states.SUCCESS)
    bench.now += 61
    finish(bench)
    assert [one["output"] for one in told(bench)] == [{"url": "x"}]
    finish(bench)
    assert told(bench) == [] and delivered(bench)


def test_killed_before_the_tombstone_it_comes_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(bench)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.delivery.mark_delivered", lambda *_: None)
        finish(bench)
    bench.now += 61
    finish(bench)
    assert [one["state"] for one in told(bench)] == ["SUCCESS", "SUCCESS"]
    assert delivered(bench)


def test_a_broker_that_is_away_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    ended(bench)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.job_ended.publish_end", away)
        finish(bench)
        assert not delivered(bench)
        assert bench.app.backend.get_result("t1") == {"url": "x"}
    bench.now += 61
    finish(bench)
    assert [one["state"] for one in told(bench)] == ["SUCCESS"]
    assert delivered(bench)


def test_what_can_never_be_published_keeps_no_job_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("a queue of another age")

    monkeypatch.setattr("tasks.job_ended.publish_end", broken)
    ended(bench)
    rounds = 0
    while not delivered(bench):
        rounds += 1
        assert rounds <= MOST_CLAIMS + 2
        finish(bench)
        bench.now += 61


def test_a_call_that_fails_before_it_has_a_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("each time")

    monkeypatch.setattr("tasks.run.read_call", broken)
    task = bench.app.tasks[RUN]
    tracer = build_tracer(RUN, task, app=bench.app)
    request = {"id": "t1", "delivery_info": {}, "args": (), "chain": [call("behind")], ENDED_QUEUE: QUEUE}
    for _ in range(MOST_TRIES):
        tracer("t1", (), {"endpoint": ENDPOINT}, request=dict(request))
        assert told(bench) == []
    tracer("t1", (), {"endpoint": ENDPOINT}, request=dict(request))
    news = told(bench)
    assert [(one["task_id"], one["state"]) for one in news] == [("t1", "FAILURE"), ("behind", "FAILURE")]
    assert isinstance(decode(news[0]["error"]), JobUndeliverable)


def test_a_message_that_cannot_be_run(bench: Bench) -> None:
    headers = {"id": "t1", "task": RUN, ENDED_QUEUE: QUEUE}
    body = json.dumps([[], {}, {"chain": [call("behind")]}])
    message = SimpleNamespace(body=body.encode(), headers=headers, content_type="application/json", properties={})
    settle(bench.services, message, "nested too deeply", True)
    assert [(one["task_id"], one["error"]["type"]) for one in told(bench)] == [
        ("t1", "InvalidInput"),
        ("behind", "InvalidInput"),
    ]


# The process that publishes calls


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    made = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_routes = {JOB_ENDED: {"queue": QUEUE}}
    monkeypatch.setattr(caller_task, "refuse", lambda *_: None)
    monkeypatch.setattr(job_ends, "_asking", [lambda: True])
    Channel.queues.clear()

    @made.task(name="shop.save", shared=False)
    def save(output: Any) -> Any: ...

    return made


def message_of(app: Celery, queue: str) -> Any:
    with app.connection_for_read() as connection:
        return connection.default_channel.basic_get(queue, no_ack=True)


def asked_in(value: Any) -> list[str]:
    """The endpoints of the calls in a message that ask for their ends."""
    if isinstance(value, dict):
        mine = (value.get("options") or {}).get("headers") or {} if value.get("task") == RUN else {}
        name = [value["kwargs"]["runpod.call"]["endpoint"]] if mine.get(ENDED_QUEUE) == QUEUE else []
        return name + [one for inner in value.values() for one in asked_in(inner)]
    return [one for inner in value for one in asked_in(inner)] if isinstance(value, list | tuple) else []


def test_a_call_and_all_calls_behind_it_name_the_own_workers_queue(app: Celery) -> None:
    first, second, third, fourth = (Endpoint(name, app=app) for name in ("first", "second", "third", "fourth"))
    save = app.tasks["shop.save"]
    canvas = chain(first.s(), save.s(), group(second.s(), third.s()))
    canvas.link(fourth.s())
    canvas.apply_async()
    message = message_of(app, "runpod")
    assert message.headers[ENDED_QUEUE] == QUEUE
    assert {"second", "third"} <= set(asked_in(message.decode()[2]))
    chord([save.s(1), save.s(2)], first.s()).apply_async()
    message = message_of(app, "celery")
    assert ENDED_QUEUE not in message.headers and asked_in(message.decode()[2]) == ["first"]


def test_without_a_receiver_no_call_asks(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_ends, "_asking", [lambda: False])
    chain(Endpoint("first", app=app).s(), Endpoint("second", app=app).s()).apply_async()
    message = message_of(app, "runpod")
    assert ENDED_QUEUE not in message.headers and asked_in(message.decode()[2]) == []
