"""The simulator as a server: its parts put together, started and stopped.

Not here: the command line (``celery_runpod/cli/simulator.py``).

Next: ``operations.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from celery_runpod.simulator import answers
from celery_runpod.simulator.answers import Refused
from celery_runpod.simulator.control import CALLS, Control
from celery_runpod.simulator.endpoint import Endpoint
from celery_runpod.simulator.faults import Faults
from celery_runpod.simulator.inspection import Inspection
from celery_runpod.simulator.operations import Operations
from celery_runpod.simulator.processes import Guard
from celery_runpod.simulator.specs import Spec, Synthetic
from celery_runpod.simulator.synthetic import SyntheticBackend
from celery_runpod.simulator.webhooks import Webhooks
from celery_runpod.simulator.workers import Fleet

LARGEST_BODY = 64 * 1024 * 1024
TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """How the simulator is run. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8900
    endpoints: Sequence[Spec] = ()
    faults: Sequence[Any] = ()
    key: str | None = None
    limits: bool = True
    retention: float | None = None
    webhook_retry_delay: float = 10.0
    webhook_timeout: float = 10.0


class Simulator:
    """A local RunPod."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.webhooks = Webhooks(self.faults, settings.webhook_retry_delay, settings.webhook_timeout)
        self.endpoints: dict[str, Endpoint] = {}
        self.guard = Guard()
        self.fleets: dict[str, Fleet] = {}
        for spec in settings.endpoints:
            endpoint = Endpoint(spec.name, self.faults, self.webhooks, settings.retention)
            if isinstance(spec, Synthetic):
                endpoint.backend = SyntheticBackend(endpoint, spec)
            else:
                endpoint.backend = self.fleets[spec.name] = Fleet(endpoint, spec, self.guard)
            self.endpoints[spec.name] = endpoint
        self.operations = Operations(self.endpoints, self.faults, settings.key, limits=settings.limits)
        self.control = Control(self.fleets, self.faults, settings.key)
        self.inspection = Inspection(self.endpoints, self.faults, self.operations, self.reset)
        self.reset()

    def reset(self) -> None:
        """As at the start: no jobs, no counts, the faults that were given at the start."""
        self.faults.remove()
        for rule in self.settings.faults:
            self.faults.add(rule)
        self.webhooks.reset()
        self.operations.reset()
        for endpoint in self.endpoints.values():
            endpoint.reset()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request."""
        parts = request.path.split("/")
        try:
            match parts[1:]:
                case ["v2", name, call, worker_id, *rest] if call in CALLS:
                    return await self.control.handle(request, name, call, worker_id, rest)
                case ["v2", name, operation]:
                    return await self.operations.handle(request, name, operation, None)
                case ["v2", name, operation, job_id]:
                    return await self.operations.handle(request, name, operation, job_id or None)
                case ["_simulator", *path]:
                    return await self.inspection.handle(request, path)
            raise Refused(404, "not found")
        except Refused as error:
            return answers.refused(error)

    async def start(self) -> tuple[web.AppRunner, str]:
        """Listen; the runner, and the address.

        Raises:
            OSError: the port is taken.
        """
        application = web.Application(client_max_size=LARGEST_BODY)
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
        for fleet in self.fleets.values():
            fleet.open(f"http://{loopback}:{port}", self.control.token)
        return runner, f"http://{shown}:{port}"

    async def close(self) -> None:
        """End everything that was started."""
        for endpoint in self.endpoints.values():
            await endpoint.backend.close()
        await self.webhooks.close()
        await self.guard.close()

    async def ticks(self) -> None:
        """Pass the time on."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.time()
            for endpoint in self.endpoints.values():
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


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """`serve`, in a loop of its own."""
    asyncio.run(serve(settings, ready))


def environment_key() -> str | None:
    """The one key that is accepted; None: any."""
    return os.environ.get("RUNPOD_API_KEY") or None
