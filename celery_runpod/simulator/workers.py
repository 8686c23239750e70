"""Worker processes: the user's handler file, run by RunPod's own SDK against our control plane.

From 0 to N processes of `python handler.py`, with a real cold start, ended after idling. So handlers, generators,
async, progress, error texts and cancellation are RunPod's own code, not an imitation. A process never outlives the
simulator: it dies with it, also when that is killed.

Next: ``synthetic.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery_runpod.simulator.endpoint import Endpoint
from celery_runpod.simulator.jobs import FINAL, Job
from celery_runpod.simulator.specs import Handler

_PR_SET_PDEATHSIG = 1
MOST_FAILED_STARTS = 3
STOP_GRACE_S = 2.0


class Host(Protocol):
    """What the simulator tells its workers."""

    address: str


@dataclass
class Worker:
    """One process. `jobs` are what it works on; `to_stop` what it must be told to stop."""

    id: str
    process: asyncio.subprocess.Process
    idle_since: float
    ready: bool = False
    jobs: set[str] = field(default_factory=set)
    to_stop: list[str] = field(default_factory=list)
    stop_news: asyncio.Event = field(default_factory=asyncio.Event)


class HandlerWorkers:
    """The processes of one endpoint."""

    def __init__(self, endpoint: Endpoint, kind: Handler, host: Host) -> None:
        self._endpoint = endpoint
        self._kind = kind
        self._host = host
        self.secret = secrets.token_hex(16)
        self._workers: dict[str, Worker] = {}
        self._starting = 0
        self._failed_starts = 0
        self._work = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # What the endpoint calls

    def submitted(self, job: Job, now: float) -> None:
        self._work.set()
        self._scale_up()

    def stopped(self, job: Job) -> None:
        """Tell an async handler to stop; end the process of one that does not hear it."""
        worker = self._workers.get(str(job.worker_id))
        if worker is None or job.id not in worker.jobs:
            return
        worker.to_stop.append(job.id)
        worker.stop_news.set()
        asyncio.get_running_loop().call_later(STOP_GRACE_S, self._kill_if_still, worker, job.id)

    def crash(self, job: Job) -> None:
        """The fault `crash`."""
        worker = self._workers.get(str(job.worker_id))
        if worker is not None:
            self._kill(worker)

    def health(self) -> dict[str, int]:
        running = sum(bool(worker.jobs) for worker in self._workers.values())
        ready = sum(worker.ready for worker in self._workers.values())
        return {
            "idle": ready - running,
            "initializing": len(self._workers) - ready + self._starting,
            "ready": ready,
            "running": running,
            "throttled": 0,
            "unhealthy": int(self._failed_starts >= MOST_FAILED_STARTS),
        }

    async def close(self) -> None:
        self._closing = True
        for worker in list(self._workers.values()):
            self._kill(worker)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the control plane calls

    def known(self, worker_id: str) -> bool:
        return worker_id in self._workers and not self._closing

    def idle(self, worker_id: str) -> None:
        """The worker says that it works on nothing: what it was told to stop has stopped."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.jobs -= {job_id for job_id in worker.jobs if self._ended(job_id)}

    def _ended(self, job_id: str) -> bool:
        job = self._endpoint.jobs.get(job_id)
        return job is None or job.status in FINAL

    def take(self, worker_id: str) -> Job | None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        worker.ready = True
        job = self._endpoint.take(self._endpoint.clock(), worker_id)
        if job is not None:
            worker.jobs.add(job.id)
        else:
            self._work.clear()
        return job

    async def wait_for_work(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), max(0.01, timeout_s))

    async def jobs_to_stop(self, worker_id: str, timeout_s: float) -> list[str]:
        worker = self._workers.get(worker_id)
        if worker is None:
            await asyncio.sleep(1)
            return []
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.stop_news.wait(), timeout_s)
        worker.stop_news.clear()
        ids, worker.to_stop = worker.to_stop, []
        return ids

    def told(self, worker_id: str, job_id: str, body: Any, *, is_stream: bool) -> None:
        """A worker's word on a job: progress, output or error."""
        worker, job = self._workers.get(worker_id), self._endpoint.jobs.get(job_id)
        body = body if isinstance(body, dict) else {"output": body}
        if body.get("status") == "IN_PROGRESS":
            if job is not None and job.status == "IN_PROGRESS":
                job.output, job.has_output = body.get("output"), True
                self._endpoint.news(job)
            return
        self._failed_starts = 0
        if worker is not None:
            worker.jobs.discard(job_id)
            worker.idle_since = self._endpoint.clock()
            if body.get("stopPod"):
                self._kill(worker)
        if job is None or job.status in FINAL:
            return
        now = self._endpoint.clock()
        ended = job.fail(body["error"], now) if "error" in body else self._complete(job, body, now)
        if ended:
            self._endpoint.ended(job)

    def _complete(self, job: Job, body: dict[str, Any], now: float) -> bool:
        if "output" in body:
            return job.complete(body["output"], now)
        ended = job.complete(None, now)
        job.has_output = False
        return ended

    # Processes

    def _scale_up(self) -> None:
        if self._closing:
            return
        free = sum(not worker.jobs for worker in self._workers.values()) + self._starting
        wanted = min(len(self._endpoint.queue) - free, self._kind.workers - len(self._workers) - self._starting)
        for _ in range(max(0, wanted)):
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._run_worker())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_worker(self) -> None:
        """One process, from its start to its end."""
        if self._failed_starts:
            await asyncio.sleep(min(0.5 * 2**self._failed_starts, 10.0))
        worker_id = uuid.uuid4().hex[:14]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(self._kind.path),
                cwd=self._kind.path.parent,
                env=self._environment(worker_id),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        finally:
            self._starting -= 1
        worker = Worker(worker_id, process, self._endpoint.clock())
        self._workers[worker_id] = worker
        ending = asyncio.ensure_future(process.wait())
        try:
            while not ending.done():
                await asyncio.wait([ending], timeout=0.5)
                idle_s = self._endpoint.clock() - worker.idle_since
                if worker.ready and not worker.jobs and not self._endpoint.queue and idle_s > self._kind.idle:
                    self._kill(worker)
        finally:
            self._kill(worker)
            self._workers.pop(worker_id, None)
        self._gone(worker)

    def _gone(self, worker: Worker) -> None:
        if self._closing:
            return
        if not worker.ready or worker.jobs:
            self._failed_starts += 1
        now = self._endpoint.clock()
        for job_id in worker.jobs:
            job = self._endpoint.jobs.get(job_id)
            if job is None or job.status in FINAL:
                continue
            if job.crashed(now):
                self._endpoint.queue.appendleft(job)
                self._work.set()
            else:
                self._endpoint.ended(job)
        if self._endpoint.queue:
            self._scale_up()

    def _environment(self, worker_id: str) -> dict[str, str]:
        base = f"{self._host.address}/_worker/{self._endpoint.name}"
        # As RunPod sets it in every worker image; the URLs need their "?".
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")},
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_ENDPOINT_ID": self._endpoint.name,
            "RUNPOD_AI_API_KEY": self.secret,
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/{worker_id}?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": "10000",
            "PYTHONUNBUFFERED": "1",
        }

    def _kill_if_still(self, worker: Worker, job_id: str) -> None:
        if job_id in worker.jobs:
            worker.jobs.discard(job_id)
            self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
