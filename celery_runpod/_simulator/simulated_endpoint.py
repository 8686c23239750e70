"""One simulated endpoint: takes each step of its jobs, then wakes held requests, sends webhooks and stops workers.

Not here: what a step means for a job (``simulated_jobs.py``) and for the queue (``job_queue.py``), HTTP
(``job_routes.py``), running the jobs (``synthetic.py``, ``worker_fleet.py``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from celery_runpod._simulator.faults import AT_END, AT_TAKE, Faults
from celery_runpod._simulator.job_queue import JobQueue
from celery_runpod._simulator.management.billing import Meter
from celery_runpod._simulator.simulated_jobs import EXECUTION_TIMEOUT_S, NOTHING, Job, State
from celery_runpod._simulator.webhook_sender import WebhookSender


class Runner(Protocol):
    """What runs the jobs of an endpoint."""

    def wake(self) -> None:
        """Take jobs, if any wait."""

    def stop(self, job: Job, *, kill: bool) -> None:
        """Stop a running job: cancelled, timed out or forgotten. `kill`: at once, together with its worker."""

    def tick(self, now: float) -> None:
        """Do what has come due; called about 20 times a second."""

    def health(self) -> dict[str, int]:
        """The `workers` of /health."""

    def scale(self, least: int, most: int | None, idle_s: float) -> None:
        """Set how many workers are kept, how many there may be (None: any number), and when idle ones end."""

    def listing(self, now: float) -> list[tuple[str, str, float]]:
        """The workers: id; RUNNING, IDLE or INITIALIZING; since when."""

    def reset(self) -> None:
        """Forget every job."""

    async def close(self) -> None:
        """End everything that was started."""


class Taken(NamedTuple):
    """A job, and what goes wrong with this attempt."""

    job: Job
    delay_s: float
    crash_after_s: float | None


class Endpoint:
    """An endpoint. Whoever makes it sets its `runner`."""

    runner: Runner

    def __init__(self, name: str, faults: Faults, webhooks: WebhookSender, retention_s: float | None = None) -> None:
        self.name = name
        self.faults = faults
        self.webhooks = webhooks
        self.retention_s = retention_s
        self.execution_timeout_s = EXECUTION_TIMEOUT_S
        self.queue = JobQueue(retention_s)
        self.meter = Meter()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    # What the users of the endpoint do

    def submit(self, job: Job) -> None:
        self.queue.add(job)
        self.runner.wake()

    def cancel(self, job: Job) -> None:
        """A job that has ended stays as it is."""
        ran = job.state is State.IN_PROGRESS
        if not job.cancel(time.time()):
            return
        self._ended(job)
        if ran:
            self.runner.stop(job, kill=False)

    def retry(self, job: Job) -> bool:
        """Put a job that has ended badly back into the queue. Returns whether that was possible."""
        if not job.retry(time.time()):
            return False
        self._requeued(job)
        return True

    def purge(self) -> int:
        """Remove the jobs that wait. Returns their number."""
        removed = self.queue.purge()
        for job in removed:
            self._wake_waiters(job)
        return len(removed)

    def forget(self, job: Job, why: str) -> None:
        """RunPod no longer knows the job."""
        if job.gone:
            return
        ran = job.state is State.IN_PROGRESS
        if ran:
            self._count(job.started_at, time.time())
        self.queue.forget(job, why)
        self._wake_waiters(job)
        if ran:
            self.runner.stop(job, kill=False)

    async def wait(self, job: Job, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready`, once the job is forgotten, or after `seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not ready() and job.gone is None and (left := until - loop.time()) > 0:
            waiter = loop.create_future()
            self._waiters.setdefault(job.id, []).append(waiter)
            timer = loop.call_later(left, _wake, waiter)
            await waiter
            timer.cancel()
            if waiter in (others := self._waiters.get(job.id, [])):
                others.remove(waiter)

    # What the workers do

    def take(self, worker_id: str) -> Taken | None:
        """The next job, with the faults of this attempt; None when nothing waits."""
        while (job := self.queue.take(time.time(), worker_id)) is not None:
            # At the first attempt alone, or a rule without end would run the job for ever.
            kinds = AT_TAKE if job.attempts == 1 else AT_TAKE - {"run_twice"}
            found = {kind: fault.seconds_s for kind, fault in self.faults.at(self.name, "worker", kinds).items()}
            if "vanish" in found:
                self.queue.forget(job, "VANISHED")
                self._wake_waiters(job)
                continue
            job.repeat = job.repeat or "run_twice" in found
            crash = job.marks.pop("crash", None)
            return Taken(job, found.get("delay", 0.0), found.get("crash", crash))
        return None

    def stream(self, job: Job, chunk: Any) -> None:
        if job.stream(chunk):
            self._wake_waiters(job)

    def finish(self, job: Job, output: Any = NOTHING, error: Any = NOTHING) -> None:
        """The handler has ended the job, with an output or an error."""
        if job.gone or job.state is not State.IN_PROGRESS:
            return
        if job.repeat:
            job.repeat = False
            self.requeue(job)
            return
        attempt = job.attempts
        early_s = self.webhooks.early(job)
        if early_s is None:
            self._finish(job, attempt, output, error, announce=True)
            return
        future = dataclasses.replace(job)
        future.finish(time.time(), output, error)
        self.webhooks.send(future)
        loop = asyncio.get_running_loop()
        loop.call_later(early_s, lambda: self._finish(job, attempt, output, error, announce=False))

    def requeue(self, job: Job) -> None:
        """Run a job again: the attempt does not count, and the job is not to blame."""
        since, now = job.started_at, time.time()
        if not job.gone and job.requeue(now):
            self._count(since, now)
            self._requeued(job)

    def give_back(self, job: Job) -> None:
        """The job did not reach the worker that took it."""
        if not job.gone and job.give_back(time.time()):
            self.queue.queued(job)
            self.runner.wake()

    def lose(self, job: Job, how: str) -> None:
        """The worker died under the job."""
        since, now = job.started_at, time.time()
        if job.gone or not job.lose(now, how):
            return
        if job.ended:
            self._ended(job)
        else:
            self._count(since, now)
            self._requeued(job)

    # What time does

    def tick(self, now: float) -> None:
        """End what took too long as TIMED_OUT, and delete jobs over their time to live or retention."""
        for job in self.queue.due(now):
            if job.submitted_at + job.ttl_s <= now:
                self.forget(job, "EXPIRED")
            elif job.time_out(now):
                self._ended(job)
                self.runner.stop(job, kill=True)
            elif job.ended:
                self.forget(job, "FORGOTTEN")
        self.runner.tick(now)

    def health(self) -> dict[str, dict[str, int]]:
        queue = self.queue
        jobs = {
            "completed": queue.completed,
            "failed": queue.failed,
            "inProgress": len(queue.running),
            "inQueue": queue.waiting,
            "retried": queue.retried,
        }
        return {"jobs": jobs, "workers": self.runner.health()}

    def reset(self) -> None:
        """Forget every job and the bill."""
        old, self.queue = self.queue, JobQueue(self.retention_s)
        self.meter = Meter()
        for job in old.jobs.values():
            job.gone = "VANISHED"
            self._wake_waiters(job)
        self.runner.reset()

    def _finish(self, job: Job, attempt: int, output: Any, error: Any, *, announce: bool) -> None:
        if not job.gone and job.attempts == attempt and job.finish(time.time(), output, error):
            self._ended(job, announce=announce)
            # After the webhook, which still has the result.
            if reopened := self.faults.at(self.name, "worker", AT_END).get("reopen"):
                job.late_progress = reopened.body or "working"

    def _ended(self, job: Job, *, announce: bool = True) -> None:
        self.queue.ended(job)
        if job.ended_at is not None:
            self._count(job.started_at, job.ended_at)
        self._wake_waiters(job)
        if announce:
            self.webhooks.send(job)

    def _requeued(self, job: Job) -> None:
        self.queue.again(job)
        self._wake_waiters(job)
        self.runner.wake()

    def _count(self, start: float | None, end: float) -> None:
        """Put an attempt that is over on the bill."""
        if start is not None:
            self.meter.add(start, end)

    def _wake_waiters(self, job: Job) -> None:
        for waiter in self._waiters.pop(job.id, ()):
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
