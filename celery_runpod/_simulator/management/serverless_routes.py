"""Routes of serverless endpoints: nested bodies (docs.runpod.io/api-reference-v2/serverless).

Not here: running jobs (``celery_runpod/_simulator/job_routes.py``).
"""

from __future__ import annotations

from typing import Any

from celery_runpod._simulator.management.body_shapes import (
    CUDA,
    CUDAS,
    NAME,
    TEXT,
    TEXTS,
    listed,
    objects,
    one_of,
    whole,
)
from celery_runpod._simulator.management.catalog import NotPlaced
from celery_runpod._simulator.management.deployments import Deployment
from celery_runpod._simulator.management.pod_routes import CONTAINER, CPU, image_of
from celery_runpod._simulator.management.representations import shown_endpoint, shown_workers
from celery_runpod._simulator.management.route_table import Account, Call, Problem, Reply, Route, new_id

POOLS = {
    "pools": listed(TEXT, least=1),
    "excludedTypes": TEXTS,
    "count": whole(1),
    "allowedCudaVersions": CUDAS,
    "minCudaVersion": CUDA,
}
WORKERS = objects({"min": whole(0), "max": whole(0), "idleTimeout": whole(1, 3600)})
SCALING = objects(
    {
        "type": one_of("QUEUE_DELAY", "REQUEST_COUNT"),
        "queueDelay": {"type": "number", "minimum": 0.5},
        "requestCount": whole(1),
    },
    "type",
)
SHARED = {
    **CONTAINER,
    "cpu": listed(CPU, least=1),
    "dataCenterIds": TEXTS,
    "flashboot": one_of("OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"),
    "name": NAME,
    "networkVolumes": TEXTS,
    "scaling": SCALING,
    "timeout": whole(),
    "workers": WORKERS,
}
CREATE = objects(
    {**SHARED, "gpu": objects(POOLS, "pools"), "type": one_of("QUEUE", "LOAD_BALANCER"), "templateId": NAME},
    "name",
    "type",
    "scaling",
)
UPDATE = objects(
    {**SHARED, "gpu": objects({**POOLS, "minCudaVersion": {"type": "string"}}), "templateId": TEXT},
)
SCALING_FIELD = {"QUEUE_DELAY": "queueDelay", "REQUEST_COUNT": "requestCount"}
FIELDS = {
    "dataCenterIds": "data_centers",
    "networkVolumes": "network_volumes",
    "templateId": "template",
    "timeout": "timeout_ms",
}
"""Fields of a body that have another name in `Deployment`."""


class ServerlessRoutes:
    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self) -> list[Route]:
        def of_one(method: str, operation: str, do: Any, shape: Any = None, path: str = "serverless/*") -> Route:
            return Route(method, path, operation, do, shape, of_endpoint=True)

        return [
            Route("GET", "serverless", "serverless.list", self.listing),
            Route("POST", "serverless", "serverless.create", self.create, CREATE),
            of_one("GET", "serverless.get", self.get),
            of_one("PATCH", "serverless.update", self.update, UPDATE),
            of_one("DELETE", "serverless.delete", self.delete),
            of_one("GET", "serverless.workers", self.workers, path="serverless/*/workers"),
        ]

    def listing(self, call: Call) -> Reply:
        found = [shown_endpoint(one, call.base) for one in self.account.deployments.all.values()]
        return Reply(200, {"endpoints": found})

    def create(self, call: Call) -> Reply:
        deployment = _deployment(call.body, call.now)
        try:
            self.account.deployments.create(deployment)
        except NotPlaced as error:
            raise Problem(400, str(error)) from None
        return Reply(201, shown_endpoint(deployment, call.base))

    def get(self, call: Call) -> Reply:
        return Reply(200, shown_endpoint(known(self.account, call), call.base))

    def update(self, call: Call) -> Reply:
        deployment = known(self.account, call)
        try:
            self.account.deployments.update(deployment, _changes(deployment, call.body))
        except NotPlaced as error:
            raise Problem(400, str(error)) from None
        return Reply(200, shown_endpoint(deployment, call.base))

    def delete(self, call: Call) -> Reply:
        self.account.deployments.delete(known(self.account, call), call.now)
        return Reply(204)

    def workers(self, call: Call) -> Reply:
        deployment = known(self.account, call)
        return Reply(200, shown_workers(deployment, self.account.deployments.stage.workers(deployment.id), call.now))


def known(account: Account, call: Call) -> Deployment:
    """The endpoint of a call; `Problem` 404 where there is none."""
    found = account.deployments.find(call.ids[0])
    if found is None:
        raise Problem(404, "endpoint not found")
    return found


def _deployment(body: dict[str, Any], now: float) -> Deployment:
    if "image" not in body and "templateId" not in body:
        raise Problem(422, "Request validation failed.", ["$: missing property 'image'"])
    if ("gpu" in body) == ("cpu" in body):
        raise Problem(400, "exactly one of gpu or cpu must be set")
    if body["type"] != "QUEUE":
        raise Problem(400, "the simulator has no load-balancing endpoints; allowed: QUEUE")
    fresh = Deployment(new_id(), body["name"], now, timeout_ms=300_000, idle_timeout=10)
    if "gpu" in body:
        fresh.gpu = {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None}
    if "cpu" in body:
        fresh.cpu = []
    fresh.image = image_of(body.get("templateId", ""))
    for name, value in _changes(fresh, body).items():
        setattr(fresh, name, value)
    return fresh


def _changes(deployment: Deployment, body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a body; `Problem` for what breaks a rule between fields."""
    nested = ("gpu", "cpu", "workers", "type")
    found = {FIELDS.get(name, name): value for name, value in body.items() if name not in nested}
    if "gpu" in body:
        found["gpu"] = _gpu(deployment, body["gpu"])
    if "cpu" in body:
        if deployment.cpu is None:
            raise Problem(400, "the compute of an endpoint cannot be changed from gpu to cpu")
        found["cpu"] = body["cpu"]
    scaling = body.get("scaling", deployment.scaling)
    _check_scaling(scaling)
    workers = body.get("workers", {})
    if scaling["type"] == "REQUEST_COUNT" and "idleTimeout" in workers:
        raise Problem(400, "workers.idleTimeout does not apply to scaling by REQUEST_COUNT")
    least = workers.get("min", deployment.workers_min)
    most = workers.get("max", deployment.workers_max)
    if least > most:
        raise Problem(400, f"workers.min ({least}) must not be over workers.max ({most})")
    idle = workers.get("idleTimeout", deployment.idle_timeout)
    return {**found, "workers_min": least, "workers_max": most, "idle_timeout": idle}


def _gpu(deployment: Deployment, gpu: dict[str, Any]) -> dict[str, Any]:
    if deployment.gpu is None:
        raise Problem(400, "the compute of an endpoint cannot be changed from cpu to gpu")
    if "excludedTypes" in gpu and "pools" not in gpu:
        raise Problem(422, "Request validation failed.", ["$.gpu: property 'pools' is required with 'excludedTypes'"])
    least = gpu.get("minCudaVersion", deployment.gpu.get("minCudaVersion")) or None
    found = {**deployment.gpu, **gpu, "minCudaVersion": least}
    if found["allowedCudaVersions"] and least:
        raise Problem(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    return found


def _check_scaling(scaling: dict[str, Any]) -> None:
    """A field that belongs to the other kind of scaling, or is missing, is a fault of the shape."""
    wanted = SCALING_FIELD[scaling["type"]]
    others = [name for name in scaling if name not in ("type", wanted)]
    errors = [f"$.scaling: additional properties '{name}' not allowed" for name in others]
    if wanted not in scaling:
        errors.append(f"$.scaling: missing property '{wanted}'")
    if errors:
        raise Problem(422, "Request validation failed.", errors)
