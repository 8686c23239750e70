"""Acknowledgements that fail, in the worker's consumer."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.asynchronous import Hub
from kombu.message import Message
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from celery_app.overrides.broker_refusals import Refusals
from celery_app.overrides.loss_tolerant_consumer import LossTolerantConsumer


class Refusing:
    """A channel whose broker takes no acknowledgement."""

    no_ack_consumers = None

    def basic_ack(self, tag: str, **kwargs: Any) -> None:
        raise RedisConnectionError("cut")

    def basic_reject(self, tag: str, **kwargs: Any) -> None:
        raise RedisConnectionError("cut")


def test_a_control_command_that_fails_later_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    hub, parent = Hub(), SimpleNamespace(use_eventloop=True)
    app = Celery(broker="redis://127.0.0.1:1/0", set_as_current=False)
    consumer = LossTolerantConsumer(lambda request: None, app=app, pool=None, hub=hub, controller=parent)

    def cut() -> None:
        raise RedisConnectionError("cut")

    try:
        # One by one: the hub keeps what is ready in no order.
        consumer.call_soon(consumer.cancel_task_queue, [1])
        [wrong] = hub._pop_ready()
        wrong()
        consumer.call_soon(cut)
        [broken] = hub._pop_ready()
        with pytest.raises(RedisConnectionError):
            broken()
    finally:
        hub.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["control_command.failed"]


@pytest.mark.parametrize(("way", "more"), [("ack_log_error", ()), ("reject_log_error", (True,))])
def test_one_that_failed_is_raised_to_the_consumer(way: str, more: tuple[bool, ...]) -> None:
    hub = Hub()
    app, parent = Celery(broker="redis://127.0.0.1:1/0", set_as_current=False), SimpleNamespace(use_eventloop=True)
    consumer = LossTolerantConsumer(lambda request: None, app=app, pool=None, hub=hub, controller=parent)
    message = Message(channel=Refusing(), delivery_tag="1")
    try:
        consumer.call_soon_ack(getattr(message, way), logging.getLogger(), consumer.connection_errors, *more)
        [callback] = hub._pop_ready()
        with pytest.raises(RedisConnectionError, match="cut"):
            callback()
    finally:
        hub.close()


def test_a_broker_that_refuses_is_asked_ever_more_slowly_and_its_wrong_keys_are_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, pauses = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("celery_app.overrides.broker_refusals.wrong_keys", lambda app, queues: ["runpod.status"])
    refusals = Refusals(lambda: False, lambda: now, sleep)
    app, error = Celery(set_as_current=False), ResponseError("WRONGTYPE Operation against a key")
    for _ in range(8):
        before = now
        refusals.wait(error, app, ["runpod.status"])
        pauses.append(now - before)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert caplog.text.count("'runpod.status'") == 1 and "RENAME" in caplog.text
    now += 61
    refusals.wait(error, app, ["runpod.status"])
    assert caplog.text.count("'runpod.status'") == 2, "after a while in order it is said again"


def test_a_worker_that_stops_does_not_wait_for_a_broker_that_refuses() -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("it slept")

    Refusals(lambda: True, sleep=sleep).wait(ResponseError("OOM"), Celery(set_as_current=False), [])
