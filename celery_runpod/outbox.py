"""A copy of each `runpod.run` message, kept in the store from before it is published until a worker has accepted it.

kombu's Redis transport pops a message and only then writes down who has it: a worker killed in between loses it for
good. What is lost so is found, and published again, by the workers' self-healing thread (`celery_app/outbox.py`).
RabbitMQ needs no copy: it keeps a message until it is acknowledged.

Called by ``routing.py`` for every process that imports `celery_runpod`.

Next: ``records.py``, where the copies lie.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from celery_runpod.rabbitmq import broker_of
from celery_runpod.results import reader_for

log = logging.getLogger(__name__)

REDIS = ("redis://", "rediss://", "unix://", "redis+socket://", "sentinel://")

_published = threading.local()


def keep(
    app: Celery,
    headers: Mapping[str, Any],
    body: Any,
    properties: Mapping[str, Any] | None,
    exchange: str,
    routing_key: str,
    issued_at: float,
) -> None:
    """Keep a copy of a message that is about to be published. Where it cannot be kept the message is published all the
    same, with Celery's own guarantees."""
    _published.task_id = None
    if not broker_of(app).startswith(REDIS):
        return
    task_id = str(headers["id"])
    try:
        properties = properties or {}
        place = {"exchange": exchange, "routing_key": routing_key, "priority": properties.get("priority")}
        text = dumps({"body": body, "headers": headers, "properties": properties})
        reader_for(app).keep_message(task_id, issued_at, json.dumps(place), str(text))
    except (RedisError, OSError, EncodeError, TypeError, ValueError) as error:
        log.warning("no copy of task %s is kept until a worker has it: %s", task_id, error)
        return
    _published.task_id = task_id


def has_kept(task_id: str) -> bool:
    """Whether this thread kept a copy of this task's message, which it published last. It will run, then, also if
    publishing it failed."""
    return bool(getattr(_published, "task_id", None) == task_id)
