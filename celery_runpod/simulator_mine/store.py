"""The jobs of one endpoint: who waits, who runs, who is due. Pure: the time is an argument.

Not here: what a step means for a job (``jobs.py``), nor who carries it out (``endpoint.py``).

Next: ``endpoint.py``.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from itertools import count

from celery_runpod.simulator_mine.jobs import Job, State

MOST_GONE = 100_000
"""So many deleted jobs stay in the listing of `/_simulator/jobs`."""


class Store:
    """Every lookup and step in constant or logarithmic time, so that tens of thousands of open jobs are cheap."""

    def __init__(self, retention_s: float | None = None) -> None:
        self.retention_s = retention_s
        self.jobs: dict[str, Job] = {}
        self.running: dict[str, Job] = {}
        self.gone: deque[Job] = deque(maxlen=MOST_GONE)
        self.completed = 0
        self.failed = 0
        self.retried = 0
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._waiting_low: OrderedDict[str, Job] = OrderedDict()
        self._due: list[tuple[float, int, Job]] = []
        self._number = count()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._waiting_low)

    def add(self, job: Job) -> None:
        """A new job waits."""
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
        """The job waits: new, or again."""
        self.running.pop(job.id, None)
        (self._waiting_low if job.low_priority else self._waiting)[job.id] = job
        self.watch(job)

    def again(self, job: Job) -> None:
        """As `queued`, for a job that had its turn."""
        self.retried += 1
        self.queued(job)

    def ended(self, job: Job) -> None:
        """The job has ended, in whatever way."""
        self.running.pop(job.id, None)
        self._unqueue(job)
        if job.state is State.COMPLETED:
            self.completed += 1
        elif job.state in (State.FAILED, State.TIMED_OUT):
            self.failed += 1
        self.watch(job)

    def forget(self, job: Job, why: str) -> None:
        """RunPod no longer knows the job."""
        self.running.pop(job.id, None)
        self._unqueue(job)
        if self.jobs.pop(job.id, None) is not None:
            job.gone = why
            self.gone.append(job)

    def purge(self) -> list[Job]:
        """Forget every job that waits."""
        found = [*self._waiting.values(), *self._waiting_low.values()]
        for job in found:
            self.forget(job, "PURGED")
        return found

    def watch(self, job: Job) -> None:
        """Have the job looked at when its deadline comes; again after each change of it."""
        heapq.heappush(self._due, (job.deadline(self.retention_s), next(self._number), job))

    def due(self, now: float) -> list[Job]:
        """The jobs whose deadline has come. Each is handed out once for each deadline."""
        found = []
        while self._due and self._due[0][0] <= now:
            job = heapq.heappop(self._due)[2]
            if job.gone is None and job.deadline(self.retention_s) <= now:
                found.append(job)
        return found

    def listing(self) -> list[Job]:
        """Every job, the deleted ones too, by the time of submit."""
        return sorted([*self.gone, *self.jobs.values()], key=lambda job: job.submitted_at)

    def _unqueue(self, job: Job) -> None:
        (self._waiting_low if job.low_priority else self._waiting).pop(job.id, None)
