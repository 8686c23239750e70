"""Puts a message back into its queue when its task raises anything but a verdict.

`run` and `finish` work under the caller's task id. Any other exception, for example because the store is away, would
write FAILURE, fail the chord and call the errbacks while the GPU job runs on. `nothing_but_verdicts` handles what the
task's own code raises; the backend of `CallersTask` handles what Celery raises while it publishes what follows and stores
the result.

A verdict is a `RunPodError`: how the job ended, or why the call is refused.
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
"""A message that is put back is delivered again at once. The pause keeps the load off a store that is away."""
MOST_TRIES = 10
"""How often an unexpected error is retried before the task ends."""
WAITED_FOR = (RedisError, OSError, *NOT_PUBLISHED)
"""Errors of a server that is away: retried without a bound."""


def nothing_but_verdicts(body: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `RunPodError`, `Ignore` and `Reject` of a task through; put the message of anything else back into its queue.

    The task waits for a server that is away. Any other error that comes each time ends it with `JobUndeliverable`."""

    @functools.wraps(body)
    def guarded(task: Any, /, *args: Any, **kwargs: Any) -> Any:
        answer, error = _answer_or_error(body, task, *args, **kwargs)
        if error is None:
            return answer
        tries, reason = count_tries(task.app, task.request.id, error)
        if tries > 2 * MOST_TRIES:
            # Its links or its chord may be what fails.
            task.request.update(errbacks=None, callbacks=None, chain=None, chord=None)
        if tries > MOST_TRIES:
            raise given_up(task.request.id, tries, reason)
        put_back(task.app, reason)

    return guarded


def _answer_or_error(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Exception | None]:
    """What the call returns, and the error that it raised.

    Raises:
        RunPodError, Ignore, Reject: as the call raised them.
    """
    try:
        return call(*args, **kwargs), None
    except (RunPodError, Ignore, Reject):
        raise
    except Exception as error:
        return None, error


def put_back(app: Any, reason: str) -> NoReturn:
    """Raise Reject after a pause: the running task's message goes back to its queue."""
    services_of(app).sleep(REQUEUE_PAUSE_S)
    raise Reject(reason, requeue=True)


def count_tries(app: Any, task_id: str, error: BaseException) -> tuple[int, str]:
    """Log the error. Returns how often this task met an unexpected one (0: a server is away), and its text."""
    reason = f"{type(error).__name__}: {error}"
    log.error("task.requeued", exc_info=error, extra={"task_id": task_id, "error": reason})
    if isinstance(error, WAITED_FOR):
        return 0, reason
    try:
        return services_of(app).store.count_trouble(task_id), reason
    except RedisError:
        return 0, reason
    except Exception:
        # The id itself cannot be written, so no retry can help.
        log.exception("task.not_counted")
        return MOST_TRIES + 1, reason


def given_up(task_id: str, tries: int, reason: str) -> JobUndeliverable:
    """The verdict on a task that meets an unexpected error each time."""
    problem = f"the task failed {tries} times with an unexpected error, the last time with {reason[:300]}"
    return JobUndeliverable(problem, None, task_id)


class VerdictsOnly:
    """A result backend that ends the running task with a verdict, or puts its message back.

    Celery treats its own errors, while it publishes the chain's next task or stores the result, as errors of the task."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_done(self, *args: Any, **kwargs: Any) -> None:
        self._or_put_back(self._backend.mark_as_done, *args, **kwargs)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        if not isinstance(exc, RunPodError | TaskRevokedError):
            tries, reason = count_tries(self._backend.app, task_id, exc)
            if tries <= MOST_TRIES:
                put_back(self._backend.app, reason)
            exc = given_up(task_id, tries, reason)
        self._or_put_back(self._backend.mark_as_failure, task_id, exc, *args, **kwargs)

    def _or_put_back(self, call: Callable[..., None], task_id: str, *args: Any, **kwargs: Any) -> None:
        _, error = _answer_or_error(call, task_id, *args, **kwargs)
        if error is None:
            return
        tries, reason = count_tries(self._backend.app, task_id, error)
        if tries > 3 * MOST_TRIES:
            log.critical("task.dropped: its end cannot be stored", extra={"task_id": task_id, "error": reason})
            raise Reject(reason, requeue=False)
        put_back(self._backend.app, reason)


class CallersTask(Task):
    """A task that runs under its caller's id."""

    abstract = True

    @property
    def backend(self) -> Any:
        return VerdictsOnly(super().backend)
