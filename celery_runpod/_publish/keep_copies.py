"""A copy of each `runpod.run` message, kept in the store from its publishing until a worker has accepted it.

kombu's Redis transport pops a message and only then writes down who has it: a worker killed in between loses it for
good. What is lost so is found, and published again, by the workers' self-healing thread
(`celery_app/watchdog/lost_calls.py`). RabbitMQ needs no copy: it keeps a message until it is acknowledged.

A copy is written after the publish, so a call whose publish failed never runs. Between the two this thread remembers
the message; ``caller_task.py`` asks it whether a failed call had reached the broker.

Called by ``routes.py`` for every process that imports `celery_runpod`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from celery_runpod._connect import broker_of, is_redis
from celery_runpod._store.reader import reader_for

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Messages noted at most. One that was published outside the client task (a bare `send_task`) is never removed."""


@dataclass(frozen=True)
class Publishing:
    """A message on its way to the broker: what the signal after the publish does not repeat."""

    app: Celery
    properties: Mapping[str, Any]


class _OfThisThread(threading.local):
    def __init__(self) -> None:
        self.publishing: dict[str, Publishing] = {}


_this_thread = _OfThisThread()


def begin(app: Celery, task_id: str, properties: Mapping[str, Any]) -> None:
    """The message of this task is handed to the broker next. A receiver of the same signal may publish other calls
    meanwhile, so each has its own entry."""
    publishing = _this_thread.publishing
    publishing[task_id] = Publishing(app, properties)
    while len(publishing) > MOST_AT_ONCE:
        del publishing[next(iter(publishing))]


def begun(task_id: str) -> Publishing | None:
    """The message of this task, if this thread has begun to publish it."""
    return _this_thread.publishing.get(task_id)


def forget(task_id: str) -> bool:
    """Whether this thread has begun to publish the message of this task; asked once."""
    return _this_thread.publishing.pop(task_id, None) is not None


def keep(
    publishing: Publishing, headers: Mapping[str, Any], body: Any, exchange: str, routing_key: str, issued_at: float
) -> None:
    """Keep a copy of a message that was published. Where it cannot be kept, Celery's own guarantees hold for it."""
    if not is_redis(broker_of(publishing.app)):
        return
    task_id, properties = str(headers["id"]), publishing.properties
    try:
        place = {"exchange": exchange, "routing_key": routing_key, "priority": properties.get("priority")}
        text = dumps({"body": body, "headers": headers, "properties": properties})
        reader_for(publishing.app).keep_message(task_id, issued_at, json.dumps(place), str(text))
    except (RedisError, OSError, EncodeError, TypeError, ValueError) as error:
        log.warning("no copy of task %s is kept until a worker has it: %s", task_id, error)
