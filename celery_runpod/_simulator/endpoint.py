"""One endpoint: carries out each step of its jobs, and tells those who wait, the webhook and whoever runs the jobs.

Not here: the rules of a job (``jobs.py``) and of the queue (``store.py``), HTTP (``job_routes.py``), running
(``synthetic.py``, ``workers.py``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from celery_runpod._simulator.faults import AT_END, AT_TAKE, Faults
from celery_runpod._simulator.jobs import EXECUTION_TIMEOUT_S, NOTHING, Job, State
from celery_runpod._simulator.management.billing import Meter
from celery_runpod._simulator.store import Store
from celery_runpod._simulator.webhooks import Webhooks


class Backend(Protocol):
    """Who runs the jobs of an endpoint."""

    def wake(self) -> None:
        """There may be something to take."""

    def stop(self, job: Job, *, kill: bool) -> None:
        """The job runs no longer: cancelled, timed out or forgotten. `kill`: with its worker, at once."""

    def tick(self, now: float) -> None:
        """Time has passed."""

    def health(self) -> dict[str, int]:
        """The `workers` of /health."""

    def scale(self, least: int, most: int | None, idle_s: float) -> None:
        """How many workers are kept, how many there may be (None: any number), and when idle ones end."""

    def listing(self, now: float) -> list[tuple[str, str, float]]:
        """The workers that there are: id; RUNNING, IDLE or INITIALIZING; since when."""

    def reset(self) -> None:
        """Every job is forgotten."""

    async def close(self) -> None:
        """Leave nothing behind."""


class Taken(NamedTuple):
    """A job, and what goes wrong with this attempt."""

    job: Job
    delay_s: float
    crash_after_s: float | None


class Endpoint:
    """See the module."""

    backend: Backend

    def __init__(self, name: str, faults: Faults, webhooks: Webhooks, retention_s: float | None = None) -> None:
        self.name = name
        self.faults = faults
        self.webhooks = webhooks
        self.retention_s = retention_s
        self.execution_timeout_s = EXECUTION_TIMEOUT_S
        self.store = Store(retention_s)
        self.meter = Meter()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    # What the users of the endpoint do

    def submit(self, job: Job) -> None:
        self.store.add(job)
        self.backend.wake()

    def cancel(self, job: Job) -> None:
        """A job that has ended stays as it is."""
        ran = job.state is State.IN_PROGRESS
        if not job.cancel(time.time()):
            return
        self._ended(job)
        if ran:
            self.backend.stop(job, kill=False)

    def retry(self, job: Job) -> bool:
        """Whether the job could be put back into the queue."""
        if not job.retry(time.time()):
            return False
        self._requeued(job)
        return True

    def purge(self) -> int:
        """How many jobs were removed."""
        removed = self.store.purge()
        for job in removed:
            self._tell(job)
        return len(removed)

    def forget(self, job: Job, why: str) -> None:
        """RunPod no longer knows the job."""
        if job.gone:
            return
        ran = job.state is State.IN_PROGRESS
        if ran:
            self._count(job.started_at, time.time())
        self.store.forget(job, why)
        self._tell(job)
        if ran:
            self.backend.stop(job, kill=False)

    async def wait(self, job: Job, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready`, once the job is forgotten, or after `seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not ready() and job.gone is None and (left := until - loop.time()) > 0:
            told = loop.create_future()
            self._waiting.setdefault(job.id, []).append(told)
            timer = loop.call_later(left, _tell_one, told)
            await told
            timer.cancel()
            if told in (others := self._waiting.get(job.id, [])):
                others.remove(told)

    # What the workers do

    def take(self, worker_id: str) -> Taken | None:
        """The next job, with the faults of this attempt; None when nothing waits."""
        while (job := self.store.take(time.time(), worker_id)) is not None:
            # Once only, or a rule without end would run the job for ever.
            kinds = AT_TAKE if job.attempts == 1 else AT_TAKE - {"run_twice"}
            found = {kind: fault.seconds_s for kind, fault in self.faults.at(self.name, "worker", kinds).items()}
            if "vanish" in found:
                self.store.forget(job, "VANISHED")
                self._tell(job)
                continue
            job.repeat = job.repeat or "run_twice" in found
            crash = job.marks.pop("crash", None)
            return Taken(job, found.get("delay", 0.0), found.get("crash", crash))
        return None

    def report(self, job: Job, progress: Any) -> None:
        job.report(progress)

    def stream(self, job: Job, chunk: Any) -> None:
        if job.stream(chunk):
            self._tell(job)

    def finish(self, job: Job, output: Any = NOTHING, error: Any = NOTHING) -> None:
        """The handler's end of the job."""
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
        """The attempt is void through no fault of the job."""
        since, now = job.started_at, time.time()
        if not job.gone and job.requeue(now):
            self._count(since, now)
            self._requeued(job)

    def give_back(self, job: Job) -> None:
        """The job did not reach the worker that took it."""
        if not job.gone and job.give_back(time.time()):
            self.store.queued(job)
            self.backend.wake()

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
        """Deadlines: executions end as TIMED_OUT, lives and retentions by deletion."""
        for job in self.store.due(now):
            if job.submitted_at + job.ttl_s <= now:
                self.forget(job, "EXPIRED")
            elif job.time_out(now):
                self._ended(job)
                self.backend.stop(job, kill=True)
            elif job.ended:
                self.forget(job, "FORGOTTEN")
        self.backend.tick(now)

    def health(self) -> dict[str, dict[str, int]]:
        store = self.store
        jobs = {
            "completed": store.completed,
            "failed": store.failed,
            "inProgress": len(store.running),
            "inQueue": store.waiting,
            "retried": store.retried,
        }
        return {"jobs": jobs, "workers": self.backend.health()}

    def reset(self) -> None:
        """As at the start."""
        old, self.store = self.store, Store(self.retention_s)
        self.meter = Meter()
        for job in old.jobs.values():
            job.gone = "VANISHED"
            self._tell(job)
        self.backend.reset()

    def _finish(self, job: Job, attempt: int, output: Any, error: Any, *, announce: bool) -> None:
        if not job.gone and job.attempts == attempt and job.finish(time.time(), output, error):
            self._ended(job, announce=announce)
            # After the webhook, which has the result.
            if reopened := self.faults.at(self.name, "worker", AT_END).get("reopen"):
                job.late_progress = reopened.body or "working"

    def _ended(self, job: Job, *, announce: bool = True) -> None:
        self.store.ended(job)
        if job.ended_at is not None:
            self._count(job.started_at, job.ended_at)
        self._tell(job)
        if announce:
            self.webhooks.send(job)

    def _requeued(self, job: Job) -> None:
        self.store.again(job)
        self._tell(job)
        self.backend.wake()

    def _count(self, start: float | None, end: float) -> None:
        """An attempt is over: it goes on the bill."""
        if start is not None:
            self.meter.add(start, end)

    def _tell(self, job: Job) -> None:
        for told in self._waiting.pop(job.id, ()):
            _tell_one(told)


def _tell_one(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
