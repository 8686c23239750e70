"""The outbox: a copy of each `runpod.run` message, in the store from its publish until a worker has accepted it.

kombu's Redis transport pops a message and records its holder afterwards: a worker killed in between loses the message.
The workers' watchdog finds such calls and publishes their copies (`celery_app/watchdog/lost_calls.py`). RabbitMQ needs no
copies: it keeps a message until it is acknowledged.

The copy is written after the publish, so a call whose publish failed never runs. In between, a thread-local entry holds
the message; ``caller_task.py`` reads from it whether a failed call had reached the broker.

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
from celery_runpod._store.store import store_of

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""The most entries of a thread. The entry of a bare `send_task`, outside the client task, is never removed."""


@dataclass(frozen=True)
class Publishing:
    """A message that is being published: what Celery's signal after the publish does not hold."""

    app: Celery
    properties: Mapping[str, Any]


class _OfThisThread(threading.local):
    def __init__(self) -> None:
        self.publishing: dict[str, Publishing] = {}


_this_thread = _OfThisThread()


def begin(app: Celery, task_id: str, properties: Mapping[str, Any]) -> None:
    """Record that this task's message is published next. Each message has its own entry, because a receiver of the same
    signal may publish other calls meanwhile."""
    publishing = _this_thread.publishing
    publishing[task_id] = Publishing(app, properties)
    while len(publishing) > MOST_AT_ONCE:
        del publishing[next(iter(publishing))]


def begun(task_id: str) -> Publishing | None:
    """The message of this task, if this thread has begun to publish it."""
    return _this_thread.publishing.get(task_id)


def forget(task_id: str) -> bool:
    """Remove the entry of this task. Returns whether this thread had begun to publish its message."""
    return _this_thread.publishing.pop(task_id, None) is not None


def keep(
    publishing: Publishing, headers: Mapping[str, Any], body: Any, exchange: str, routing_key: str, issued_at: float
) -> None:
    """Store a copy of a published message. If that fails, the call has Celery's own guarantees alone."""
    if not is_redis(broker_of(publishing.app)):
        return
    task_id, properties = str(headers["id"]), publishing.properties
    try:
        place = {"exchange": exchange, "routing_key": routing_key, "priority": properties.get("priority")}
        text = dumps({"body": body, "headers": headers, "properties": properties})
        store_of(publishing.app).outbox.keep_message(task_id, issued_at, json.dumps(place), str(text))
    except (RedisError, OSError, EncodeError, TypeError, ValueError) as error:
        log.warning("no copy of the call %s could be stored: %s", task_id, error)
