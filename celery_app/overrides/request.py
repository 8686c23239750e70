"""The Request class of the tasks that run under the caller's task id.

Celery's own looks into a list of revoked ids that each worker keeps in memory, and discards the task before our code
runs: the chain, the chord and the errbacks would never end, and a worker without the id would run it after all. Our
tasks ask the store instead, where a cancel is decided once for everyone. Expiry is judged when the job is submitted.

A time limit that the caller gave is meant for a task that works, not for one that submits and leaves: Celery would kill
the process over a slow answer, and write FAILURE under the caller's id while the GPU job runs on.

An ETA is kept in the store (`tasks/run.py`): a message that waits in a worker's memory would be handed out again by Redis
and, on RabbitMQ, keep the worker from taking others.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.exceptions import Reject
from celery.worker.request import Request

log = logging.getLogger(__name__)


class UnrevokedRequest(Request):
    """A request that no list in memory can discard, and no time limit of the caller's can end."""

    def revoked(self) -> bool:
        return False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        try:
            super().on_failure(exc_info, send_failed_event, return_ok)
        except Reject as error:
            # The backend took no verdict from here (`tasks/put_back.py`): the store has what is to be delivered
            # again.
            log.error("task.not_failed", extra={"task_id": self.id, "error": str(error.reason)})

    @property
    def eta(self) -> None:
        return None

    @property
    def time_limits(self) -> tuple[None, None]:
        return (None, None)

    @time_limits.setter
    def time_limits(self, given: Any) -> None:
        """Celery sets what the message says."""
