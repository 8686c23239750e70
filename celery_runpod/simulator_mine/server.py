"""The local RunPod's public routes: run, runsync, status, stream, cancel and the rest, as the real thing answers.

An async server, so that one core serves thousands of requests a second. The life of a job is in ``jobs.py``; the
routes for tests (`/_simulator`) and for worker processes (`/_worker`) in ``control.py``.

Next: ``endpoint.py``.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from celery_runpod.simulator_mine.endpoint import Endpoint
from celery_runpod.simulator_mine.faults import REQUEST_KINDS, Fault, Faults
from celery_runpod.simulator_mine.jobs import EXECUTION_TIMEOUT_S, FINAL, TTL_S, Job
from celery_runpod.simulator_mine.limits import Limits
from celery_runpod.simulator_mine.specs import Spec, Synthetic
from celery_runpod.simulator_mine.synthetic import SyntheticWorkers
from celery_runpod.simulator_mine.webhooks import Webhooks
from celery_runpod.simulator_mine.workers import HandlerWorkers

RUN_LIMIT_BYTES, RUNSYNC_LIMIT_BYTES = 10_000_000, 20_000_000
WITH_JOB = frozenset({"status", "status-sync", "stream", "cancel", "retry"})
STREAM_WAIT_S = 10.0


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


class Simulator:
    """All endpoints of one local RunPod.

    Args:
        api_key: any other key is refused; None accepts every key but no key at all.
        retention_s: how long results are kept, instead of RunPod's 30 minutes and 1 minute.
    """

    def __init__(
        self,
        specs: list[Spec],
        *,
        api_key: str | None = None,
        limits: bool = True,
        retention_s: float | None = None,
        webhook_retry_delay_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.api_key = api_key
        self.clock = clock
        self.specs = specs
        self.retention_s = retention_s
        self.faults = Faults()
        self.limits = Limits(limits)
        self.webhooks = Webhooks(self.faults, webhook_retry_delay_s)
        self.counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.address = ""
        self.endpoints: dict[str, Endpoint] = {}
        for spec in specs:
            endpoint = Endpoint(spec.name, clock, retention_s)
            if isinstance(spec.kind, Synthetic):
                endpoint.workforce = SyntheticWorkers(endpoint, spec.kind)
            else:
                endpoint.workforce = HandlerWorkers(endpoint, spec.kind, self)
            endpoint.on_end.append(self.webhooks.ended)
            endpoint.on_start += [self.webhooks.started, self._maybe_crash]
            self.endpoints[spec.name] = endpoint
        self._operations: dict[str, Callable[[Endpoint, web.Request, str], Awaitable[Any]]] = {
            "run": self._run,
            "runsync": self._runsync,
            "status": self._status,
            "status-sync": self._status_sync,
            "stream": self._stream,
            "cancel": self._cancel,
            "retry": self._retry,
            "purge-queue": self._purge,
            "health": self._health,
            "requests": self._requests,
        }

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        app.router.add_route("*", "/v2/{endpoint}/{operation}", self._serve)
        app.router.add_route("*", "/v2/{endpoint}/{operation}/{job}", self._serve)
        return app

    async def close(self) -> None:
        for endpoint in self.endpoints.values():
            await endpoint.workforce.close()
            endpoint.close_timer()
        await self.webhooks.close()

    # One request

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info
        name, operation, job_id = names["endpoint"], names["operation"], names.get("job", "")
        faults = self.faults.striking(name, operation, REQUEST_KINDS)
        for fault in faults:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "drop_before":
                return _cut(request)
        status, body, headers = await self._answer(request, name, operation, job_id, faults)
        if any(fault.kind == "drop_after" for fault in faults):
            self.counts[operation]["dropped"] += 1
            return _cut(request)
        self.counts[operation][str(status)] += 1
        if any(fault.kind == "truncate" for fault in faults):
            return await _truncated(request, body)
        return web.Response(body=body, status=status, headers=headers, content_type="application/json")

    async def _answer(
        self, request: web.Request, name: str, operation: str, job_id: str, faults: list[Fault]
    ) -> tuple[int, bytes, dict[str, str] | None]:
        for fault in faults:
            if fault.kind == "status":
                body = fault.body if fault.body is not None else json.dumps({"error": f"fault: {fault.status}"})
                return fault.status, body.encode(), fault.headers
            if fault.kind == "body":
                await self._do(request, name, operation, job_id, faults)
                return 200, (fault.body or "").encode(), fault.headers
        return await self._do(request, name, operation, job_id, faults)

    async def _do(
        self, request: web.Request, name: str, operation: str, job_id: str, faults: list[Fault]
    ) -> tuple[int, bytes, dict[str, str] | None]:
        try:
            endpoint = self.endpoints.get(name)
            act = self._operations.get(operation)
            if endpoint is None:
                raise Refused(404, "endpoint not found")
            self._check_key(request)
            if act is None or (operation in WITH_JOB) != bool(job_id):
                raise Refused(404, "not found")
            if not self.limits.enter(name, operation, self.clock()):
                raise Refused(429, "too many requests")
            try:
                found = await act(endpoint, request, job_id)
            finally:
                self.limits.leave(name, operation)
            self._after(endpoint, found, faults)
            return 200, json.dumps(found).encode(), None
        except Refused as refused:
            return refused.status, json.dumps({"error": refused.text}).encode(), refused.headers

    def _after(self, endpoint: Endpoint, found: Any, faults: list[Fault]) -> None:
        """Faults of RunPod itself: a job forgotten, a job run twice."""
        for fault in faults:
            job = endpoint.jobs.get(str(found.get("id"))) if isinstance(found, dict) else None
            if job is None:
                continue
            if fault.kind == "vanish":
                endpoint.forget(job)
            elif fault.kind == "run_twice":
                copy = Job(id=f"{job.id}-again", endpoint=job.endpoint, input=job.input, submitted_at=self.clock())
                copy.webhook = job.webhook
                endpoint.jobs[copy.id] = copy
                endpoint.watch(copy)
                endpoint.enqueue(copy, self.clock())

    def _maybe_crash(self, job: Job) -> None:
        """The fault `crash`: the worker that has just taken this job dies."""
        for fault in self.faults.striking(job.endpoint, "worker", frozenset({"crash"})):
            workforce: Any = self.endpoints[job.endpoint].workforce
            asyncio.get_running_loop().call_later(fault.seconds if fault.seconds != 1.0 else 0.01, workforce.crash, job)

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not given or (self.api_key and not hmac.compare_digest(given.encode(), self.api_key.encode())):
            raise Refused(401, "unauthorized")

    # The operations

    async def _run(self, endpoint: Endpoint, request: web.Request, _: str) -> dict[str, Any]:
        job = await self._submit(endpoint, request, RUN_LIMIT_BYTES, sync=False)
        return {"id": job.id, "status": "IN_QUEUE"}

    async def _runsync(self, endpoint: Endpoint, request: web.Request, _: str) -> dict[str, Any]:
        wait_s = _wait_s(request, 90.0, 1.0, 300.0)
        job = await self._submit(endpoint, request, RUNSYNC_LIMIT_BYTES, sync=True)
        await self._until_final(endpoint, job, wait_s)
        return job.answer() if job.status in FINAL else {"id": job.id, "status": job.status}

    async def _submit(self, endpoint: Endpoint, request: web.Request, limit: int, *, sync: bool) -> Job:
        if request.method != "POST":
            raise Refused(405, "use POST")
        raw = await request.read()
        if len(raw) > limit:
            raise Refused(413, f"request body over {limit // 1_000_000} MB")
        body = _json(raw)
        if "input" not in body:
            raise Refused(400, "input is missing")
        policy = body.get("policy") or {}
        webhook = body.get("webhook")
        if not isinstance(policy, dict) or not (webhook is None or isinstance(webhook, str)):
            raise Refused(400, "policy must be an object and webhook a URL")
        return endpoint.submit(
            body["input"],
            self.clock(),
            sync=sync,
            webhook=webhook or None,
            execution_timeout_s=_policy_s(policy, "executionTimeout", EXECUTION_TIMEOUT_S, 5),
            ttl_s=_policy_s(policy, "ttl", TTL_S, 10),
            low_priority=policy.get("lowPriority") is True,
        )

    async def _status(self, endpoint: Endpoint, request: web.Request, job_id: str) -> dict[str, Any]:
        job = _job(endpoint, job_id)
        ttl_ms = request.query.get("ttl", "")
        if ttl_ms.isdigit():
            job.ttl_s = int(ttl_ms) / 1000
            endpoint.watch(job)
        return job.answer()

    async def _status_sync(self, endpoint: Endpoint, request: web.Request, job_id: str) -> dict[str, Any]:
        job = _job(endpoint, job_id)
        await self._until_final(endpoint, job, _wait_s(request, 90.0, 1.0, 90.0))
        return job.answer()

    async def _stream(self, endpoint: Endpoint, request: web.Request, job_id: str) -> dict[str, Any]:
        job = _job(endpoint, job_id)
        give_up = self.clock() + _wait_s(request, STREAM_WAIT_S, 0.0, 90.0)
        while not job.chunks and job.status not in FINAL and self.clock() < give_up:
            await endpoint.wait_for_news(job, give_up - self.clock())
        chunks = [{"output": chunk} for chunk in job.chunks]
        job.chunks.clear()
        return {"status": job.status, "stream": chunks}

    async def _cancel(self, endpoint: Endpoint, request: web.Request, job_id: str) -> dict[str, Any]:
        job = _job(endpoint, job_id)
        if job.status in FINAL and job.status != "CANCELLED":
            raise Refused(400, f"job is {job.status}")
        endpoint.cancel(job, self.clock())
        return {"id": job.id, "status": "CANCELLED"}

    async def _retry(self, endpoint: Endpoint, request: web.Request, job_id: str) -> dict[str, Any]:
        job = _job(endpoint, job_id)
        if job.status not in ("FAILED", "TIMED_OUT"):
            raise Refused(400, f"job is {job.status}; only FAILED and TIMED_OUT jobs can be retried")
        job.again(self.clock())
        endpoint.watch(job)
        endpoint.enqueue(job, self.clock())
        return {"id": job.id, "status": "IN_QUEUE"}

    async def _purge(self, endpoint: Endpoint, request: web.Request, _: str) -> dict[str, Any]:
        return {"removed": endpoint.purge(self.clock()), "status": "completed"}

    async def _health(self, endpoint: Endpoint, request: web.Request, _: str) -> dict[str, Any]:
        return {"jobs": endpoint.counts(), "workers": endpoint.workforce.health()}

    async def _requests(self, endpoint: Endpoint, request: web.Request, _: str) -> dict[str, Any]:
        return {"requests": [job.answer() for job in endpoint.jobs.values()]}

    async def _until_final(self, endpoint: Endpoint, job: Job, wait_s: float) -> None:
        give_up = self.clock() + wait_s
        while job.status not in FINAL and endpoint.jobs.get(job.id) is job and self.clock() < give_up:
            await endpoint.wait_for_news(job, give_up - self.clock())


def _job(endpoint: Endpoint, job_id: str) -> Job:
    job = endpoint.jobs.get(job_id)
    if job is None:
        raise Refused(404, "job not found")
    return job


def _json(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is not an object")
    return body


def _wait_s(request: web.Request, default: float, low: float, high: float) -> float:
    given = request.query.get("wait", "")
    return min(max(int(given) / 1000, low), high) if given.isdigit() else default


def _policy_s(policy: dict[str, Any], name: str, default: float, low: float) -> float:
    given = policy.get(name)
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given / 1000 <= 7 * 86_400:
        raise Refused(400, f"policy.{name} is {given!r}; allowed: {low * 1000} to 604800000 ms")
    return given / 1000


def _cut(request: web.Request) -> web.Response:
    """Cut the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, body: bytes) -> web.StreamResponse:
    """Promise a whole answer, send half."""
    answer = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return answer
