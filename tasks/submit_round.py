"""What the submits of one check share: what may forbid them, read once for all, and calls from the budget.

A check submits hundreds of jobs side by side. Asked for each of them, the same questions would cost several round trips a
job; they are asked again when the answers are older than `FRESH_S`, because a cancel or a pause by hand may come between.

Not here: the gate, which is asked for each attempt (``gate.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from celery_runpod._store.record import JobRecord
from celery_runpod._store.submits import Signs
from tasks.cancel import cancelled_by
from tasks.order_of_looks import known
from tasks.replicas import Replicas
from tasks.services import Services, once

FRESH_S = 0.5
CHUNK = 16
"""Calls that are taken from the budget at once. What is left of them at the end is lost: a hundredth of a second."""
SIDE_BY_SIDE = 32
"""POSTs of one check at once: so many lose their answers when RunPod's API or the worker fails. At 0.2 s a call they are
more than RunPod takes from an endpoint (docs/decisions/0023)."""


class SubmitRound:
    """The submits that one process makes to one endpoint in a row; used by all threads of a check. So many `calls` of
    /run were taken from the budget before."""

    def __init__(self, services: Services, endpoint: str, jobs: Sequence[JobRecord], calls: int = 0) -> None:
        self._services, self._endpoint, self._left = services, endpoint, len(jobs)
        self._ids = [any_id for job in jobs for ids in cancelled_by(job) for any_id in ids]
        self._lock = threading.Lock()
        self.side_by_side = threading.Semaphore(SIDE_BY_SIDE)
        self._signs: Signs | None = None
        self._read_at = 0.0
        self._calls = {"run": calls}
        self.before: dict[str, int] = {}
        """Task id of a job that was claimed -> how many jobs at RunPod are before it."""
        self.known = once(lambda: known(services, endpoint, services.clock(), self.before))
        """What is known of the endpoint's jobs; `before` grows with each that is claimed in this round."""
        self.replicas = Replicas(services, endpoint)

    def signs(self) -> Signs:
        """What may forbid a submit of these jobs, at most `FRESH_S` old."""
        with self._lock:
            now = self._services.clock()
            if self._signs is None or not 0 <= now - self._read_at <= FRESH_S:
                found = self._services.store.submits.signs(self._endpoint, self._ids)
                self._signs = replace(found, replicated=self.replicas.reached())
                self._read_at = now
            return self._signs

    def take(self, operation: str) -> bool:
        """Take one call of this operation from the endpoint's budget; False if there is none."""
        with self._lock:
            if not self._calls.get(operation):
                wanted = max(1, min(CHUNK, self._left))
                self._calls[operation] = self._services.budget.take(self._endpoint, operation, wanted)
            if not self._calls[operation]:
                return False
            self._calls[operation] -= 1
            self._left -= 1
            return True
