"""HTTP answers, whole and broken: JSON, connections cut, answers cut in the middle, the status of a fault.

Not here: what is answered (``job_routes.py``, ``worker_protocol.py``, ``inspection.py``, ``management/``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from celery_runpod._simulator.faults import Fault

CDN_PAGE = "<html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


def as_json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")


def refused(error: Refused) -> web.Response:
    """429 comes as plain text: RunPod does not promise JSON there."""
    if error.status == 429:
        return web.Response(text=error.problem, status=429)
    return as_json({"error": error.problem}, error.status)


def faulty(fault: Fault, status: int) -> web.Response:
    """The answer of a fault `status` or `body`; without a body an error page as of a CDN."""
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


async def truncated(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Half of an answer that promises the whole."""
    body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    kind = answer.content_type if body else "application/json"
    headers = {"Content-Type": kind, "Content-Length": str(max(2, len(body)))}
    half = web.StreamResponse(status=answer.status, headers=headers)
    await half.prepare(request)
    await half.write(body[: len(body) // 2] or b"{")
    if request.transport is not None:
        request.transport.close()
    return half


async def spoiled(request: web.Request, answer: web.StreamResponse, faults: Mapping[str, Fault]) -> web.StreamResponse:
    """An answer with the faults that come after the deed."""
    if "body" in faults:
        answer = faulty(faults["body"], 200)
    if "drop_after" in faults:
        return cut(request)
    return await truncated(request, answer) if "truncate" in faults else answer


def milliseconds(request: web.Request, name: str) -> float | None:
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
