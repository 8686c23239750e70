"""All simulated endpoints: those of the command line, and those that the management API adds and removes.

Whoever serves requests shares the dictionaries, so they are changed in place. Not here: one endpoint
(``simulated_endpoint.py``), what the management API says of them (``management/deployments.py``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence

from celery_runpod._devstack.process_guard import Guard
from celery_runpod._simulator.endpoint_specs import Handler, Spec, Synthetic
from celery_runpod._simulator.management.billing import Meter
from celery_runpod._simulator.management.deployments import DEFAULT_POOL, UNLIMITED, Deployment, WorkerView
from celery_runpod._simulator.simulated_endpoint import Endpoint
from celery_runpod._simulator.simulated_jobs import EXECUTION_TIMEOUT_S
from celery_runpod._simulator.synthetic import SyntheticRunner
from celery_runpod._simulator.worker_fleet import Fleet

DEFAULT_IDLE_S = 5


class Roster:
    """The endpoints by name. `fresh` makes one, still without a runner."""

    def __init__(self, specs: Sequence[Spec], fresh: Callable[[str], Endpoint]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.fresh = fresh
        self.guard = Guard()
        self.endpoints: dict[str, Endpoint] = {}
        self.fleets: dict[str, Fleet] = {}
        self.started_at = time.time()
        self._open: tuple[str, str] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.restore()

    def open(self, address: str, token: str) -> None:
        """Allow workers to be started, now that the server listens."""
        self._open = (address, token)
        for fleet in self.fleets.values():
            fleet.open(address, token)

    def restore(self) -> None:
        """Go back to the start: the endpoints of the command line and no others."""
        for name in self.endpoints.keys() - self.specs.keys():
            self.endpoints[name].reset()  # without jobs, `remove` sends no webhooks of their ends
            self.remove(name)
        for spec in self.specs.values():
            if spec.name not in self.endpoints:
                self._put(spec)
            else:
                self.endpoints[spec.name].reset()
                self._apply(spec.name, _deployment(spec, self.started_at))

    async def close(self) -> None:
        """End everything that was started."""
        for endpoint in self.endpoints.values():
            await endpoint.runner.close()
        await asyncio.gather(*self._closing)
        await asyncio.to_thread(self.guard.close)

    # What the management API does

    def initial(self) -> Iterable[Deployment]:
        return [_deployment(spec, self.started_at) for spec in self.specs.values()]

    def add(self, deployment: Deployment) -> None:
        self._put(Synthetic(deployment.id, workers=max(1, deployment.workers_max)))
        self.apply(deployment)

    def apply(self, deployment: Deployment) -> None:
        self._apply(deployment.id, deployment)

    def remove(self, endpoint_id: str) -> None:
        endpoint = self.endpoints.pop(endpoint_id)
        self.fleets.pop(endpoint_id, None)
        for job in list(endpoint.queue.jobs.values()):
            endpoint.cancel(job)
        # Closing ends worker processes: the answer does not wait for that.
        task = asyncio.get_running_loop().create_task(endpoint.runner.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def workers(self, endpoint_id: str) -> list[WorkerView]:
        now = time.time()
        return [WorkerView(*found) for found in self.endpoints[endpoint_id].runner.listing(now)]

    def meter(self, endpoint_id: str, now: float) -> Meter:
        endpoint = self.endpoints[endpoint_id]
        found = Meter()
        found.hours.update(endpoint.meter.hours)
        for job in endpoint.queue.running.values():
            found.add(now if job.started_at is None else job.started_at, now)
        return found

    def _put(self, spec: Spec) -> None:
        endpoint = self.fresh(spec.name)
        if isinstance(spec, Synthetic):
            endpoint.runner = SyntheticRunner(endpoint, spec)
        else:
            endpoint.runner = self.fleets[spec.name] = fleet = Fleet(endpoint, spec, self.guard)
            if self._open is not None:
                fleet.open(*self._open)
        self.endpoints[spec.name] = endpoint

    def _apply(self, name: str, deployment: Deployment) -> None:
        endpoint = self.endpoints[name]
        endpoint.execution_timeout_s = deployment.timeout_ms / 1000 or EXECUTION_TIMEOUT_S
        most = None if deployment.workers_max >= UNLIMITED else deployment.workers_max
        spec = self.specs.get(name)
        idle_s = float(deployment.idle_timeout)
        if isinstance(spec, Handler) and deployment.idle_timeout == _idle(spec):
            idle_s = spec.idle  # the management API shows it as whole seconds
        endpoint.runner.scale(deployment.workers_min, most, idle_s)


def _idle(spec: Spec) -> int:
    return min(3600, max(1, math.ceil(spec.idle))) if isinstance(spec, Handler) else DEFAULT_IDLE_S


def _deployment(spec: Spec, now: float) -> Deployment:
    """What the management API says of an endpoint of the command line."""
    kind = "synthetic" if isinstance(spec, Synthetic) else "external" if spec.path is None else spec.path.name
    return Deployment(
        spec.name,
        spec.name,
        now,
        image=f"simulator/{kind}",
        gpu={"pools": [DEFAULT_POOL], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None},
        workers_max=spec.workers or UNLIMITED,
        idle_timeout=_idle(spec),
        timeout_ms=round(EXECUTION_TIMEOUT_S * 1000),
    )
