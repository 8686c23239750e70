"""The management API over HTTP: key, quota, route, body, and how answers and errors are written.

Errors are answered as RFC 9457 says (application/problem+json), and the quota stands in `RateLimit` headers. Faults and
counts are those of the job routes (``celery_runpod/_simulator/gateway.py``).

Not here: what the routes do (``*_routes.py``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from celery_runpod._simulator.faults import Fault
from celery_runpod._simulator.gateway import Gateway, accepts
from celery_runpod._simulator.management import body_shapes
from celery_runpod._simulator.management.pod_routes import PodRoutes
from celery_runpod._simulator.management.quotas import POLICY
from celery_runpod._simulator.management.report_routes import ReportRoutes
from celery_runpod._simulator.management.route_table import Account, Call, Follow, Problem, Reply, Route, Table, rfc3339
from celery_runpod._simulator.management.serverless_routes import ServerlessRoutes
from celery_runpod._simulator.management.simulated_pods import Status
from celery_runpod._simulator.request_rules import read_json

LOOK_S = 0.2
"""How often a followed log is looked at for new lines."""
QUIET_S = 15.0
"""Seconds without a line after which a comment is sent, so that proxies keep the connection."""
UNBUFFERED = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
"""What RunPod's description says is always sent with a log."""
SPOIL_THE_ANSWER = frozenset({"body", "drop_after", "status_after", "truncate"})


class Management:
    def __init__(self, account: Account, gateway: Gateway, key: str | None, *, limits: bool) -> None:
        self.account = account
        self.gateway = gateway
        self.key = key
        self.limits = limits
        self.table = Table(
            [*PodRoutes(account).routes(), *ServerlessRoutes(account).routes(), *ReportRoutes(account).routes()]
        )

    async def handle(self, request: web.Request, path: Sequence[str]) -> web.StreamResponse:
        """Answer one request, or not."""
        now = time.time()
        methods, ids = self.table.find(path)
        if not methods:
            return self._error(Problem(404, f"not found; the simulator has no /v2/{'/'.join(path)}"), now)
        route = methods.get(request.method)
        if route is None:
            answer = self._error(Problem(405, f"method not allowed; allowed: {', '.join(methods)}"), now)
            answer.headers["Allow"] = ", ".join(methods)
            return answer

        async def answered(faults: Mapping[str, Fault]) -> web.StreamResponse:
            try:
                return await self._answer(request, route, ids, faults)
            except Problem as problem:
                return self._error(problem, time.time())

        name = ids[0] if route.of_endpoint else "*"
        return await self.gateway.through(request, name, route.operation, answered)

    async def _answer(
        self, request: web.Request, route: Route, ids: list[str], faults: Mapping[str, Fault]
    ) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            raise Problem(401, "missing bearer token")
        if not accepts(self.key, header):
            raise Problem(401, "invalid bearer token")
        now = time.time()
        if self.limits and (window := self.account.quotas.take(now)):
            problem = f"rate limit exceeded for the {window} window"
            raise Problem(429, problem, retry_after_s=self.account.quotas.resets_s(window, now))
        call = Call(
            now=now,
            ids=ids,
            query=request.query,
            body=await _body(request, route),
            base=f"{request.scheme}://{request.host}",
            last_event_id=request.headers.get("Last-Event-ID"),
        )
        reply = route.do(call)
        if reply.follow is None:
            return self._written(reply, now)
        if faults.keys() & SPOIL_THE_ANSWER:
            return web.Response(body=b"".join(_events(reply.follow, now)), content_type="text/event-stream")
        return await self._followed(request, reply.follow)

    def _written(self, reply: Reply, now: float) -> web.Response:
        headers = self._headers(now)
        if reply.body is None:
            return web.Response(status=reply.status, headers=headers)
        body = json.dumps(reply.body).encode()
        return web.Response(body=body, status=reply.status, headers=headers, content_type="application/json")

    def _error(self, problem: Problem, now: float) -> web.Response:
        title = HTTPStatus(problem.status).phrase
        found: dict[str, object] = {"title": title, "status": problem.status, "detail": problem.detail}
        if problem.errors:
            found["errors"] = problem.errors
        headers = {} if problem.status == 401 else self._headers(now)
        if problem.retry_after_s is not None:
            headers["Retry-After"] = str(problem.retry_after_s)
        body = json.dumps(found).encode()
        return web.Response(body=body, status=problem.status, headers=headers, content_type="application/problem+json")

    def _headers(self, now: float) -> dict[str, str]:
        """The quota; without limits there are no such headers."""
        if not self.limits:
            return {}
        return {"RateLimit": self.account.quotas.left(now), "RateLimit-Policy": POLICY}

    async def _followed(self, request: web.Request, follow: Follow) -> web.StreamResponse:
        """A log as it grows, until the reader hangs up or the pod is terminated."""
        stream = web.StreamResponse(headers={**self._headers(time.time()), **UNBUFFERED})
        stream.content_type = "text/event-stream"
        await stream.prepare(request)
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            while request.transport is not None and not request.transport.is_closing():
                now = time.time()
                data = b"".join(_events(follow, now))
                follow = Follow(follow.pod, follow.sources, max(follow.skip, len(follow.pod.log(now))))
                if not data and loop.time() - sent_at > QUIET_S:
                    data = b": keep-alive\n\n"
                if data:
                    await stream.write(data)
                    sent_at = loop.time()
                if follow.pod.status(now) is Status.TERMINATED:
                    break
                await asyncio.sleep(LOOK_S)
            await stream.write_eof()
        except ConnectionError:
            pass  # the reader has hung up, which is how following ends
        return stream


def _events(follow: Follow, now: float) -> Iterator[bytes]:
    """The lines after those passed over, as events; an id is a time and the line's number."""
    for number, line in enumerate(follow.pod.log(now), start=1):
        if number > follow.skip and line.source in follow.sources:
            ts = rfc3339(line.at)
            data = json.dumps({"source": line.source, "line": line.text, "ts": ts})
            yield f"id: {ts}/{number:012d}\ndata: {data}\n\n".encode()


async def _body(request: web.Request, route: Route) -> object:
    """The body of a request, checked; None where the route takes none."""
    if route.shape is None:
        return None
    try:
        data = read_json(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, "the body is too large") from None
    except ValueError:
        raise Problem(400, "the body is not JSON") from None
    errors = body_shapes.problems(data, route.shape)
    if errors:
        raise Problem(422, "Request validation failed.", errors)
    return data  # type: ignore[no-any-return]
