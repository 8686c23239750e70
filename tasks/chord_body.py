"""The body of a chord, where the delivery of the last member is repeated: was it sent, and is it given up?

Celery sends the body first and clears the chord afterwards. A delivery that is killed in between would send it again.

Not here: joining the chord, which Celery does (`celery_app/overrides/chord_keeping.py`).
"""

from __future__ import annotations

import logging
from typing import Any

from celery import maybe_signature

from celery_runpod.errors import JobUndeliverable

log = logging.getLogger(__name__)


def body_has_run(task: Any) -> bool:
    """Whether the result backend knows the body as a task that this member has sent: a worker that runs a task stores its
    parent, and nobody else does. A body that still waits has no state yet; one that is a group or chain never has."""
    body_id = (task.request.chord.get("options") or {}).get("task_id")
    raw = body_id and task.backend.get(task.backend.get_key_for_task(body_id))
    # Not `get_task_meta`: that builds the body's exception, which may be of no class that is known here.
    if not raw or task.backend.decode(raw).get("parent_id") != task.request.id:
        return False
    log.warning("chord.sent_before", extra={"task_id": task.request.id, "body": body_id})
    return True


def end_chord(task: Any, error: JobUndeliverable) -> None:
    """End the body of a chord if joining it fails, or kills the process, each time."""
    backend, size = task.backend, task.backend.get_key_for_group(task.request.group, ".s")
    if backend.get(size) is None:
        return  # its body was published, or has failed
    log.error("chord.undeliverable", extra={"task_id": task.request.id, "group": task.request.group})
    try:
        raise error
    except JobUndeliverable:
        # Celery reads the traceback of the error that is being handled.
        backend.chord_error_from_stack(maybe_signature(task.request.chord, app=task.app), error)
    # A member that ends later finds no chord.
    backend.delete(size)
