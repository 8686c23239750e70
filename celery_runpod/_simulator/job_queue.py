"""The jobs of one simulated endpoint: which wait, which run, which have a deadline next. Pure: the time is an argument.

A deleted job leaves its description alone, so that a simulator that runs for days does not grow. Not here: what a step
means for a job (``simulated_jobs.py``), nor who takes it (``simulated_endpoint.py``).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import Any

from celery_runpod._simulator.simulated_jobs import Job, State

MOST_GONE = 100_000
MOST_GONE_BYTES = 64_000_000
"""How many deleted jobs, and bytes of their inputs, stay in the listing of `/_simulator/jobs`."""
SPARE_DUE = 1000
"""Up to this number, outdated deadlines are not searched for."""


class JobQueue:
    """Each lookup and step takes constant or logarithmic time, so that tens of thousands of open jobs are cheap."""

    def __init__(self, retention_s: float | None = None) -> None:
        self.retention_s = retention_s
        self.jobs: dict[str, Job] = {}
        self.running: dict[str, Job] = {}
        self.completed = 0
        self.failed = 0
        self.retried = 0
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._waiting_low: OrderedDict[str, Job] = OrderedDict()
        self._due: list[tuple[float, str]] = []
        self._gone: deque[tuple[int, dict[str, Any]]] = deque()
        self._gone_bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._waiting_low)

    def add(self, job: Job) -> None:
        """Put a new job into the queue."""
        self.jobs[job.id] = job
        self.queued(job)

    def head(self) -> Job | None:
        """The job that would be taken next: low priority only when nothing else waits."""
        queue = self._waiting or self._waiting_low
        return next(iter(queue.values())) if queue else None

    def take(self, now: float, worker_id: str) -> Job | None:
        """Start the next job."""
        job = self.head()
        if job is not None:
            self._unqueue(job)
            job.start(now, worker_id)
            self.running[job.id] = job
            self.watch(job)
        return job

    def queued(self, job: Job) -> None:
        """Put a job into the queue: a new one, or one that had started."""
        self.running.pop(job.id, None)
        (self._waiting_low if job.low_priority else self._waiting)[job.id] = job
        self.watch(job)

    def again(self, job: Job) -> None:
        """`queued`, and count a retry."""
        self.retried += 1
        self.queued(job)

    def ended(self, job: Job) -> None:
        """The job has ended in one of the four ways."""
        self.running.pop(job.id, None)
        self._unqueue(job)
        if job.state is State.COMPLETED:
            self.completed += 1
        elif job.state in (State.FAILED, State.TIMED_OUT):
            self.failed += 1
        self.watch(job)

    def forget(self, job: Job, why: str) -> None:
        """RunPod no longer knows the job, or never did."""
        job.gone = why
        self.jobs.pop(job.id, None)
        self.running.pop(job.id, None)
        self._unqueue(job)
        self._gone.append((job.size, job.described()))
        self._gone_bytes += job.size
        while len(self._gone) > MOST_GONE or self._gone_bytes > MOST_GONE_BYTES:
            self._gone_bytes -= self._gone.popleft()[0]
        self._trim()

    def purge(self) -> list[Job]:
        """Forget every job that waits."""
        found = [*self._waiting.values(), *self._waiting_low.values()]
        for job in found:
            self.forget(job, "PURGED")
        return found

    def watch(self, job: Job) -> None:
        """Note a job's deadline: needed after each change of it."""
        heapq.heappush(self._due, (job.deadline(self.retention_s), job.id))
        self._trim()

    def due(self, now: float) -> list[Job]:
        """The jobs whose deadline has come; each is returned once for each deadline."""
        found = {}
        while self._due and self._due[0][0] <= now:
            job = self.jobs.get(heapq.heappop(self._due)[1])
            if job is not None and job.deadline(self.retention_s) <= now:
                found[job.id] = job
        return list(found.values())

    def listing(self) -> list[dict[str, Any]]:
        """Every job as `Job.described`, the deleted ones too, in the order of their submits."""
        found = [*(gone for _, gone in self._gone), *(job.described() for job in self.jobs.values())]
        return sorted(found, key=lambda job: float(job["submitted_at"]))

    def _trim(self) -> None:
        """Drop the deadlines of deleted jobs, and those that have changed, once they are the majority."""
        if len(self._due) > 2 * len(self.jobs) + SPARE_DUE:
            self._due = [(job.deadline(self.retention_s), job.id) for job in self.jobs.values()]
            heapq.heapify(self._due)

    def _unqueue(self, job: Job) -> None:
        (self._waiting_low if job.low_priority else self._waiting).pop(job.id, None)
