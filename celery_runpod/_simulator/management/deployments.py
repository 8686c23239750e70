"""What the account says of its serverless endpoints: compute, workers, scaling, price. Pure, but for the `Stage`.

The simulator's own endpoints are listed here under their names; one that is created becomes a synthetic endpoint and
takes jobs at once. Not here: queues and workers (``celery_runpod/_simulator/simulated_endpoint.py``), starting
and removing them (``celery_runpod/_simulator/endpoint_roster.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

from celery_runpod._simulator.management import catalog
from celery_runpod._simulator.management.billing import Meter, Window

UNLIMITED = 1_000_000
"""The shown `workers.max` of an endpoint that has no limit."""
RELEASING = frozenset({"image", "args", "disk", "ports", "env", "registry", "gpu", "cpu", "template"})
"""A change of these makes a new version of the endpoint."""
DEFAULT_POOL = "ADA_24"


class WorkerView(NamedTuple):
    """A worker as the management API shows it. `status`: RUNNING, IDLE, INITIALIZING."""

    id: str
    status: str
    started_at: float


@dataclass(slots=True)
class Deployment:
    """One endpoint's settings. `gpu` or `cpu`, in the shapes of the API."""

    id: str
    name: str
    created_at: float
    image: str = ""
    args: str = ""
    disk: int = 20
    ports: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    registry: str | None = None
    gpu: dict[str, Any] | None = None
    cpu: list[dict[str, Any]] | None = None
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout: int = 5
    scaling: dict[str, Any] = field(default_factory=lambda: {"type": "QUEUE_DELAY", "queueDelay": 4})
    data_centers: list[str] = field(default_factory=list)
    network_volumes: list[str] = field(default_factory=list)
    timeout_ms: int = 600_000
    flashboot: str = "OFF"
    template: str | None = None
    version: int = 0

    @property
    def gpu_type(self) -> catalog.Gpu | None:
        """What its workers run on; raises `catalog.NotPlaced` for what there is not."""
        if self.gpu is None:
            return None
        return catalog.serverless_gpus(self.gpu["pools"], self.gpu.get("excludedTypes", []))[0]

    @property
    def gpu_count(self) -> int:
        return int(self.gpu["count"]) if self.gpu is not None else 0

    @property
    def price_per_h(self) -> float:
        """USD of one worker; raises `catalog.NotPlaced` for what there is not."""
        if (gpu := self.gpu_type) is not None:
            return catalog.serverless_price(gpu, self.gpu_count)
        first = (self.cpu or [{"id": "cpu3c", "vcpuCount": 2}])[0]
        return catalog.serverless_cpu_price(first["id"], first["vcpuCount"])

    @property
    def data_center(self) -> str:
        return catalog.data_center(self.data_centers)


class Stage(Protocol):
    """Where endpoints really run."""

    def add(self, deployment: Deployment) -> None:
        """Have a synthetic endpoint of this id take jobs."""

    def remove(self, endpoint_id: str) -> None:
        """End its workers, cancel its jobs, know it no longer."""

    def apply(self, deployment: Deployment) -> None:
        """Have the workers and the execution timeout be as the deployment says."""

    def workers(self, endpoint_id: str) -> list[WorkerView]:
        """The workers that there are now."""

    def meter(self, endpoint_id: str, now: float) -> Meter:
        """The seconds that its jobs ran, those that run included."""

    def initial(self) -> Iterable[Deployment]:
        """The endpoints as at the start."""


@dataclass(frozen=True, slots=True)
class EndpointCost:
    """One endpoint in one bucket."""

    deployment: Deployment
    start: float
    end: float
    seconds: float
    amount: float


class Deployments:
    """The serverless endpoints of the account; those that were deleted are kept for the bill."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.all: dict[str, Deployment] = {}
        self._deleted: list[tuple[Deployment, Meter]] = []

    def find(self, endpoint_id: str) -> Deployment | None:
        return self.all.get(endpoint_id)

    def create(self, deployment: Deployment) -> None:
        """A new endpoint; raises `catalog.NotPlaced` before anything was done."""
        _checked(deployment)
        self.all[deployment.id] = deployment
        self.stage.add(deployment)

    def update(self, deployment: Deployment, changes: Mapping[str, Any]) -> None:
        """Change fields; raises `catalog.NotPlaced` before anything was done."""
        before = {one.name: getattr(deployment, one.name) for one in fields(deployment)}
        _checked(Deployment(**{**before, **changes}))
        for name, value in changes.items():
            setattr(deployment, name, value)
        if any(before[name] != value for name, value in changes.items() if name in RELEASING):
            deployment.version += 1
        self.stage.apply(deployment)

    def delete(self, deployment: Deployment, now: float) -> None:
        """It is gone, with its jobs."""
        meter = self.stage.meter(deployment.id, now)
        self.stage.remove(deployment.id)
        del self.all[deployment.id]
        self._deleted.append((deployment, meter))

    def costs(self, window: Window, now: float) -> list[EndpointCost]:
        """A row for each endpoint and bucket in which jobs ran, in the order of time."""
        known = [(one, self.stage.meter(one.id, now)) for one in self.all.values()] + self._deleted
        first = min((meter.first(now) for _, meter in known), default=now)
        found = []
        for start, end in window.buckets(first, now):
            for one, meter in known:
                if seconds := meter.between(start, end):
                    found.append(EndpointCost(one, start, end, seconds, seconds / 3600 * one.price_per_h))
        return found

    def reset(self) -> None:
        """As at the start."""
        self.all = {deployment.id: deployment for deployment in self.stage.initial()}
        self._deleted.clear()


def _checked(deployment: Deployment) -> None:
    """Raises `catalog.NotPlaced` where it could not run."""
    for cpu in deployment.cpu or ():
        catalog.serverless_cpu_price(cpu["id"], cpu["vcpuCount"])
    assert deployment.price_per_h >= 0 and deployment.data_center
