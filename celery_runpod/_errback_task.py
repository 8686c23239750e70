"""The task `runpod.errback`, which runs in the caller's own worker: calls an errback with Celery's documented arguments.

Importing `celery_runpod` registers it in every app but the RunPod worker's.

Not here: which errbacks it is published for (`celery_runpod/_publish/errbacks.py`).
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.canvas import maybe_signature

from celery_runpod._protocol import ERRBACK, RUN
from celery_runpod._publish.client_tasks import ClientSideTask, in_every_app
from celery_runpod.results import JobResult


class ErrbackTask(ClientSideTask):
    """`runpod.errback` in an app that calls endpoints."""

    abstract = True
    ignore_result = True


def call_errback(self: Any, *given: Any, task: str = RUN) -> None:
    """Call an errback, the last argument: with what Celery gives (request, error, traceback), or, from a RunPod worker,
    with what stands under the id of the `task` that has failed."""
    *before, errback = given
    if len(before) == 1:
        before = _arguments_of(self.app, str(before[0]), task)
    maybe_signature(errback, app=self.app)(*before)


def _arguments_of(app: Celery, task_id: str, task: str) -> list[Any]:
    """The request, the error and the traceback of a call, or of a chord's body, that has failed. The input is in no
    result."""
    result = JobResult(task_id, app=app)
    request = Context({"id": task_id, "task": task, "args": (), "kwargs": {}, "delivery_info": {}})
    return [request, result.error or result.result, result.traceback]


@in_every_app
def register(app: Celery) -> None:
    if ERRBACK not in app._tasks:
        app.task(name=ERRBACK, base=ErrbackTask, bind=True, shared=False, lazy=False)(call_errback)
