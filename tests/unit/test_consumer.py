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

from celery_app.consumer import LossTolerantConsumer


class Refusing:
    """A channel whose broker takes no acknowledgement."""

    no_ack_consumers = None

    def basic_ack(self, tag: str, **kwargs: Any) -> None:
        raise RedisConnectionError("cut")

    def basic_reject(self, tag: str, **kwargs: Any) -> None:
        raise RedisConnectionError("cut")


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
