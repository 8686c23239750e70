"""What stands between a client and the simulated RunPod: the key, faults at requests, counts, answers and broken answers.

Shared by the job routes, the workers' calls and the management API. Not here: which fault applies (``faults.py``), what
a request must hold (``request_rules.py``).
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from celery_runpod._simulator.faults import Fault, Faults

CDN_PAGE = "<html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem

    def answer(self) -> web.Response:
        """429 comes as plain text: RunPod does not promise JSON there."""
        if self.status == 429:
            return web.Response(text=self.problem, status=429)
        return as_json({"error": self.problem}, self.status)


class Gateway:
    """Answers requests, with their faults. `counts`: operation -> status, or `dropped` -> number of requests."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.counts: dict[str, Counter[str]] = {}

    async def through(
        self,
        request: web.Request,
        endpoint: str,
        operation: str,
        answered: Callable[[Mapping[str, Fault]], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Answer one request by `answered`, or not. A request that is cut off before does not count."""
        faults = self.faults.at(endpoint, operation)
        if "delay" in faults:
            await asyncio.sleep(faults["delay"].seconds_s)
        if "drop_before" in faults:
            return cut(request)
        if "status" in faults:
            answer: web.StreamResponse = faulty(faults["status"], faults["status"].status)
        else:
            try:
                answer = await answered(faults)
            except Refused as error:
                answer = error.answer()
        if "status_after" in faults:
            answer = faulty(faults["status_after"], faults["status_after"].status)
        status = "200" if "body" in faults else str(answer.status)
        self.counts.setdefault(operation, Counter())["dropped" if "drop_after" in faults else status] += 1
        return await spoiled(request, answer, faults)


def accepts(key: str | None, header: str | None) -> bool:
    """Whether a header `Authorization` holds the key, as `Bearer KEY` or bare; any key will do when none is set."""
    given = (header or "").removeprefix("Bearer ").strip()
    return bool(given) if not key else hmac.compare_digest(given.encode(), key.encode())


def as_json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")


def faulty(fault: Fault, status: int) -> web.Response:
    """The answer of a fault `status` or `body`; without a body, an error page as a CDN sends it."""
    text = CDN_PAGE.format(status=status) if fault.body is None else fault.body
    kind = "text/html" if fault.body is None else "application/json"
    given = {name.lower() for name in fault.headers}
    headers = fault.headers if "content-type" in given else {**fault.headers, "Content-Type": kind}
    return web.Response(body=text.encode(), status=status, headers=headers)


def cut(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def spoiled(request: web.Request, answer: web.StreamResponse, faults: Mapping[str, Fault]) -> web.StreamResponse:
    """An answer with the faults that come after the deed."""
    if "body" in faults:
        answer = faulty(faults["body"], 200)
    if "drop_after" in faults:
        return cut(request)
    return await _truncated(request, answer) if "truncate" in faults else answer


async def _truncated(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Send half of an answer whose length promises the whole."""
    body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    kind = answer.content_type if body else "application/json"
    headers = {"Content-Type": kind, "Content-Length": str(max(2, len(body)))}
    half = web.StreamResponse(status=answer.status, headers=headers)
    await half.prepare(request)
    await half.write(body[: len(body) // 2] or b"{")
    if request.transport is not None:
        request.transport.close()
    return half
