"""Nothing but a typed verdict may end the caller's task.

`run` and `finish` work under the caller's task id: an exception of another kind (the store away, the backend away)
would write FAILURE, fail the chord and call the errbacks while the GPU job runs on. So the message goes back to its
queue: `nothing_but_verdicts` sees to what the task's own code raises, the backend of `CallersTask` to what Celery raises
while it sends what follows and stores the result.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject, TaskRevokedError
from redis.exceptions import RedisError

from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod.errors import JobUndeliverable, RunPodError
from tasks.services import services_of

log = logging.getLogger(__name__)

REQUEUE_PAUSE_S = 1.0
"""A message that goes back comes again at once; without a pause a store that is away would be hammered."""
MOST_TRIES = 10
"""So often an error of an unknown kind is taken for one that passes."""
WAITED_FOR = (RedisError, OSError, *NOT_PUBLISHED)


def nothing_but_verdicts(body: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `RunPodError`, `Ignore` and `Reject` of a task through; put the message of anything else back into its queue.

    A server that is away is waited for. Any other error that comes each time ends the task with `JobUndeliverable`."""

    @functools.wraps(body)
    def guarded(task: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return body(task, *args, **kwargs)
        except (RunPodError, Ignore, Reject):
            raise
        except Exception as error:
            log.exception("task.requeued")
            reason, away = f"{type(error).__name__}: {error}", isinstance(error, WAITED_FOR)
        tries = 0 if away else count_tries(task.app, task.request.id)
        if tries > 2 * MOST_TRIES:
            # Its links or its chord may be what fails.
            task.request.update(errbacks=None, callbacks=None, chain=None, chord=None)
        if tries > MOST_TRIES:
            raise given_up(task.request.id, tries, reason)
        put_back(task.app, reason)

    return guarded


def put_back(app: Any, reason: str) -> NoReturn:
    """Raises Reject, after a pause: the running task's message goes back to its queue."""
    services_of(app).sleep(REQUEUE_PAUSE_S)
    raise Reject(reason, requeue=True)


def count_tries(app: Any, task_id: str) -> int:
    """How often this task met an error of an unknown kind; 0 where the store is away."""
    try:
        return services_of(app).store.count_trouble(task_id)
    except RedisError:
        return 0
    except Exception:
        # Not even its id can be written: nothing about it will pass.
        log.exception("task.not_counted")
        return MOST_TRIES + 1


def given_up(task_id: str, tries: int, reason: str) -> JobUndeliverable:
    problem = f"the task failed {tries} times with an unexpected error, the last time with {reason[:300]}"
    return JobUndeliverable(problem, None, task_id)


class VerdictsOnly:
    """A result backend that ends the running task with a verdict, or puts its message back.

    Celery takes an error of its own, while it publishes the chain's next task or stores the result, for the task's."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_done(self, *args: Any, **kwargs: Any) -> None:
        self._or_put_back(self._backend.mark_as_done, *args, **kwargs)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        if not isinstance(exc, RunPodError | TaskRevokedError):
            reason = f"{type(exc).__name__}: {exc}"
            log.error("task.requeued", extra={"task_id": task_id, "error": reason})
            tries = 0 if isinstance(exc, WAITED_FOR) else count_tries(self._backend.app, task_id)
            if tries <= MOST_TRIES:
                put_back(self._backend.app, reason)
            exc = given_up(task_id, tries, reason)
        self._or_put_back(self._backend.mark_as_failure, task_id, exc, *args, **kwargs)

    def _or_put_back(self, call: Callable[..., None], task_id: str, *args: Any, **kwargs: Any) -> None:
        try:
            return call(task_id, *args, **kwargs)
        except (RunPodError, Ignore, Reject):
            raise
        except Exception as error:
            log.exception("task.requeued")
            reason, away = f"{type(error).__name__}: {error}", isinstance(error, WAITED_FOR)
        if not away and count_tries(self._backend.app, task_id) > 3 * MOST_TRIES:
            log.critical("task.dropped: its end cannot be stored", extra={"task_id": task_id, "error": reason})
            raise Reject(reason, requeue=False)
        put_back(self._backend.app, reason)


class CallersTask(Task):
    """A task that runs under its caller's id."""

    abstract = True

    @property
    def backend(self) -> Any:
        return VerdictsOnly(super().backend)
