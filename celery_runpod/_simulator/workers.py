"""The workers of a handler endpoint: started as jobs wait, given jobs, stopped when idle, replaced when they die.

Not here: the HTTP that workers speak (``worker_protocol.py``), their processes (``processes.py``).

How a running job is stopped. On cancel the worker is told by job-stop, which ends async handlers; told again, because
the SDK ignores it in the moment before it starts the handler. If its pings still name the job after a grace, it is
killed, and its other jobs go back to the queue. On an execution timeout it is killed at once. A worker from outside
(Docker) is not ours to kill: it is told, in both cases, and has the job until its pings no longer name it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable

from celery_runpod._simulator.endpoint import Endpoint, Taken
from celery_runpod._simulator.jobs import Job, State
from celery_runpod._simulator.processes import PING_S, Guard, Worker, WorkerProcess, environment
from celery_runpod._simulator.scaling import Scaling
from celery_runpod._simulator.specs import Handler

STOP_GRACE_S = 3.0
END_GRACE_S = 5.0
SILENT_S = 60.0
"""A worker from outside that says nothing for so long is lost."""
SLOWEST_RESTART_S = 10.0

log = logging.getLogger(__name__)


class Fleet:
    """See the module."""

    def __init__(self, endpoint: Endpoint, spec: Handler, guard: Guard) -> None:
        self.endpoint = endpoint
        self.spec = spec
        self.guard = guard
        self.scaling = Scaling(0, spec.workers, spec.idle)
        self.workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: set[str] = set()
        self._failures = 0
        self._not_before = 0.0
        self._address = ""
        self._token = ""
        self._open = False

    def open(self, address: str, token: str) -> None:
        """Workers may be started: the server listens."""
        self._address, self._token, self._open = address, token, True

    # What the endpoint calls

    def wake(self) -> None:
        store = self.endpoint.store
        spare = self.scaling.spare(sum(worker.busy for worker in self._kept()))
        for worker in list(self.workers.values()):
            if not store.waiting:
                break
            if worker.asking is None or worker.leaving or worker.killed:
                continue
            if worker.own and not worker.busy:
                if spare <= 0:
                    continue  # one too many since the limit was lowered: `tick` ends it
                spare -= 1
            taken = self._take(worker)
            if taken:
                worker.answer(taken)
        coming = sum(not worker.busy for worker in self._usable())
        wanted = self.scaling.to_start(store.waiting, coming, len(self._usable()), len(self._own()))
        if self.spec.path and self._open and time.time() >= self._not_before:
            for _ in range(wanted if not self._failures else min(wanted, 1)):
                self._start()

    def stop(self, job: Job, *, kill: bool) -> None:
        worker = next((worker for worker in self.workers.values() if job.id in worker.jobs), None)
        if worker is None:
            return
        worker.jobs.pop(job.id)
        worker.stopping[job.id] = time.time()
        if kill and worker.own:
            worker.kill()
        else:
            worker.tell(time.time())

    def tick(self, now: float) -> None:
        for worker in list(self.workers.values()):
            if not worker.own and now - worker.seen_at > SILENT_S:
                self._gone(worker, "fell silent")
            elif worker.own and any(now - since > STOP_GRACE_S for since in worker.stopping.values()):
                worker.kill()
            elif worker.stopping:
                worker.tell(now, again=True)
            elif worker.asking and not worker.busy and self.scaling.ends(len(self._kept()), now - worker.idle_since):
                self.retire(worker)
        if self.endpoint.store.waiting or self.scaling.lacks(len(self._kept())):
            self.wake()

    def health(self) -> dict[str, int]:
        usable = self._usable()
        running = sum(worker.busy for worker in usable)
        initializing = sum(not worker.ready for worker in usable)
        idle = len(usable) - running - initializing
        unhealthy = min(self._failures, max(1, self.scaling.most))
        found = {"idle": idle, "initializing": initializing, "ready": idle, "running": running}
        return {**found, "throttled": 0, "unhealthy": unhealthy}

    def scale(self, least: int, most: int | None, idle_s: float) -> None:
        """Workers from outside are started and ended outside: for them it changes nothing."""
        self.scaling.change(least, most, idle_s)
        self.wake()

    def listing(self, now: float) -> list[tuple[str, str, float]]:
        def status(worker: Worker) -> str:
            return "RUNNING" if worker.busy else "IDLE" if worker.ready else "INITIALIZING"

        return [(worker.id, status(worker), worker.started_at) for worker in self._usable()]

    def reset(self) -> None:
        for worker in self.workers.values():
            for job in list(worker.jobs.values()):
                self.stop(job, kill=False)
            if worker.own and worker.stopping:
                worker.kill()
        self._failures, self._not_before = 0, 0.0

    async def close(self) -> None:
        self._open = False
        for worker in self.workers.values():
            worker.answer([])
            worker.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the workers call

    def known(self, worker_id: str) -> Worker | None:
        """The worker of an id; one that was not started here joins from outside. None: it is dead."""
        now = time.time()
        worker = self.workers.get(worker_id)
        if worker_id in self._dead:
            return None
        if worker is None:
            worker = self.workers[worker_id] = Worker(worker_id, started_at=now, idle_since=now)
        worker.seen_at = now
        return worker

    async def ask(self, worker: Worker, batch: int, *, idle: bool, seconds: float) -> list[Taken]:
        """Up to `batch` jobs, as soon as there are any; none after `seconds`."""
        if not worker.ready:
            worker.ready, worker.idle_since = True, time.time()
        if idle:
            worker.stopping.clear()
        worker.answer([])
        if worker.leaving:
            return []
        worker.batch = batch
        asking: asyncio.Future[list[Taken]] = asyncio.get_running_loop().create_future()
        worker.asking = asking
        self.wake()
        timer = asyncio.get_running_loop().call_later(seconds, _nothing, asking)
        taken = await asking
        timer.cancel()
        if worker.asking is asking:
            worker.asking = None
        return taken

    def done(self, worker: Worker, job_id: str) -> Job | None:
        """The worker has ended a job; the job, if it is still the worker's."""
        worker.stopping.pop(job_id, None)
        worker.idle_since = time.time()
        job = worker.jobs.pop(job_id, None)
        if job is not None:
            self._failures = 0
        return job

    def running(self, worker: Worker, job_ids: Iterable[str]) -> None:
        """A ping: what the worker runs. A cancelled job that it no longer names has been stopped.

        Or it has not come yet to a job that was just handed over: for that the next ping is waited for.
        """
        now = time.time()
        for job_id in set(worker.stopping) - set(job_ids):
            if now - worker.stopping[job_id] > PING_S:
                del worker.stopping[job_id]
                worker.idle_since = now

    def back(self, worker: Worker, taken: list[Taken]) -> None:
        """The worker went away before it got its jobs."""
        for job in (found.job for found in taken):
            if worker.jobs.pop(job.id, None) is not None:
                self.endpoint.give_back(job)

    def retire(self, worker: Worker) -> None:
        """End a worker, politely. One from outside has to be ended by who started it."""
        if worker.process is None or worker.leaving:
            return
        worker.leaving = True
        worker.answer([])
        worker.stops.put_nowait("")
        worker.process.terminate()
        self._end(worker)

    # Processes

    def _own(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.own]

    def _kept(self) -> list[Worker]:
        """Our own that are not on their way out."""
        return [worker for worker in self._usable() if worker.own]

    def _usable(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if not worker.leaving and not worker.killed]

    def _take(self, worker: Worker) -> list[Taken]:
        found: list[Taken] = []
        while len(found) < worker.batch and (taken := self.endpoint.take(worker.id)):
            found.append(taken)
            worker.jobs[taken.job.id] = taken.job
            worker.stopping.pop(taken.job.id, None)  # tried again after a timeout
            if taken.crash_after_s is not None:
                asyncio.get_running_loop().call_later(taken.crash_after_s, self._crash, worker, taken.job)
        return found

    def _crash(self, worker: Worker, job: Job) -> None:
        if job.id not in worker.jobs:
            return
        if worker.process is not None:
            worker.process.kill()
        else:
            worker.jobs.pop(job.id)
            self.endpoint.lose(job, "crashed")

    def _end(self, worker: Worker) -> None:
        """Kill a worker that was asked to end and does not; while it has jobs, it ends them first."""

        def look() -> None:
            if worker.jobs:
                self._end(worker)
            elif worker.id in self.workers:
                worker.kill()

        asyncio.get_running_loop().call_later(END_GRACE_S, look)

    def _start(self) -> None:
        worker = Worker(f"{self.endpoint.name}-{uuid.uuid4().hex[:12]}", own=True)
        self.workers[worker.id] = worker
        worker.started_at = worker.seen_at = time.time()
        task = asyncio.get_running_loop().create_task(self._live(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, worker: Worker) -> None:
        """One worker's life."""
        assert self.spec.path is not None
        how = "could not be started"
        try:
            worker.process = await WorkerProcess.start(
                self.spec.path, environment(self._address, self.endpoint.name, worker.id, self._token), self.guard
            )
            if worker.killed:
                worker.process.kill()
            how = await worker.process.ended()
        except OSError as error:
            log.warning("endpoint %s: worker %s: %s", self.endpoint.name, how, error)
        self._gone(worker, how)

    def _gone(self, worker: Worker, how: str) -> None:
        self.workers.pop(worker.id, None)
        if worker.own:
            self._dead.add(worker.id)
        worker.answer([])
        left, worker.leaving = worker.leaving, True
        worker.stops.put_nowait("")
        asked_for = worker.killed or not worker.own or (left and not worker.jobs)
        if self._open and not asked_for:
            self._failures += 1
            log.warning("endpoint %s: worker %s %s", self.endpoint.name, worker.id, how)
            if not worker.ready:
                self._not_before = time.time() + min(0.5 * 2.0 ** min(self._failures, 10), SLOWEST_RESTART_S)
        jobs, worker.jobs = list(worker.jobs.values()), {}
        for job in jobs:
            if job.state is not State.IN_PROGRESS or job.worker_id != worker.id:
                continue
            if worker.killed:
                self.endpoint.requeue(job)
            else:
                self.endpoint.lose(job, how)
        if self._open:
            self.wake()


def _nothing(asking: asyncio.Future[list[Taken]]) -> None:
    if not asking.done():
        asking.set_result([])
