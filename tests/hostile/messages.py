"""Messages of the wire, made by hand: as another language, an older version or an attacker puts them into a queue.

The shape is Celery's protocol 2 in kombu's Redis transport. Not here: what must come of them (``harm.py``).
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

from tests.servers import World

RUN = "runpod.run"
QUEUE = "runpod"


def deep(levels: int) -> str:
    """The text of a JSON list that is so many levels deep. As text, because Python's own writer gives up earlier."""
    return "[" * levels + "]" * levels


def envelope(body: str, *, task: str = RUN, task_id: str | None, headers: Mapping[str, Any] | None = None) -> str:
    """The message around a body, which is any text. Without a `task_id` the header is left out; `headers` go over the
    usual ones, and a value of None removes one."""
    usual: dict[str, Any] = {"lang": "js", "task": task, "id": task_id, "root_id": task_id, "retries": 0}
    merged = {**usual, **(headers or {})}
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {name: value for name, value in merged.items() if value is not None},
            "properties": {
                "correlation_id": task_id or str(uuid.uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def body(args: str = "[{}]", kwargs: str = '{"endpoint": "fast"}', embed: str = "{}") -> str:
    """A body from the texts of its three parts."""
    return f"[{args}, {kwargs}, {embed}]"


def send(world: World, text: str, **headers: Any) -> str:
    """Put a call with such a body into the queue; answers its task id."""
    task_id = str(uuid.uuid4())
    put(world.redis, envelope(text, task_id=task_id, headers=headers))
    return task_id


def put(redis: Any, message: str, queue: str = QUEUE) -> None:
    """Into the queue, as kombu does."""
    redis.lpush(queue, message)
