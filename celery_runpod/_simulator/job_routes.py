"""The operations that RunPod's users call: `/v2/{endpoint}/run`, `/status/{id}` and the others, with their faults.

The order of a request: faults (they stand for everything between user and RunPod), endpoint, key, rate, method, body.
Not here: what workers call (``worker_protocol.py``), the simulator's own routes (``inspection.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from celery_runpod._simulator import answers, submission
from celery_runpod._simulator.answers import Refused, as_json
from celery_runpod._simulator.endpoint import Endpoint
from celery_runpod._simulator.faults import OF_A_JOB, SUBMITS, Fault
from celery_runpod._simulator.gateway import Gateway, accepts
from celery_runpod._simulator.jobs import Job
from celery_runpod._simulator.limits import Rates

ASKED = frozenset({"status", "status-sync", "stream"})
"""Both GET and POST."""
GET_ONLY = frozenset({"health", "requests"})
WAIT_S = {"runsync": (1.0, 300.0, 90.0), "status-sync": (1.0, 90.0, 90.0), "stream": (0.0, 90.0, 5.0)}
"""Least, most and default `wait` in seconds; RunPod documents those of /runsync alone."""

HUNG_UP_S = 1.0
"""How often a held request looks whether its client is still there."""


class Operations:
    """See the module."""

    def __init__(self, endpoints: Mapping[str, Endpoint], gateway: Gateway, key: str | None, *, limits: bool) -> None:
        self.endpoints = endpoints
        self.gateway = gateway
        self.key = key
        self.limits = limits
        self.rates = Rates()
        self._do: dict[str, Callable[[web.Request, Endpoint, str], Awaitable[web.Response]]] = {
            "status": self._status,
            "status-sync": self._status,
            "stream": self._stream,
            "cancel": self._cancel,
            "retry": self._retry,
            "purge-queue": self._purge,
            "health": self._health,
            "requests": self._requests,
        }

    async def handle(self, request: web.Request, name: str, operation: str, job_id: str | None) -> web.StreamResponse:
        """Answer one request, or not."""
        offered = operation in SUBMITS or operation in self._do
        if not offered or (job_id is not None) is not (operation in OF_A_JOB):
            known = name in self.endpoints
            return answers.refused(Refused(404, "not found" if known else "endpoint not found"))
        return await self.gateway.through(
            request, name, operation, lambda faults: self._checked(request, name, operation, job_id, faults)
        )

    def reset(self) -> None:
        self.rates.reset()

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
            allowed = ("GET", "POST") if operation in ASKED else ("GET",) if operation in GET_ONLY else ("POST",)
            if request.method not in allowed:
                raise Refused(405, f"method not allowed; allowed: {', '.join(allowed)}")
            if job_id is not None and "vanish" in faults and (job := endpoint.store.jobs.get(job_id)):
                endpoint.forget(job, "VANISHED")
            if operation not in SUBMITS:
                return await self._do[operation](request, endpoint, job_id or "")
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
        """A new job in the queue."""
        largest = submission.LARGEST[operation]
        too_large = Refused(413, f"the body of /{operation} is over {largest // 1_000_000} MB")
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        if len(raw) > largest and self.limits:
            raise too_large
        try:
            job = submission.parse(
                raw,
                endpoint.name,
                time.time(),
                sync=operation == "runsync",
                limits=self.limits,
                execution_timeout_s=endpoint.execution_timeout_s,
            )
        except submission.BadSubmission as error:
            raise Refused(400, str(error)) from None
        job.repeat = "run_twice" in faults
        if "crash" in faults:
            job.marks["crash"] = faults["crash"].seconds_s
        if "vanish" in faults and faults["vanish"].seconds_s == 0:
            endpoint.store.forget(job, "VANISHED")
            return job
        endpoint.submit(job)
        if "vanish" in faults:
            loop = asyncio.get_running_loop()
            loop.call_later(faults["vanish"].seconds_s, endpoint.forget, job, "VANISHED")
        return job

    async def _status(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        job = self._known(endpoint, job_id)
        ttl_s = answers.milliseconds(request, "ttl")
        if ttl_s is not None:
            job.ttl_s = ttl_s
            endpoint.store.watch(job)
        if "/status-sync/" in request.path:
            await self._hold(request, endpoint, job, lambda: job.ended, "status-sync")
            self._known(endpoint, job_id)
        return as_json(job.answer())

    async def _stream(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        job = self._known(endpoint, job_id)
        await self._hold(request, endpoint, job, lambda: bool(job.chunks) or job.ended, "stream")
        self._known(endpoint, job_id)
        if request.transport is None:  # nobody is there to read: the chunks are for the next one
            return as_json({})
        chunks = [{"output": chunk} for chunk in job.chunks]
        job.chunks.clear()
        return as_json({"status": job.state.value, "stream": chunks})

    async def _cancel(self, request: web.Request, endpoint: Endpoint, job_id: str) -> web.Response:
        """A job that has ended stays as it is, and says so."""
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
        found = [{"id": job.id, "status": job.state.value} for job in endpoint.store.jobs.values()]
        return as_json({"requests": found})

    async def _hold(
        self, request: web.Request, endpoint: Endpoint, job: Job, ready: Callable[[], bool], operation: str
    ) -> None:
        """Wait for a job. A client that has hung up gives back its place among those "at once" within a second."""
        until = time.monotonic() + self._wait_s(request, operation)
        while not ready() and job.gone is None and request.transport is not None:
            if (left_s := until - time.monotonic()) <= 0:
                return
            await endpoint.wait(job, ready, min(left_s, HUNG_UP_S))

    def _known(self, endpoint: Endpoint, job_id: str) -> Job:
        job = endpoint.store.jobs.get(job_id)
        if job is None:
            raise Refused(404, "job not found")
        return job

    def _wait_s(self, request: web.Request, operation: str) -> float:
        least, most, default = WAIT_S[operation]
        wait_s = answers.milliseconds(request, "wait")
        if wait_s is None:
            return default
        return min(max(wait_s, least), most) if self.limits else wait_s
