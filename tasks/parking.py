"""[4 of 8] Parking: how a task leaves its worker slot and still ends under its own id.

A parked task is a Celery retry that is sent later. `finish.signature_from_request(...)`, which Celery's own
`Task.retry()` uses, holds task id, root, group, chord, chain, links, priority, headers, stamps and `ignore_result`. It
is kept as text in the record; sent when the job has ended, it resumes the canvas where it stood.

`Task.replace()` is not used: it loses priority, headers, stamps and `ignore_result`.

Next: ``submit.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from celery import Celery, Task
from celery.app.task import Context
from celery.canvas import Signature
from celery.signals import before_task_publish
from kombu.utils.json import dumps, loads

from celery_runpod._protocol import FINISH, HIDDEN
from celery_runpod._publish.routes import link_signatures, signatures_after


def park(finish: Task, request: Context, *, queue: str, shadow: str) -> str:
    """The continuation of the running task, as text. Nothing is sent."""
    signature = finish.signature_from_request(
        request,
        args=(),
        kwargs={},
        queue=queue,
        shadow=shadow,
        serializer="json",
        argsrepr=HIDDEN,
        kwargsrepr=HIDDEN,
        retries=0,
        # The caller's `expires` is judged when the job is submitted; a time limit would end the caller's task.
        expires=None,
        time_limit=None,
        soft_time_limit=None,
        # Celery replaces None by the task that publishes the continuation; see `no_parent_of_its_own`.
        parent_id=request.parent_id or request.id,
        root_id=request.root_id or request.id,
    )
    for link in link_signatures(signature):
        # A repeat of finish sends its links again; the same id shows that they are the same.
        link.setdefault("options", {}).setdefault("task_id", str(uuid.uuid4()))
    return str(dumps(dict(signature)))


def unpark(app: Celery, continuation: str, endpoint: str, task_id: str, attempt: int) -> None:
    """Send the continuation: `finish` runs under the caller's task id and reads the outcome from the store.

    Raises:
        kombu.exceptions.OperationalError: the broker is away; the outcome stays undelivered and is published again.
    """
    signature = Signature.from_dict(loads(continuation), app=app)
    # The publishing task must not appear as this one's parent in the result tree.
    signature.set(add_to_parent=False)
    signature.clone(args=(endpoint, task_id, attempt)).apply_async()


@before_task_publish.connect(sender=FINISH)
def no_parent_of_its_own(headers: dict[str, Any], **_: Any) -> None:
    """Give a first task no parent in the tree that Flower shows."""
    if headers["parent_id"] == headers["id"]:
        headers["parent_id"] = None


def ids_after(continuation: str) -> Iterator[tuple[str, str]]:
    """("task" | "group", id) of everything that follows the parked task."""
    data: Any = loads(continuation)
    for signature in signatures_after(data):
        options = signature.get("options", {})
        if options.get("task_id"):
            yield "task", options["task_id"]
        if options.get("group_id"):
            yield "group", options["group_id"]
    if data["options"].get("group_id"):
        yield "group", data["options"]["group_id"]
