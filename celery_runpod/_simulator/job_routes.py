"""The operations that RunPod's users call: `/v2/{endpoint}/run`, `/status/{id}` and the others, with their faults.

The order of a request: faults (they stand for everything between user and RunPod), endpoint, key, rate, method, body.
Not here: what workers call (``worker_protocol.py``), the simulator's own routes (``simulator_server.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from celery_runpod._simulator.faults import OF_A_JOB, Fault
from celery_runpod._simulator.gateway import Gateway, Refused, accepts, as_json
from celery_runpod._simulator.request_rules import LARGEST, WAIT_S, BadSubmission, Rates, parse_submission
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.simulated_jobs import Job

PART = "part"
"""In a request: whether its answer holds one chunk at most (fault `part`)."""
HUNG_UP_S = 1.0
"""How often a held request looks whether its client is still there."""


class JobRoutes:
    """The operations of all endpoints."""

    def __init__(self, endpoints: Mapping[str, Endpoint], gateway: Gateway, key: str | None, *, limits: bool) -> None:
        self.endpoints = endpoints
        self.gateway = gateway
        self.key = key
        self.limits = limits
        self.rates = Rates()

    async def handle(self, request: web.Request, name: str, operation: str, job_id: str | None) -> web.StreamResponse:
        """Answer one request, or not."""
        if operation not in ROUTES or (job_id is not None) is not (operation in OF_A_JOB):
            raise Refused(404, "not found" if name in self.endpoints else "endpoint not found")
        return await self.gateway.through(
            request, name, operation, lambda faults: self._checked(request, name, operation, job_id, faults)
        )

    async def _checked(
        self, request: web.Request, name: str, operation: str, job_id: str | None, faults: Mapping[str, Fault]
    ) -> web.Response:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise Refused(404, "endpoint not found")
        if not accepts(self.key, request.headers.get("Authorization")):
            raise Refused(401, "unauthorized: the API key is missing or wrong")
        if self.limits and not self.rates.enter(name, operation, time.monotonic()):
            raise Refused(429, "Too Many Requests")
        try:
            methods, answer = ROUTES[operation]
            if request.method not in methods:
                raise Refused(405, f"method not allowed; allowed: {', '.join(methods)}")
            if job_id is not None and "vanish" in faults and (job := endpoint.queue.jobs.get(job_id)):
                endpoint.forget(job, "VANISHED")
            if answer is not None:
                request[PART] = "part" in faults
                return await answer(self, request, endpoint, job_id or "")
            job = await self._accept(request, endpoint, operation, faults)
            if operation == "run":
                return as_json({"id": job.id, "status": "IN_QUEUE"})
            await self._hold(request, endpoint, job, lambda: job.ended, "runsync")
            return as_json(job.answer() if job.ended else {"id": job.id, "status": job.state.value})
        finally:
            if self.limits:
                self.rates.leave(name, operation)

    async def _accept(
        self, request: web.Request, endpoint: Endpoint, operation: str, faults: Mapping[str, Fault]
    ) -> Job:
        """Put a new job into the queue."""
        largest = LARGEST[operation]
        too_large = Refused(413, f"the body of /{operation} is over {largest // 1_000_000} MB")
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        if len(raw) > largest and self.limits:
            raise too_large
        try:
            job = parse_submission(
                raw,
                endpoint.name,
                time.time(),
                sync=operation == "runsync",
                limits=self.limits,
                execution_timeout_s=endpoint.execution_timeout_s,
            )
        except BadSubmission as error:
            raise Refused(400, str(error)) from None
        job.repeat = "run_twice" in faults
        if "crash" in faults:
            job.marks["crash"] = faults["crash"].seconds_s
        if "vanish" in faults and faults["vanish"].seconds_s == 0:
            endpoint.queue.forget(job, "VANISHED")
            return job
        endpoint.submit(job)
        if "vanish" in faults:
            loop = asyncio.get_running_loop()
            loop.call_later(faults["vanish"].seconds_s, endpoint.forget, job, "VANISHED")
        return job

    async def _status(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        job = self._known(endpoint, job_id)
        ttl_s = _milliseconds(request, "ttl")
        if ttl_s is not None:
            job.ttl_s = ttl_s
            endpoint.queue.watch(job)
        if "/status-sync/" in request.path:
            await self._hold(request, endpoint, job, lambda: job.ended, "status-sync")
            self._known(endpoint, job_id)
        return as_json(job.answer())

    async def _stream(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        job = self._known(endpoint, job_id)
        await self._hold(request, endpoint, job, lambda: bool(job.chunks) or job.ended, "stream")
        self._known(endpoint, job_id)
        if request.transport is None:  # the client has hung up: the chunks are for the next one
            return as_json({})
        most = 1 if request[PART] else len(job.chunks)
        chunks = [{"output": job.chunks.popleft()} for _ in range(min(most, len(job.chunks)))]
        return as_json({"status": job.state.value, "stream": chunks})

    async def _cancel(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        """A job that has ended stays as it is; the answer gives its state."""
        job = self._known(endpoint, job_id)
        endpoint.cancel(job)
        return as_json({"id": job.id, "status": job.state.value})

    async def _retry(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        job = self._known(endpoint, job_id)
        if not endpoint.retry(job):
            raise Refused(400, f"only FAILED and TIMED_OUT jobs can be retried; this one is {job.state.value}")
        return as_json({"id": job.id, "status": "IN_QUEUE"})

    async def _purge(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        return as_json({"removed": endpoint.purge(), "status": "completed"})

    async def _health(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        return as_json(endpoint.health())

    async def _requests(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        found = [{"id": job.id, "status": job.state.value} for job in endpoint.queue.jobs.values()]
        return as_json({"requests": found})

    async def _hold(
        self, request: web.Request, endpoint: Endpoint, job: Job, ready: Callable[[], bool], operation: str
    ) -> None:
        """Wait for a job. A request whose client has hung up stops to count as "at once" within a second."""
        until = time.monotonic() + self._wait_s(request, operation)
        while not ready() and job.gone is None and request.transport is not None:
            if (left_s := until - time.monotonic()) <= 0:
                return
            await endpoint.wait(job, ready, min(left_s, HUNG_UP_S))

    def _known(self, endpoint: Endpoint, job_id: str) -> Job:
        job = endpoint.queue.jobs.get(job_id)
        if job is None:
            raise Refused(404, "job not found")
        return job

    def _wait_s(self, request: web.Request, operation: str) -> float:
        least, most, default = WAIT_S[operation]
        wait_s = _milliseconds(request, "wait")
        if wait_s is None:
            return default
        return min(max(wait_s, least), most) if self.limits else wait_s


def _milliseconds(request: web.Request, name: str) -> float | None:
    """A number of the query, in seconds; None where there is none."""
    text = request.query.get(name) if request.query_string else None
    if text is None:
        return None
    try:
        found = float(text) / 1000
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise Refused(400, f"{name} must be a number of milliseconds")
    return found


GET, POST, BOTH = ("GET",), ("POST",), ("GET", "POST")
Answer = Callable[[JobRoutes, web.Request, Endpoint, str], Awaitable[web.Response]]
ROUTES: dict[str, tuple[tuple[str, ...], Answer | None]] = {
    "run": (POST, None),
    "runsync": (POST, None),
    "status": (BOTH, JobRoutes._status),
    "status-sync": (BOTH, JobRoutes._status),
    "stream": (BOTH, JobRoutes._stream),
    "cancel": (POST, JobRoutes._cancel),
    "retry": (POST, JobRoutes._retry),
    "purge-queue": (POST, JobRoutes._purge),
    "health": (GET, JobRoutes._health),
    "requests": (GET, JobRoutes._requests),
}
"""Operation -> its methods, and what answers it; None: a new job is accepted."""
