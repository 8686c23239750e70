"""The workers of a synthetic endpoint: no process, only time. For tests and benchmarks.

Next: ``workers.py``, where real handlers run.
"""

from __future__ import annotations

import json
import random

from celery_runpod.simulator_mine.endpoint import Endpoint
from celery_runpod.simulator_mine.jobs import FINAL, Job
from celery_runpod.simulator_mine.specs import Synthetic


class SyntheticWorkers:
    """Takes a job `delay` s after it came, works for `duration` s."""

    def __init__(self, endpoint: Endpoint, kind: Synthetic) -> None:
        self._endpoint = endpoint
        self._kind = kind
        self._busy = 0
        self._random = random.Random(endpoint.name)

    def submitted(self, job: Job, now: float) -> None:
        if self._kind.delay:
            self._endpoint.at(now + self._kind.delay, self._take)
        else:
            self._take()

    def stopped(self, job: Job) -> None:
        self._free()

    def health(self) -> dict[str, int]:
        idle = max(0, self._kind.workers - self._busy)
        found = {"idle": idle, "initializing": 0, "ready": idle + self._busy, "running": self._busy}
        return {**found, "throttled": 0, "unhealthy": 0}

    async def close(self) -> None:
        self._busy = 0

    def _take(self) -> None:
        kind, now = self._kind, self._endpoint.clock()
        while self._endpoint.queue and not (kind.workers and self._busy >= kind.workers):
            if kind.delay and now < self._endpoint.queue[0].submitted_at + kind.delay:
                return
            job = self._endpoint.take(now, f"synthetic-{self._busy}")
            if job is None:
                return
            self._busy += 1
            takes_s = max(0.0, kind.duration + kind.jitter * (2 * self._random.random() - 1))
            attempt = job.attempts
            self._endpoint.at(now + takes_s, lambda job=job, attempt=attempt: self._end(job, attempt))  # type: ignore[misc]

    def _end(self, job: Job, attempt: int) -> None:
        # Cancelled, timed out, or put back meanwhile: its place was freed then.
        if job.status in FINAL or job.attempts != attempt or job.status != "IN_PROGRESS":
            return
        if self._endpoint.jobs.get(job.id) is not job:
            self._free()
            return
        now = self._endpoint.clock()
        if self._random.random() < self._kind.failures:
            told = {"error_type": "<class 'RuntimeError'>", "error_message": "synthetic failure", "error_traceback": ""}
            job.fail(json.dumps(told), now)
        else:
            job.complete("x" * self._kind.output_bytes if self._kind.output_bytes else job.input, now)
        self._endpoint.ended(job)
        self._free()

    def crash(self, job: Job) -> None:
        """The worker dies while it works on this job."""
        if job.crashed(self._endpoint.clock()):
            self._endpoint.enqueue(job, self._endpoint.clock())
        else:
            self._endpoint.ended(job)
        self._free()

    def _free(self) -> None:
        self._busy = max(0, self._busy - 1)
        self._take()
