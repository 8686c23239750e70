"""The routes beside RunPod's own: `/_simulator` for tests, `/_worker` for the worker processes.

A worker process runs RunPod's official SDK, which takes jobs and gives results as the variables of its environment
say; these routes are that other side. A user's own image can join in the same way.

Next: ``workers.py``.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from celery_runpod.simulator_mine.faults import WrongFault
from celery_runpod.simulator_mine.jobs import FINAL
from celery_runpod.simulator_mine.server import Simulator
from celery_runpod.simulator_mine.workers import HandlerWorkers

TAKE_WAIT_S = 20.0


class Control:
    """Adds its routes to the simulator's application."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    def add_routes(self, app: web.Application) -> None:
        add = app.router.add_route
        add("GET", "/_simulator/jobs", self.jobs)
        add("GET", "/_simulator/requests", self.requests)
        add("POST", "/_simulator/reset", self.reset)
        add("GET", "/_simulator/faults", self.faults)
        add("POST", "/_simulator/faults", self.add_fault)
        add("DELETE", "/_simulator/faults", self.remove_faults)
        add("DELETE", "/_simulator/faults/{id}", self.remove_faults)
        for name in ("job-take", "job-take-batch"):
            add("GET", f"/_worker/{{endpoint}}/{name}/{{worker}}", self.take)
        add("GET", "/_worker/{endpoint}/job-stop/{worker}", self.stop)
        add("POST", "/_worker/{endpoint}/job-done/{worker}/{job}", self.done)
        add("POST", "/_worker/{endpoint}/job-stream/{worker}/{job}", self.stream)
        add("*", "/_worker/{endpoint}/ping/{worker}", self.ping)

    # For tests

    async def jobs(self, request: web.Request) -> web.Response:
        wanted = request.query.get("endpoint")
        found = [
            {
                "id": job.id,
                "endpoint": job.endpoint,
                "status": job.status,
                "input": job.input,
                "webhook": job.webhook,
                "attempts": job.attempts,
                "submitted_at": job.submitted_at,
                "ended_at": job.ended_at,
            }
            for endpoint in self.simulator.endpoints.values()
            if wanted in (None, endpoint.name)
            for job in endpoint.jobs.values()
        ]
        return web.json_response(found)

    async def requests(self, request: web.Request) -> web.Response:
        return web.json_response(self.simulator.counts)

    async def reset(self, request: web.Request) -> web.Response:
        for endpoint in self.simulator.endpoints.values():
            for job in list(endpoint.jobs.values()):
                endpoint.cancel(job, self.simulator.clock())
                endpoint.forget(job)
            endpoint.queue.clear()
        self.simulator.faults.rules.clear()
        self.simulator.counts.clear()
        return web.json_response({})

    async def faults(self, request: web.Request) -> web.Response:
        rules = self.simulator.faults.rules.values()
        return web.json_response(
            [{"id": f.id, "kind": f.kind, "endpoint": f.endpoint, "operation": f.operation, "struck": f.struck} for f in rules]
        )

    async def add_fault(self, request: web.Request) -> web.Response:
        try:
            fault_id = self.simulator.faults.add(await request.json())
        except (WrongFault, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"id": fault_id})

    async def remove_faults(self, request: web.Request) -> web.Response:
        rules, fault_id = self.simulator.faults.rules, request.match_info.get("id")
        if fault_id is None:
            rules.clear()
        elif rules.pop(fault_id, None) is None:
            return web.json_response({"error": f"no fault {fault_id!r}"}, status=404)
        return web.json_response({})

    # For worker processes

    async def take(self, request: web.Request) -> web.Response:
        workers, worker_id = self._workers(request)
        batch = request.query.get("batch_size")
        if request.query.get("job_in_progress") == "0":
            workers.idle(worker_id)
        found = []
        give_up = self.simulator.clock() + TAKE_WAIT_S
        while not found and self.simulator.clock() < give_up and workers.known(worker_id):
            for _ in range(int(batch) if batch and batch.isdigit() else 1):
                job = workers.take(worker_id)
                if job is None:
                    break
                found.append({"id": job.id, "input": job.input, "webhook": job.webhook, "delayTime": 0})
            if not found:
                await workers.wait_for_work(give_up - self.simulator.clock())
        if not found:
            return web.Response(status=204)
        return web.json_response(found if batch else found[0])

    async def stop(self, request: web.Request) -> web.Response:
        workers, worker_id = self._workers(request)
        ids = await workers.jobs_to_stop(worker_id, TAKE_WAIT_S)
        return web.json_response({"jobsToStop": ids}) if ids else web.Response(status=204)

    async def done(self, request: web.Request) -> web.Response:
        workers, worker_id = self._workers(request)
        raw = (await request.read()).decode("utf-8", "replace")
        try:
            body = json.loads(raw)
        except ValueError:
            # Some versions send the JSON text url-encoded, as their content type says.
            body = json.loads(unquote(raw).rstrip("="))
        workers.told(worker_id, request.match_info["job"], body, is_stream=request.query.get("isStream") == "true")
        return web.json_response({})

    async def stream(self, request: web.Request) -> web.Response:
        workers, _ = self._workers(request)
        body: Any = json.loads((await request.read()).decode("utf-8", "replace"))
        endpoint = self.simulator.endpoints[request.match_info["endpoint"]]
        job = endpoint.jobs.get(request.match_info["job"])
        if job is not None and job.status not in FINAL:
            chunk = body.get("output") if isinstance(body, dict) and "output" in body else body
            job.chunks.append(chunk)
            endpoint.news(job)
        return web.json_response({})

    async def ping(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.json_response({})

    def _workers(self, request: web.Request) -> tuple[HandlerWorkers, str]:
        endpoint = self.simulator.endpoints.get(request.match_info["endpoint"])
        if endpoint is None or not isinstance(endpoint.workforce, HandlerWorkers):
            raise web.HTTPNotFound(text="endpoint not found")
        if request.headers.get("Authorization", "").removeprefix("Bearer ") != endpoint.workforce.secret:
            raise web.HTTPUnauthorized(text="unauthorized")
        return endpoint.workforce, request.match_info["worker"]
