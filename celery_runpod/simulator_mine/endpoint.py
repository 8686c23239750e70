"""One endpoint: its jobs, its queue, and who is told when a job ends.

Time passes by one heap of deadlines for each endpoint (ttl, execution timeout, retention, the steps of a synthetic
job), so that ten thousand open jobs cost one timer.

Next: ``synthetic.py`` and ``workers.py``, which work on the jobs.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from celery_runpod.simulator_mine.jobs import FINAL, Job


class Workforce(Protocol):
    """Who works on the jobs of an endpoint."""

    def submitted(self, job: Job, now: float) -> None: ...
    def stopped(self, job: Job) -> None:
        """The job was cancelled or timed out while it was being worked on."""

    def health(self) -> dict[str, int]: ...
    async def close(self) -> None: ...


class Endpoint:
    """Jobs by id; a queue of those that nobody works on yet."""

    def __init__(self, name: str, clock: Callable[[], float], retention_s: float | None = None) -> None:
        self.name = name
        self.clock = clock
        self.retention_s = retention_s
        self.jobs: dict[str, Job] = {}
        self.queue: deque[Job] = deque()
        self.workforce: Workforce
        self.on_end: list[Callable[[Job], None]] = []
        self.on_start: list[Callable[[Job], None]] = []
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # A job's way

    def submit(self, input: Any, now: float, *, sync: bool = False, job_id: str | None = None, **given: Any) -> Job:
        made = f"{'sync-' if sync else ''}{uuid.uuid4()}-{'e1' if sync else 'u1'}"
        job = Job(id=job_id or made, endpoint=self.name, input=input, submitted_at=now, sync=sync, **given)
        self.jobs[job.id] = job
        self.watch(job)
        self.enqueue(job, now)
        return job

    def enqueue(self, job: Job, now: float) -> None:
        if job.low_priority:
            self.queue.append(job)
        else:
            behind = next((i for i, other in enumerate(self.queue) if other.low_priority), None) if self.queue else None
            if behind is None:
                self.queue.append(job)
            else:
                self.queue.insert(behind, job)
        self.workforce.submitted(job, now)

    def take(self, now: float, worker_id: str) -> Job | None:
        """The next job for a worker."""
        while self.queue:
            job = self.queue.popleft()
            if job.status == "IN_QUEUE" and self.jobs.get(job.id) is job:
                self.start(job, now, worker_id)
                return job
        return None

    def start(self, job: Job, now: float, worker_id: str) -> None:
        job.start(now, worker_id)
        self.watch(job)
        self.news(job)
        for told in self.on_start:
            told(job)

    def ended(self, job: Job) -> None:
        """Call after a job's end was set."""
        self.watch(job)
        self.news(job)
        for told in self.on_end:
            told(job)

    def cancel(self, job: Job, now: float) -> None:
        running = job.status == "IN_PROGRESS"
        if job.end("CANCELLED", now):
            if running:
                self.workforce.stopped(job)
            self.ended(job)

    def purge(self, now: float) -> int:
        """Remove what is queued; RunPod forgets such jobs."""
        removed = [job for job in self.jobs.values() if job.status == "IN_QUEUE"]
        self.queue.clear()
        for job in removed:
            self.forget(job)
        return len(removed)

    def forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        self.news(job)

    # Waiting for news

    def news(self, job: Job) -> None:
        for waiter in self._waiting.pop(job.id, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_news(self, job: Job, timeout_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job.id, []).append(waiter)
        await asyncio.wait([waiter], timeout=timeout_s)

    # Time

    def watch(self, job: Job) -> None:
        """See to it that a job's next deadline is kept."""
        self.at(job.next_deadline(self.retention_s), lambda: self._deadline(job))

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), what))
        self._set_timer()

    def _set_timer(self) -> None:
        when = self._heap[0][0]
        if self._timer is not None and self._timer_at <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - self.clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        if self._heap:
            self._set_timer()

    def _deadline(self, job: Job) -> None:
        now = self.clock()
        if self.jobs.get(job.id) is not job or now < job.next_deadline(self.retention_s):
            return
        if job.status in FINAL or now >= job.submitted_at + job.ttl_s:
            # docs.runpod.io/serverless/endpoints/send-requests: at the end of its ttl a job is deleted in any state.
            if job.status == "IN_PROGRESS":
                self.workforce.stopped(job)
            self.forget(job)
        elif job.end("TIMED_OUT", now):
            job.error = f"job exceeded its execution timeout of {job.execution_timeout_s:g} s"
            self.workforce.stopped(job)
            self.ended(job)

    def counts(self) -> dict[str, int]:
        names = {"COMPLETED": "completed", "FAILED": "failed", "IN_PROGRESS": "inProgress", "IN_QUEUE": "inQueue"}
        found = {**dict.fromkeys(names.values(), 0), "retried": 0}
        for job in self.jobs.values():
            if job.status in names:
                found[names[job.status]] += 1
            found["retried"] += job.attempts > 1
        return found

    def close_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
