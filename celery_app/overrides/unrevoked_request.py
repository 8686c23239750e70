"""The Request class of the tasks that run under the caller's task id.

It ignores three things that Celery's own Request does with a message:

- Revoked ids. Celery keeps a list in each worker's memory and discards the task before it runs: chain, chord and errbacks
  would never end, and a worker without the id would run it. Here the store decides a cancel, once for all workers.
- A time limit of the caller. It is meant for a task that works. Celery would kill the process during a slow answer, and
  write FAILURE under the caller's id while the GPU job runs on.
- An ETA and `expires`. They are kept in the store (`tasks/run.py`): Redis would deliver a message that waits in a
  worker's memory again, and on RabbitMQ it would keep the worker from fetching others.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.exceptions import Reject
from celery.worker.request import Request

from celery_runpod._protocol import FINISH

log = logging.getLogger(__name__)

_ENDS = ("task-succeeded", "task-failed")


class UnrevokedRequest(Request):
    """A request that ignores revoked ids, time limits and ETAs."""

    def revoked(self) -> bool:
        return False

    def send_event(self, type: str, **fields: Any) -> None:
        """A job's events are those of one task: received by `run`, shown while it is open, and ended by `finish`, which
        sends its end itself: only there the job's own times are known."""
        unwanted = type == "task-started" or (type in _ENDS and self.task.name == FINISH)
        if not unwanted and self._eventer and self._eventer.enabled:
            self._eventer.send(type, uuid=self.id, **fields)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        try:
            super().on_failure(exc_info, send_failed_event, return_ok)
        except Reject as error:
            # The backend refused this error (`tasks/put_back.py`); the store has the outcome and delivers it again.
            log.error("task.not_failed", extra={"task_id": self.id, "error": str(error.reason)})

    @property
    def eta(self) -> None:
        return None

    @property
    def time_limits(self) -> tuple[None, None]:
        return (None, None)

    @time_limits.setter
    def time_limits(self, given: Any) -> None:
        """Ignores what Celery sets from the message."""
