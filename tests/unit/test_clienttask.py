"""The client task: what stops a call before it is published, whatever canvas it is part of."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, chain, chord, group, shared_task
from celery._state import _on_app_finalizers
from celery.canvas import Signature
from celery.signals import before_task_publish
from kombu.exceptions import OperationalError
from kombu.transport.memory import Channel

from celery_runpod import Endpoint
from celery_runpod._protocol import RUN
from celery_runpod._publish import agreement, caller_task, outbox_copies
from celery_runpod._publish.caller_task import ClientTask, client_task
from celery_runpod._publish.client_tasks import in_every_app
from celery_runpod._worker_mark import mark_as_worker
from celery_runpod.errors import (
    BrokerUnavailable,
    ConfigurationError,
    ConfigurationMismatch,
    EagerMode,
    InvalidInput,
    InvalidOption,
)

Call = Callable[[Endpoint, Celery], Any]


def make(**conf: Any) -> Celery:
    app = Celery("client", broker="memory://client", backend="cache+memory://", set_as_current=False)
    app.conf.broker_transport_options = {"polling_interval": 0}
    app.conf.update(conf)

    @app.task(name="own.same", shared=False)
    def same(value: Any = None) -> Any:
        return value

    return app


@pytest.fixture
def app() -> Iterator[Celery]:
    Channel.queues.clear()
    made = make()
    # Canvas finds the app of a chain by its first task, or the current one.
    made.set_current()
    yield made
    Channel.queues.clear()


def published() -> int:
    return sum(queue.qsize() for queue in Channel.queues.values())


def own(app: Celery) -> Signature:
    return app.tasks["own.same"].s()


CANVASES: dict[str, Call] = {
    "delay": lambda e, app: e.delay(a=1),
    "apply_async": lambda e, app: e.apply_async(({"a": 1},)),
    "s.delay": lambda e, app: e.s(a=1).delay(),
    "s.apply_async": lambda e, app: e.s(a=1).apply_async(),
    "from a dict": lambda e, app: Signature.from_dict(dict(e.s(a=1)), app=app).apply_async(),
    "chain": lambda e, app: chain(e.s(a=1), own(app), app=app).apply_async(),
    "group": lambda e, app: group([e.s(a=1), e.s(a=2)], app=app).apply_async(),
    "chord": lambda e, app: chord([e.s(a=1), e.s(a=2)], own(app), app=app).apply_async(),
}


@pytest.mark.parametrize("name", CANVASES)
def test_every_canvas_is_published_through_the_client_task(name: str, app: Celery) -> None:
    CANVASES[name](Endpoint("e1", app=app), app)
    assert published() == (2 if name in ("group", "chord") else 1)


EAGER: dict[str, Call] = {
    **CANVASES,
    "apply": lambda e, app: e.s(a=1).apply(),
    "after a task": lambda e, app: chain(own(app), e.s(a=1), app=app).apply_async(),
    "link": lambda e, app: own(app).apply_async(link=e.s(a=1)),
    "body": lambda e, app: chord([own(app)], e.si(a=1), app=app).apply_async(),
}


@pytest.mark.parametrize("name", EAGER)
def test_under_eager_mode_nothing_is_published(name: str, app: Celery) -> None:
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    with pytest.raises(EagerMode, match=r"docs/testing\.md"):
        EAGER[name](Endpoint("e1", app=app), app)
    assert published() == 0


def test_apply_is_refused_without_eager_mode_too(app: Celery) -> None:
    with pytest.raises(EagerMode, match=r"apply\(\)"):
        Endpoint("e1", app=app).s(a=1).apply()


@pytest.mark.parametrize("args", [{"a": 1}, "a", 5, {1, 2}, iter([1])])
def test_arguments_are_a_list_or_a_tuple(args: Any, app: Celery) -> None:
    endpoint = Endpoint("e1", app=app)
    for call in (endpoint.apply_async, endpoint.signature, app.tasks[RUN].apply_async):
        with pytest.raises(TypeError, match="task args must be a list or tuple"):
            call(args)
    assert published() == 0


BY_ID: dict[str, Callable[[Endpoint, Celery, Any], Any]] = {
    "apply_async": lambda e, app, task_id: e.apply_async(kwargs={"a": 1}, task_id=task_id),
    "s.apply_async": lambda e, app, task_id: e.s(a=1).apply_async(task_id=task_id),
    "set": lambda e, app, task_id: e.s(a=1).set(task_id=task_id).delay(),
}


@pytest.mark.parametrize("name", BY_ID)
def test_a_task_id_may_be_the_uuid_of_a_row(name: str, app: Celery) -> None:
    row = UUID(int=7)
    assert BY_ID[name](Endpoint("e1", app=app), app, row).id == str(row)
    [queue] = [queue for queue in Channel.queues.values() if queue.qsize()]
    assert queue.get()["headers"]["id"] == str(row)


IN_A_CANVAS: dict[str, Callable[[Endpoint, Celery, Any], Any]] = {
    "group": lambda e, app, task_id: group([e.s(a=1).set(task_id=task_id), e.s(a=2)], app=app),
    "chord": lambda e, app, task_id: chord([e.s(a=1).set(task_id=task_id)], own(app), app=app),
    "first step": lambda e, app, task_id: chain(e.s(a=1).set(task_id=task_id), own(app), app=app),
    "later step": lambda e, app, task_id: chain(e.s(a=1), e.s(a=2).set(task_id=task_id), app=app),
}


@pytest.mark.parametrize("name", IN_A_CANVAS)
def test_in_a_canvas_a_uuid_is_refused_because_celerys_result_would_wait_for_ever(name: str, app: Celery) -> None:
    canvas = IN_A_CANVAS[name]
    with pytest.raises(InvalidOption, match=r"option 'task_id': '<UUID>' given; allowed: a text of"):
        canvas(Endpoint("e1", app=app), app, UUID(int=7)).apply_async()
    assert published() == 0
    canvas(Endpoint("e1", app=app), app, str(UUID(int=7))).apply_async()
    assert published() > 0


@pytest.mark.parametrize("task_id", [7, b"t1", "t" * 256, ["t1"]])
@pytest.mark.parametrize("name", BY_ID)
def test_a_task_id_that_no_worker_takes_is_refused(name: str, task_id: Any, app: Celery) -> None:
    with pytest.raises(InvalidOption, match=r"option 'task_id'.* or a UUID"):
        BY_ID[name](Endpoint("e1", app=app), app, task_id)
    assert published() == 0


@pytest.mark.parametrize("name", ["link", "link_error"])
@pytest.mark.parametrize(
    "link", ["x", 5, {"no": "task"}, ["x"], lambda: None], ids=["text", "number", "dict", "list", "function"]
)
def test_a_link_is_a_signature(name: str, link: Any, app: Celery) -> None:
    endpoint = Endpoint("e1", app=app)
    linked = {name: link}
    calls: list[Callable[[], Any]] = [
        lambda: endpoint.apply_async((), **linked),
        lambda: endpoint.signature(**linked),
        lambda: endpoint.s(a=1).apply_async(**linked),
        lambda: endpoint.s(a=1).set(**linked).delay(),
        lambda: chain(endpoint.s(a=1), endpoint.s(b=1).set(**linked), app=app).delay(),
        lambda: endpoint.s(a=1).apply_async(link=own(app).set(**linked)),
        lambda: group([endpoint.s(a=1).set(**linked)], app=app).delay(),
    ]
    for call in calls:
        with pytest.raises(InvalidOption, match=f"option '{name}'.*a signature"):
            call()
    assert published() == 0


def test_links_that_are_signatures_pass(app: Celery) -> None:
    link = own(app)
    Endpoint("e1", app=app).apply_async((), link=[link, dict(link)], link_error=link)
    assert published() == 1


MISPLACED: dict[str, Callable[[Endpoint, Celery], Any]] = {
    "apply_async": lambda e, app: e.apply_async(({"a": 1},), deadline=900),
    "signature": lambda e, app: e.signature(deadline=900),
    "set": lambda e, app: e.s(a=1).set(deadline=900).delay(),
    "a later step": lambda e, app: chain(e.s(a=1), e.s(b=1).set(deadline=900), app=app).delay(),
    "a link": lambda e, app: e.apply_async(({"a": 1},), link=e.s(a=1).set(deadline=900)),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_an_option_of_using_among_celerys_is_refused(name: str, app: Celery) -> None:
    with pytest.raises(InvalidOption, match=r"option 'deadline': 900 given.*using\(deadline=\.\.\.\)"):
        MISPLACED[name](Endpoint("e1", app=app), app)
    assert published() == 0


def test_a_stamp_and_an_option_of_another_task_may_have_any_name(app: Celery) -> None:
    signature = Endpoint("e1", app=app).s(a=1)
    signature.stamp(labels="a")
    signature.apply_async(link=own(app).set(deadline=900))
    assert published() == 1


def test_a_call_by_name_goes_where_every_call_goes(app: Celery) -> None:
    """As beat sends it: `app.tasks["runpod.run"].apply_async`."""
    app.conf.update(task_serializer="pickle", task_default_queue="own")
    app.signature(RUN, args=({"a": 1},), kwargs={"endpoint": "e1"}).apply_async()
    message = Channel.queues["runpod"].get()
    assert message["content-type"] == "application/json"
    assert (message["headers"]["argsrepr"], message["headers"]["shadow"]) == ("<input hidden>", "runpod.run[e1]")


@pytest.mark.parametrize("queue", ["runpod-2", None])
def test_a_queue_of_its_own_goes_before(queue: str | None, app: Celery) -> None:
    app.signature(RUN, kwargs={"endpoint": "e1"}, queue=queue).apply_async()
    assert Channel.queues[queue or "runpod"].qsize() == 1


def test_a_result_that_is_ignored_is_none_at_once(app: Celery) -> None:
    endpoint = Endpoint("e1", app=app)
    ignored = endpoint.apply_async(({"a": 1},), ignore_result=True)
    assert ignored.get() is None and asyncio.run(ignored.aget()) is None
    assert not endpoint.delay(a=1).ignored


def test_a_signature_is_no_input(app: Celery) -> None:
    """Celery's signatures are dicts, so a job would be paid for with one as its input."""
    endpoint = Endpoint("e1", app=app)
    for call in (
        lambda: endpoint.s(own(app)),
        lambda: endpoint.delay(a=own(app)),
        lambda: endpoint.si(chain(own(app))),
    ):
        with pytest.raises(InvalidInput, match="a signature is no input"):
            call()


def test_a_signature_is_not_called_as_a_function(app: Celery) -> None:
    with pytest.raises(TypeError, match=r"use \.delay"):
        Endpoint("e1", app=app).s(a=1)()


# Priorities on Redis

CELERYS_DOCS = {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"}
PRIORITIES: dict[str, Callable[[Endpoint, Celery], Any]] = {
    "of the call": lambda e, app: e.s(a=1).set(priority=5),
    "of a step": lambda e, app: chain(e.s(a=1), own(app).set(priority=5), app=app),
    "of a body": lambda e, app: chord([e.s(a=1)], own(app).set(priority=5), app=app),
    "of a link": lambda e, app: e.signature(({"a": 1},), link=own(app).set(priority=5)),
    "of a task": lambda e, app: chain(e.s(a=1), app.tasks["own.urgent"].s(), app=app),
    "none": lambda e, app: chain(e.s(a=1), own(app), app=app),
}


@pytest.mark.parametrize("transport", [CELERYS_DOCS, {"sep": ":"}, {"priority_steps": [0, 5]}, {}])
@pytest.mark.parametrize("name", PRIORITIES)
def test_a_priority_that_nobody_would_read_is_refused(
    name: str, transport: dict[str, Any], app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.task(name="own.urgent", shared=False, priority=5)(_urgent)
    monkeypatch.setattr(agreement, "broker_of", lambda _: "redis://127.0.0.1:1/0")
    app.conf.broker_transport_options = {"polling_interval": 0, **transport}
    canvas = PRIORITIES[name](Endpoint("e1", app=app), app)
    if name == "none" or not transport:
        canvas.apply_async()
        assert published() == 1
        return
    with pytest.raises(ConfigurationMismatch, match="broker_transport_options of this process is"):
        canvas.apply_async()
    assert published() == 0


def _urgent(value: Any = None) -> Any:
    return value


# What the client task leaves as it is


def test_a_signature_is_sent_as_if_the_app_did_not_know_the_task() -> None:
    conf = {
        "task_annotations": {"*": {"time_limit": 3, "priority": 9, "expires": 1}},
        "task_ignore_result": True,
        "task_serializer": "pickle",
        "task_time_limit": 10,
        "task_soft_time_limit": 20,
    }
    app, seen = make(**conf), {}

    @before_task_publish.connect(sender=RUN, weak=False)
    def note(headers: dict[str, Any], properties: dict[str, Any], **_: Any) -> None:
        seen.update(headers, priority=properties.get("priority"))

    try:
        signature = Endpoint("e1", app=app).s(a=1)
        before = dict(signature)
        signature.apply_async()
    finally:
        before_task_publish.disconnect(note, sender=RUN)
    assert dict(signature) == before
    assert (seen["timelimit"], seen["expires"], seen["priority"], seen["ignore_result"]) == (
        [None, None],
        None,
        None,
        None,
    )
    assert app.tasks[RUN]._get_exec_options() == {}


# Where it is registered


def test_every_app_of_the_process_has_one_of_its_own(app: Celery) -> None:
    other = make()
    assert isinstance(app.tasks[RUN], ClientTask)
    assert isinstance(other.tasks[RUN], ClientTask)
    assert app.tasks[RUN].app is app
    assert other.tasks[RUN].app is other


def test_an_app_that_was_finished_before_the_import_gets_it_too() -> None:
    app = make()
    app.finalize()
    app._tasks.pop(RUN)
    in_every_app(caller_task.register)
    assert isinstance(app.tasks[RUN], ClientTask)


@pytest.mark.parametrize("worker", [True, False])
def test_the_workers_own_task_and_the_client_task_do_not_meet_whatever_comes_first(worker: bool) -> None:
    def task(**_: Any) -> None: ...

    finalizers = set(_on_app_finalizers)
    try:
        for _ in range(8):  # Celery keeps them in a set, in no order
            shared_task(name=RUN)(task)
            app = make()
            if worker:
                mark_as_worker(app)
            assert isinstance(app.tasks[RUN], ClientTask) is not worker
            _on_app_finalizers.clear()
            _on_app_finalizers.update(finalizers)
    finally:
        _on_app_finalizers.clear()
        _on_app_finalizers.update(finalizers)


def test_a_task_of_the_worker_calls_through_one_that_is_not_registered() -> None:
    app = make()
    mark_as_worker(app)
    assert isinstance(client_task(app), ClientTask)
    assert not isinstance(app.tasks.get(RUN), ClientTask)


def test_in_a_wrong_worker_it_says_which_one_must_run_it(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[str] = []
    store = SimpleNamespace(outbox=SimpleNamespace(drop_message=dropped.append))
    monkeypatch.setattr(caller_task, "store_of", lambda _: store)
    task = app.tasks[RUN]
    task.push_request(id="t1")
    try:
        with pytest.raises(ConfigurationError, match="celery-runpod worker"):
            task.run(endpoint="e1")
    finally:
        task.pop_request()
    assert dropped == ["t1"]


# A publish that fails


def failing(monkeypatch: pytest.MonkeyPatch, app: Celery, error: Exception, after: int = 0) -> None:
    """The broker refuses what is published after so many messages."""
    sent = [0]
    publish = app.amqp.Producer.publish

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        sent[0] += 1
        if sent[0] > after:
            raise error
        return publish(self, *args, **kwargs)

    monkeypatch.setattr("celery.app.amqp.Producer.publish", refuse)


@pytest.mark.parametrize("name", CANVASES)
def test_a_message_that_was_handed_over_in_vain_may_be_there(
    name: str, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, app, OperationalError("Timeout reading from socket"))
    with pytest.raises(BrokerUnavailable, match="Timeout reading") as caught:
        CANVASES[name](Endpoint("e1", app=app), app)
    assert caught.value.unconfirmed
    assert caught.value.task_id is not None
    assert caught.value.task_id in str(caught.value)
    assert str(type(caught.value)(*caught.value.args)) == str(caught.value)


def test_what_fails_before_the_message_is_handed_over_sent_nothing(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise RuntimeError("Retry limit exceeded while trying to reconnect to the Celery result store backend")

    monkeypatch.setattr(type(app.backend), "on_task_call", gone)
    with pytest.raises(BrokerUnavailable, match="nothing was enqueued") as caught:
        Endpoint("e1", app=app).delay(a=1)
    assert (caught.value.role, caught.value.unconfirmed) == ("result backend", False)


def test_of_a_group_the_error_says_which_member(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, app, OperationalError("gone"), after=2)
    endpoint = Endpoint("e1", app=app)
    with pytest.raises(BrokerUnavailable, match=r"for member 2 of group .*members before it were enqueued") as caught:
        group([endpoint.s(n=n) for n in range(4)], app=app).apply_async(task_id="g1")
    assert (caught.value.group_id, caught.value.member) == ("g1", 2)


def test_a_worker_that_publishes_a_later_step_is_left_to_celery(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = Endpoint("e1", app=app).s(a=1)
    monkeypatch.setattr(caller_task, "refuse", lambda *_: pytest.fail("asked"))
    app.amqp._retry_publish(signature.apply_async)
    assert published() == 1


def test_a_worker_that_publishes_a_later_step_sends_its_uuid_as_text(app: Celery) -> None:
    """A caller that has not imported this package may have given it; the task before has ended already."""
    following = chain(Endpoint("e1", app=app).s(a=1).set(task_id=UUID(int=7)), own(app), app=app)
    app.amqp._retry_publish(following.apply_async)
    [queue] = [queue for queue in Channel.queues.values() if queue.qsize()]
    assert queue.get()["headers"]["id"] == str(UUID(int=7))


# What is remembered between the two signals


def test_a_copy_is_written_after_the_publish_alone(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr("celery_runpod._publish.routes.keep", lambda _, headers, *__: kept.append(headers["id"]))
    endpoint = Endpoint("e1", app=app)
    sent = endpoint.delay(a=1).id
    failing(monkeypatch, app, OperationalError("gone"))
    outbox_copies._this_thread.publishing.clear()
    with pytest.raises(BrokerUnavailable):
        endpoint.delay(a=1)
    assert kept == [sent]
    assert outbox_copies._this_thread.publishing == {}


def test_a_call_that_is_published_while_another_is(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        "celery_runpod._publish.routes.keep",
        lambda one, headers, *_: kept.append((headers["id"], one.properties["priority"])),
    )
    endpoint, inner = Endpoint("e1", app=app), []

    def nested(headers: dict[str, Any], **_: Any) -> None:
        if not inner:
            inner.append("begun")
            endpoint.apply_async((), task_id="inner", priority=1)

    before_task_publish.connect(nested, sender=RUN)
    try:
        endpoint.apply_async((), task_id="outer", priority=9)
    finally:
        before_task_publish.disconnect(nested, sender=RUN)
    assert kept == [("inner", 1), ("outer", 9)]


def test_each_thread_remembers_its_own(app: Celery) -> None:
    outbox_copies.begin(app, "t1", {})
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(outbox_copies.begun("t1")))
    thread.start()
    thread.join()
    assert seen == [None]
    assert outbox_copies.forget("t1")


def test_what_a_bare_send_task_leaves_is_bounded(app: Celery) -> None:
    for number in range(100):
        app.send_task(RUN, (), {"endpoint": "e1", "format": 1}, task_id=f"t{number}", queue="runpod")
    assert len(outbox_copies._this_thread.publishing) <= outbox_copies.MOST_AT_ONCE
    outbox_copies._this_thread.publishing.clear()


def test_a_fork_calls_too(app: Celery) -> None:
    endpoint = Endpoint("e1", app=app)
    endpoint.delay(a=1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        try:
            endpoint.delay(a=2)
            os.write(write, str(published()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"2"
