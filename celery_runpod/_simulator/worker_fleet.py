"""The workers of a handler endpoint: started while jobs wait, given jobs, ended when idle, replaced when they die.

How a running job is stopped. On a cancel the worker gets a job-stop, which ends async handlers; it is repeated, because
the SDK ignores it in the moment before it starts the handler. A worker whose pings still name the job after a grace is
killed, and its other jobs go back to the queue. On an execution timeout it is killed at once. A worker from outside
(Docker) cannot be killed from here: it gets the job-stop in both cases, and keeps the job until its pings no longer
name it.

Not here: the HTTP that workers speak (``worker_protocol.py``), their processes (``worker_processes.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from celery_runpod._devstack.process_guard import Guard
from celery_runpod._simulator.endpoint_specs import Handler
from celery_runpod._simulator.simulated_endpoint import Endpoint, Taken
from celery_runpod._simulator.simulated_jobs import Job, State
from celery_runpod._simulator.worker_processes import PING_S, WorkerProcess, environment

MOST_PROCESSES = 100
"""The most, however high `workers.max` is set: they run on this machine."""
STOP_AGAIN_S = 0.5
STOP_GRACE_S = 3.0
END_GRACE_S = 5.0
SILENT_S = 60.0
"""A worker from outside that sends nothing for this long is lost."""
SLOWEST_RESTART_S = 10.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Scaling:
    """How many workers there are: `least` are kept, `most` there may be, idle ones end after `idle_s` seconds. Pure."""

    least: int
    most: int
    idle_s: float

    def change(self, least: int, most: int | None, idle_s: float) -> None:
        """`most` None: as many as this machine may have."""
        self.least = least
        self.most = MOST_PROCESSES if most is None else min(most, MOST_PROCESSES)
        self.idle_s = idle_s

    def to_start(self, waiting: int, coming: int, usable: int, own: int) -> int:
        """How many to start: for the jobs that no worker is `coming` for, and until `least` are there."""
        return min(max(waiting - coming, self.least - usable), self.most - own)

    def spare(self, busy: int) -> int:
        """How many idle workers may take jobs: not all of them, once the limit was lowered."""
        return self.most - busy

    def lacks(self, kept: int) -> bool:
        """Whether there are fewer than are kept without jobs."""
        return kept < min(self.least, self.most)

    def ends(self, kept: int, idle_for_s: float) -> bool:
        """Whether an idle worker ends."""
        return kept > (min(self.least, self.most) if idle_for_s > self.idle_s else self.most)


@dataclass(slots=True, eq=False)
class Worker:
    """One worker. `own`: the simulator started its process; the others join from outside."""

    id: str
    own: bool = False
    process: WorkerProcess | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    asking: asyncio.Future[list[Taken]] | None = None
    """The request for jobs that it waits for."""
    batch: int = 1
    stops: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    stopping: dict[str, float] = field(default_factory=dict)
    """Cancelled jobs that may still run -> when they were cancelled."""
    stop_sent_at: float = 0.0
    ready: bool = False
    leaving: bool = False
    killed: bool = False
    """The simulator killed it because of one job: its other jobs run again. Workers from outside are never killed."""
    started_at: float = 0.0
    idle_since: float = 0.0
    seen_at: float = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.jobs or self.stopping)

    def answer(self, taken: list[Taken]) -> None:
        if self.asking is not None and not self.asking.done():
            self.asking.set_result(taken)
        self.asking = None

    def send_stops(self, now: float, *, again: bool = False) -> None:
        """Send a job-stop for its cancelled jobs; `again`: unless one was sent a moment ago."""
        if again and now - self.stop_sent_at < STOP_AGAIN_S:
            return
        self.stop_sent_at = now
        if self.stops.empty():
            for job_id in self.stopping:
                self.stops.put_nowait(job_id)

    def kill(self) -> None:
        """End its process, now or as soon as it has one."""
        self.killed = True
        if self.process is not None:
            self.process.kill()


class Fleet:
    """The workers of one endpoint."""

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
        """Allow workers to be started, now that the server listens."""
        self._address, self._token, self._open = address, token, True

    # What the endpoint calls

    def wake(self) -> None:
        queue = self.endpoint.queue
        spare = self.scaling.spare(sum(worker.busy for worker in self._kept()))
        for worker in list(self.workers.values()):
            if not queue.waiting:
                break
            if worker.asking is None or worker.leaving or worker.killed:
                continue
            if worker.own and not worker.busy:
                if spare <= 0:
                    continue  # the limit was lowered: `tick` ends this worker
                spare -= 1
            taken = self._take(worker)
            if taken:
                worker.answer(taken)
        coming = sum(not worker.busy for worker in self._usable())
        wanted = self.scaling.to_start(queue.waiting, coming, len(self._usable()), len(self._own()))
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
            worker.send_stops(time.time())

    def tick(self, now: float) -> None:
        for worker in list(self.workers.values()):
            if not worker.own and now - worker.seen_at > SILENT_S:
                self._gone(worker, "fell silent")
            elif worker.own and any(now - since > STOP_GRACE_S for since in worker.stopping.values()):
                worker.kill()
            elif worker.stopping:
                worker.send_stops(now, again=True)
            elif worker.asking and not worker.busy and self.scaling.ends(len(self._kept()), now - worker.idle_since):
                self.retire(worker)
        if self.endpoint.queue.waiting or self.scaling.lacks(len(self._kept())):
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
        """Changes nothing for workers from outside: they are started and ended there."""
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
        """The worker of an id. An unknown one joins from outside. None: it was started here, and has ended."""
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
        """A ping: what the worker runs. A cancelled job that it does not name has been stopped.

        Or the worker has not begun it yet, because it was just handed over: so the next ping counts.
        """
        now = time.time()
        for job_id in set(worker.stopping) - set(job_ids):
            if now - worker.stopping[job_id] > PING_S:
                del worker.stopping[job_id]
                worker.idle_since = now

    def back(self, worker: Worker, taken: list[Taken]) -> None:
        """The worker hung up before it got its jobs."""
        for job in (found.job for found in taken):
            if worker.jobs.pop(job.id, None) is not None:
                self.endpoint.give_back(job)

    def retire(self, worker: Worker) -> None:
        """Ask a worker to end. Nothing happens to one from outside: whoever started it has to end it."""
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
        """Those that were started here and are not ending."""
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
        """Kill a worker that was asked to end and has not, once it has no jobs left."""

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
        """Start a worker's process, and wait until it has ended."""
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
