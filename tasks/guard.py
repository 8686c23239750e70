"""Nothing but a typed verdict may end the caller's task.

`run` and `finish` work under the caller's task id: an exception of another kind (the store away, the backend away)
would write FAILURE, fail the chord and call the errbacks while the GPU job runs on. So the message goes back to its
queue: `nothing_but_verdicts` sees to what the task's own code raises, the backend of `CallersTask` to what Celery raises
while it sends what follows and stores the result.

Next: ``services.py``.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, TaskRevokedError

from celery_runpod.errors import RunPodError

log = logging.getLogger(__name__)

REQUEUE_PAUSE_S = 1.0
"""A message that goes back comes again at once; without a pause a store that is away would be hammered."""


def nothing_but_verdicts(body: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `RunPodError`, `Ignore` and `Reject` through; put the message of anything else back into its queue."""

    @functools.wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except (RunPodError, Ignore, Reject):
            raise
        except Exception as error:
            log.exception("task.requeued")
            reason = f"{type(error).__name__}: {error}"
        time.sleep(REQUEUE_PAUSE_S)
        raise Reject(reason, requeue=True)

    return guarded


class VerdictsOnly:
    """A result backend that ends the running task with a verdict, or puts its message back.

    Celery takes an error of its own, while it publishes the chain's next task or stores the result, for the task's."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_done(self, *args: Any, **kwargs: Any) -> None:
        nothing_but_verdicts(self._backend.mark_as_done)(*args, **kwargs)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        if not isinstance(exc, RunPodError | TaskRevokedError):
            log.error("task.requeued", extra={"task_id": task_id, "error": f"{type(exc).__name__}: {exc}"})
            raise Reject(f"{type(exc).__name__}: {exc}", requeue=True)
        nothing_but_verdicts(self._backend.mark_as_failure)(task_id, exc, *args, **kwargs)


class CallersTask(Task):
    """A task that runs under its caller's id."""

    abstract = True

    @property
    def backend(self) -> Any:
        return VerdictsOnly(super().backend)
