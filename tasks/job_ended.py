"""Publishes the end of a call to the caller's own worker, where that asked for it.

It is published after the result is stored and before the tombstone is written. A process that dies in between repeats it
with its `finish`: the message comes at least once.

Not here: its form, and who asks for it (`celery_runpod/_publish/job_ends.py`).
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery, states
from kombu.utils.json import loads

from celery_runpod._protocol import ENDED_QUEUE
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._publish.job_ends import End, publish_end, publish_ends_after, queue_asked
from celery_runpod._publish.routes import never_begin
from celery_runpod._store.record import JobRecord
from celery_runpod.errors import JobError, RunPodError
from tasks.put_back import CallersTask

log = logging.getLogger(__name__)


def end_of(state: str, found: Any) -> End:
    """How the caller's task has ended, by its state and what is stored with it."""
    if state == states.SUCCESS:
        return End(state, result=found)
    return End(state, error=found if isinstance(found, RunPodError) else JobError(f"{type(found).__name__}: {found}"))


class TellsItsFailure(CallersTask):
    """`runpod.run`: it fails without a record if it meets an unexpected error each time."""

    abstract = True

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        tell_by_request(self.app, self.request, end_of(states.FAILURE, exc))


def tell_by_request(app: Celery, request: Any, end: End) -> None:
    """As `tell_own_worker`, for a call that ended with an error before it had a record. It is not repeated."""
    queue = request.get(ENDED_QUEUE) or (request.headers or {}).get(ENDED_QUEUE)
    options = {"headers": {ENDED_QUEUE: queue}, "link": request.callbacks, "chain": request.chain}
    _publish(app, {"options": {**options, "chord": request.chord}}, request.id, None, end)


def tell_own_worker(app: Celery, job: JobRecord, end: End) -> bool:
    """Publish how a call has ended, and with an error also the ends of the calls behind it, which never begin. False: it
    could not be published."""
    if ENDED_QUEUE not in job.continuation:
        return True  # nobody asked; not parsed, because it may be long
    return _publish(app, job.continuation, job.task_id, job.name, end)


def _publish(app: Celery, continuation: Any, task_id: str, name: str | None, end: End) -> bool:
    try:
        signature = loads(continuation) if isinstance(continuation, str) else continuation
        if queue := queue_asked(signature):
            publish_end(app, queue, task_id, name, end)
        if end.error is not None:
            publish_ends_after(app, never_begin(signature), end.error, end.state)
    except NOT_PUBLISHED as error:
        log.warning("job_ended.not_published", extra={"task_id": task_id, "error": str(error)})
        return False
    except Exception:
        # It keeps no task from its end: see MOST_CLAIMS.
        log.exception("job_ended.not_published", extra={"task_id": task_id})
        return False
    return True
