"""The simulator as a server: puts its parts together, starts and stops them, and has the routes `/_simulator/...`.

Its own routes are for tests and take no key: faults, jobs, counts of requests, reset. Not here: anything that RunPod
has, the command line (``celery_runpod/_cli/simulator_command.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from celery_runpod._simulator.endpoint_roster import Roster
from celery_runpod._simulator.endpoint_specs import RESERVED, Spec
from celery_runpod._simulator.faults import BadFault, Faults
from celery_runpod._simulator.gateway import Gateway, Refused, as_json
from celery_runpod._simulator.job_routes import JobRoutes
from celery_runpod._simulator.management.deployments import Deployments
from celery_runpod._simulator.management.management_http import Management
from celery_runpod._simulator.management.route_table import Account
from celery_runpod._simulator.management.simulated_pods import Pace, Pods
from celery_runpod._simulator.request_rules import read_json
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.webhook_sender import WebhookSender
from celery_runpod._simulator.worker_protocol import CALLS, WorkerCalls

LARGEST_BODY = 64 * 1024 * 1024
TICK_S = 0.05
OWN_ROUTES = (
    "GET, POST, DELETE /_simulator/faults; DELETE /_simulator/faults/{id}; GET /_simulator/jobs; "
    "GET /_simulator/requests; POST /_simulator/reset"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the simulator is run. Times in seconds; `key` is the one API key that it accepts, None any."""

    host: str = "127.0.0.1"
    port: int = 8900
    endpoints: Sequence[Spec] = ()
    faults: Sequence[Any] = ()
    key: str | None = None
    limits: bool = True
    retention_s: float | None = None
    webhook_retry_delay_s: float = 10.0
    webhook_timeout_s: float = 10.0
    pace: Pace = field(default_factory=Pace)


NO_GRAPHQL = "the local RunPod has no GraphQL; it has the routes /v2/pods, /v2/serverless and /v2/catalog/gpus"
"""What RunPod's Python SDK raises for its pods, endpoints and GPUs."""


class Simulator:
    """A local RunPod."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.webhooks = WebhookSender(self.faults, settings.webhook_retry_delay_s, settings.webhook_timeout_s)
        self.roster = Roster(settings.endpoints, self._endpoint)
        self.endpoints = self.roster.endpoints
        self.gateway = Gateway(self.faults)
        self.account = Account(Pods(settings.pace), Deployments(self.roster))
        self.job_routes = JobRoutes(self.endpoints, self.gateway, settings.key, limits=settings.limits)
        self.management = Management(self.account, self.gateway, settings.key, limits=settings.limits)
        self.worker_calls = WorkerCalls(self.roster.fleets, self.faults, settings.key, limits=settings.limits)
        self.reset()

    def reset(self) -> None:
        """Go back to the start: no jobs, no pods, no counts, the endpoints and faults of the settings."""
        self.faults.remove()
        for rule in self.settings.faults:
            self.faults.add(rule)
        self.webhooks.reset()
        self.gateway.counts.clear()
        self.job_routes.rates.reset()
        self.roster.restore()
        self.account.reset()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        parts = request.path.split("/")
        try:
            match parts[1:]:
                case ["v2", first, *rest] if first in RESERVED:
                    # The first words of the management API go before the names of endpoints.
                    return await self.management.handle(request, [first, *rest])
                case ["v2", name, call, worker_id, *rest] if call in CALLS:
                    return await self.worker_calls.handle(request, name, call, worker_id, rest)
                case ["v2", name, operation]:
                    return await self.job_routes.handle(request, name, operation, None)
                case ["v2", name, operation, job_id]:
                    return await self.job_routes.handle(request, name, operation, job_id or None)
                case ["graphql"]:
                    return as_json({"errors": [{"message": NO_GRAPHQL}]})
                case ["_simulator", *path]:
                    return as_json(await self._own_route(request, path))
            raise Refused(404, "not found")
        except Refused as error:
            return error.answer()

    async def _own_route(self, request: web.Request, path: Sequence[str]) -> Any:
        """What `/_simulator/` + path answers."""
        match (request.method, *path):
            case ("POST", "faults"):
                return {"id": self._add_fault(await request.read())}
            case ("GET", "faults"):
                return [fault.described() for fault in self.faults.rules.values()]
            case ("DELETE", "faults"):
                self.faults.remove()
            case ("DELETE", "faults", fault_id):
                if not self.faults.remove(fault_id):
                    raise Refused(404, f"no fault {fault_id!r}")
            case ("GET", "jobs"):
                return self._listing(request.query.get("endpoint"))
            case ("GET", "requests"):
                return self.gateway.counts
            case ("POST", "reset"):
                self.reset()
            case _:
                raise Refused(404, f"not found; there is: {OWN_ROUTES}")
        return {}

    def _add_fault(self, raw: bytes) -> str:
        try:
            return self.faults.add(read_json(raw)).id
        except BadFault as error:
            raise Refused(400, str(error)) from None
        except ValueError:
            raise Refused(400, "the body is not JSON") from None

    def _listing(self, name: str | None) -> list[dict[str, Any]]:
        if name is not None and name not in self.endpoints:
            raise Refused(404, f"no endpoint {name!r}; there is: {', '.join(self.endpoints) or 'none'}")
        found = [self.endpoints[name]] if name else list(self.endpoints.values())
        return [job for endpoint in found for job in endpoint.queue.listing()]

    def _endpoint(self, name: str) -> Endpoint:
        return Endpoint(name, self.faults, self.webhooks, self.settings.retention_s)

    async def start(self) -> tuple[web.AppRunner, str]:
        """Listen; the runner, and the address.

        Raises:
            OSError: the port is taken.
        """
        application = web.Application(client_max_size=LARGEST_BODY if self.settings.limits else 0)  # 0: any
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.settings.host, self.settings.port, backlog=4096).start()
        except OSError:
            await runner.cleanup()
            raise
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, shown)
        self.roster.open(f"http://{loopback}:{port}", self.worker_calls.token)
        return runner, f"http://{shown}:{port}"

    async def close(self) -> None:
        """End everything that was started."""
        await self.roster.close()
        await self.webhooks.close()

    async def ticks(self) -> None:
        """Do what has come due, until this is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.time()
            for endpoint in list(self.endpoints.values()):
                endpoint.tick(now)


async def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; `ready` is called with the address.

    Raises:
        OSError: the port is taken.
        BadFault: a rule of `settings.faults` cannot be.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    simulator = Simulator(settings)
    runner, address = await simulator.start()
    ticks = loop.create_task(simulator.ticks())
    ticks.add_done_callback(lambda _: ended.set())
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        ready(address)
        await ended.wait()
    finally:
        ticks.cancel()
        await simulator.close()
        await runner.cleanup()
        with contextlib.suppress(asyncio.CancelledError):
            await ticks
