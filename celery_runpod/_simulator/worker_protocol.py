"""The calls that workers make: job-take, job-take-batch, job-done, job-stream, job-stop, ping.

RunPod's own SDK inside a worker speaks this protocol; a Docker image joins in with the same environment variables
(`worker_processes.environment`), with RUNPOD_API_KEY as its key. Not here: what a call does to the workers
(``worker_fleet.py``).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from celery_runpod._simulator.faults import AT_RESULT, Faults
from celery_runpod._simulator.gateway import Refused, accepts, as_json, cut, faulty, spoiled
from celery_runpod._simulator.request_rules import read_json
from celery_runpod._simulator.simulated_jobs import LARGEST_RESULT, NOTHING, Job
from celery_runpod._simulator.worker_fleet import Fleet, Worker

CALLS = frozenset({"job-take", "job-take-batch", "job-done", "job-stream", "job-stop", "ping"})
HOLD_S = 15.0
LARGEST_CHUNK = 1_000_000


class WorkerCalls:
    """The calls of all workers."""

    def __init__(self, fleets: Mapping[str, Fleet], faults: Faults, key: str | None, *, limits: bool) -> None:
        self.fleets = fleets
        self.faults = faults
        self.key = key
        self.limits = limits
        self.token = secrets.token_urlsafe(24)

    async def handle(
        self, request: web.Request, name: str, call: str, worker_id: str, rest: Sequence[str]
    ) -> web.StreamResponse:
        """Answer a worker."""
        fleet = self.fleets.get(name)
        if fleet is None:
            raise Refused(404, "endpoint not found")
        header = request.headers.get("Authorization")
        if not (accepts(self.token, header) or accepts(self.key, header)):
            raise Refused(401, "unauthorized: the API key is missing or wrong")
        worker = fleet.known(worker_id)
        if worker is None:
            raise Refused(404, "this worker has been ended")
        if call in ("job-take", "job-take-batch"):
            return await self._take(request, fleet, worker, batch=call == "job-take-batch")
        if call == "job-stop":
            return await self._stop(worker)
        if call == "ping":
            fleet.running(worker, request.query.get("job_id", "").split(","))
            return as_json({})
        if len(rest) != 1:
            raise Refused(404, "not found")
        return await self._result(request, fleet, worker, rest[0], stream=call == "job-stream")

    async def _take(self, request: web.Request, fleet: Fleet, worker: Worker, *, batch: bool) -> web.Response:
        try:
            size = int(request.query.get("batch_size", "1")) if batch else 1
        except ValueError:
            raise Refused(400, "batch_size must be a whole number") from None
        idle = request.query.get("job_in_progress") == "0"
        taken = await fleet.ask(worker, max(1, size), idle=idle, seconds=HOLD_S)
        if delay_s := max((found.delay_s for found in taken), default=0.0):
            await asyncio.sleep(delay_s)
        taken = [found for found in taken if found.job.id in worker.jobs]  # not cancelled meanwhile
        if request.transport is None or request.transport.is_closing() or worker.leaving:
            fleet.back(worker, taken)
            taken = []
        if not taken:
            return web.Response(status=204)
        jobs = [_handed(found.job) for found in taken]
        return as_json(jobs if batch else jobs[0])

    async def _stop(self, worker: Worker) -> web.Response:
        try:
            job_ids = [await asyncio.wait_for(worker.stops.get(), HOLD_S)]
        except TimeoutError:
            return web.Response(status=204)
        while not worker.stops.empty():
            job_ids.append(worker.stops.get_nowait())
        found = [job_id for job_id in job_ids if job_id in worker.stopping]
        return as_json({"jobsToStop": found}) if found else web.Response(status=204)

    async def _result(
        self, request: web.Request, fleet: Fleet, worker: Worker, job_id: str, *, stream: bool
    ) -> web.StreamResponse:
        """job-done and job-stream, with their faults."""
        raw = await self._read(request, LARGEST_CHUNK if stream else LARGEST_RESULT)
        name = fleet.endpoint.name
        faults = self.faults.at(name, "worker", AT_RESULT)
        if "drop_before" in faults:
            return cut(request)
        if "status" in faults:
            return faulty(faults["status"], faults["status"].status)
        if stream:
            self._chunk(fleet, worker, job_id, raw)
        else:
            self._done(fleet, worker, job_id, raw)
        return await spoiled(request, as_json({}), faults)

    async def _read(self, request: web.Request, most: int) -> bytes | None:
        """The body of a request; None: it is too large."""
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return None
        return None if self.limits and len(raw) > most else raw

    def _chunk(self, fleet: Fleet, worker: Worker, job_id: str, raw: bytes | None) -> None:
        if raw is None:
            raise Refused(400, "a chunk of a stream is over 1 MB")
        job = worker.jobs.get(job_id)
        chunk = _parsed(raw)
        if job is not None and "output" in chunk:
            fleet.endpoint.stream(job, chunk["output"])

    def _done(self, fleet: Fleet, worker: Worker, job_id: str, raw: bytes | None) -> None:
        result: dict[str, Any] = {} if raw is None else _parsed(raw)
        if result.get("status") == "IN_PROGRESS":
            if job := worker.jobs.get(job_id):
                job.report(result.get("output"))
            return
        job = fleet.done(worker, job_id)
        if job is not None:
            error = result.get("error")
            fleet.endpoint.finish(
                job, output=result.get("output", NOTHING), error=NOTHING if error in (None, "", False) else error
            )
        if result.get("stopPod"):
            fleet.retire(worker)
        if raw is None:  # RunPod loses it, and the job is COMPLETED without output (runpod-python#309)
            raise Refused(400, "the result is over 20 MB")


def _handed(job: Job) -> dict[str, Any]:
    """A job as a worker gets it."""
    found = {"id": job.id, "input": job.input, "webhook": job.webhook}
    return found if job.s3_config is None else {**found, "s3Config": job.s3_config}


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        data = read_json(raw)
    except ValueError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise Refused(400, "the body is not a JSON object")
    return data
