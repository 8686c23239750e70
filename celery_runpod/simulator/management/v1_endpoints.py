"""Serverless endpoints and the bill in version 1: flat bodies, bare lists (docs.runpod.io/api-reference/endpoints).

Not here: version 2 (``v2_serverless.py``), counting what ran (``billing.py``).

Next: ``quotas.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery_runpod.simulator.management import billing, catalog
from celery_runpod.simulator.management.bodies import CUDA, CUDAS, FLAG, TEXT, TEXTS, listed, objects, one_of, whole
from celery_runpod.simulator.management.catalog import NotPlaced
from celery_runpod.simulator.management.deployments import Deployment, WorkerView
from celery_runpod.simulator.management.routes import Account, Call, Problem, Reply, Route, flag, new_id, rfc3339
from celery_runpod.simulator.management.v2_pods import image_of
from celery_runpod.simulator.management.v2_reports import asked
from celery_runpod.simulator.management.v2_serverless import known

SHARED = {
    "allowedCudaVersions": CUDAS,
    "cpuFlavorIds": listed(one_of("cpu3c", "cpu3g", "cpu5c", "cpu5g")),
    "dataCenterIds": TEXTS,
    "executionTimeoutMs": whole(0),
    "flashboot": FLAG,
    "gpuCount": whole(1),
    "gpuTypeIds": TEXTS,
    "idleTimeout": whole(1, 3600),
    "minCudaVersion": CUDA,
    "name": {"type": "string", "maxLength": 191},
    "networkVolumeId": TEXT,
    "networkVolumeIds": TEXTS,
    "scalerType": one_of("QUEUE_DELAY", "REQUEST_COUNT"),
    "scalerValue": whole(1),
    "templateId": TEXT,
    "vcpuCount": whole(2),
    "workersMax": whole(0),
    "workersMin": whole(0),
}
CREATE = objects({**SHARED, "computeType": one_of("GPU", "CPU")}, "templateId", closed=False)
UPDATE = objects(SHARED, closed=False)
FIELDS = {
    "dataCenterIds": "data_centers",
    "executionTimeoutMs": "timeout_ms",
    "idleTimeout": "idle_timeout",
    "name": "name",
    "networkVolumeIds": "network_volumes",
    "templateId": "template",
    "workersMax": "workers_max",
    "workersMin": "workers_min",
}
SCALING_FIELD = {"QUEUE_DELAY": "queueDelay", "REQUEST_COUNT": "requestCount"}


class V1Endpoints:
    """See the module."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self) -> list[Route]:
        one = "endpoints/*"
        return [
            Route("GET", "endpoints", "serverless.list", self.listing),
            Route("POST", "endpoints", "serverless.create", self.create, CREATE),
            Route("GET", one, "serverless.get", self.get, of_endpoint=True),
            Route("PATCH", one, "serverless.update", self.update, UPDATE, of_endpoint=True),
            Route("POST", f"{one}/update", "serverless.update", self.update, UPDATE, of_endpoint=True),
            Route("DELETE", one, "serverless.delete", self.delete, of_endpoint=True),
            Route("GET", "billing/pods", "billing.pods", self.pod_bill),
            Route("GET", "billing/endpoints", "billing.serverless", self.endpoint_bill),
        ]

    def listing(self, call: Call) -> Reply:
        return Reply(200, [self._shown(one, call) for one in self.account.deployments.all.values()])

    def create(self, call: Call) -> Reply:
        body = call.body
        fresh = Deployment(new_id(), body.get("name", "endpoint"), call.now, image=image_of(body["templateId"]))
        if body.get("computeType") == "CPU":
            fresh.cpu = []
        else:
            fresh.gpu = {"pools": [], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None}
            body = {"gpuTypeIds": ["NVIDIA GeForce RTX 4090"], **body}
        for name, value in _changes(fresh, body).items():
            setattr(fresh, name, value)
        try:
            self.account.deployments.create(fresh)
        except NotPlaced as error:
            raise Problem(400, f"create endpoint: {error}") from None
        return Reply(200, self._shown(fresh, call))

    def get(self, call: Call) -> Reply:
        return Reply(200, self._shown(known(self.account, call), call))

    def update(self, call: Call) -> Reply:
        deployment = known(self.account, call)
        try:
            self.account.deployments.update(deployment, _changes(deployment, call.body))
        except NotPlaced as error:
            raise Problem(400, f"update endpoint: {error}") from None
        return Reply(200, self._shown(deployment, call))

    def delete(self, call: Call) -> Reply:
        self.account.deployments.delete(known(self.account, call), call.now)
        return Reply(204)

    def pod_bill(self, call: Call) -> Reply:
        grouping = _grouping(call.query, "gpuTypeId", ("podId", "gpuTypeId"))
        window, wanted = asked(call), call.query
        rows = billing.pod_costs(self.account.pods.all.values(), window, call.now)
        found: dict[tuple[float, str], dict[str, Any]] = {}
        for row in rows:
            gpu_type = row.pod.spec.gpu[0] if row.pod.spec.gpu is not None else ""
            if wanted.get("podId", row.pod.id) != row.pod.id or wanted.get("gpuTypeId", gpu_type) != gpu_type:
                continue
            group = row.pod.id if grouping == "podId" else gpu_type
            disk = row.pod.spec.disk + row.pod.spec.volume_gb
            _add(found, row.start, grouping, group, row.compute + row.disk, row.seconds, disk)
        return Reply(200, list(found.values()))

    def endpoint_bill(self, call: Call) -> Reply:
        grouping = _grouping(call.query, "endpointId", ("endpointId", "podId", "gpuTypeId"))
        window, wanted = asked(call), call.query
        found: dict[tuple[float, str], dict[str, Any]] = {}
        for row in self.account.deployments.costs(window, call.now):
            one, gpu = row.deployment, row.deployment.gpu_type
            gpu_type = "" if gpu is None else gpu.id
            if wanted.get("endpointId", one.id) != one.id or wanted.get("gpuTypeId", gpu_type) not in gpu_type:
                continue
            group = gpu_type if grouping == "gpuTypeId" else one.id
            _add(found, row.start, grouping, group, row.amount, row.seconds, 0)
        return Reply(200, list(found.values()))

    def _shown(self, one: Deployment, call: Call) -> dict[str, Any]:
        found: dict[str, Any] = {
            "computeType": "CPU" if one.gpu is None else "GPU",
            "createdAt": rfc3339(one.created_at),
            "dataCenterIds": one.data_centers or list(catalog.DATA_CENTERS),
            "env": one.env,
            "executionTimeoutMs": one.timeout_ms,
            "id": one.id,
            "idleTimeout": one.idle_timeout,
            "name": one.name,
            "networkVolumeIds": one.network_volumes,
            "scalerType": one.scaling["type"],
            "scalerValue": max(1, round(one.scaling[SCALING_FIELD[one.scaling["type"]]])),
            "version": one.version,
            "workersMax": one.workers_max,
            "workersMin": one.workers_min,
        }
        optional = {"templateId": one.template, "networkVolumeId": next(iter(one.network_volumes), None)}
        found |= {name: value for name, value in optional.items() if value is not None}
        if one.gpu is not None:
            gpus = catalog.serverless_gpus(one.gpu["pools"], one.gpu.get("excludedTypes", []))
            found |= {"gpuCount": one.gpu_count, "gpuTypeIds": [gpu.id for gpu in gpus]}
            found["allowedCudaVersions"] = one.gpu["allowedCudaVersions"]
        else:
            found["instanceIds"] = [
                f"{cpu['id']}-{cpu['vcpuCount']}-{catalog.cpu_memory_gb(cpu['id'], cpu['vcpuCount'])}"
                for cpu in one.cpu or ()
            ]
        if flag(call.query, "includeWorkers"):
            found["workers"] = [_worker(one, view) for view in self.account.deployments.stage.workers(one.id)]
        return found


def _worker(one: Deployment, worker: WorkerView) -> dict[str, Any]:
    """A worker is a pod in version 1."""
    found = {
        "id": worker.id,
        "desiredStatus": "RUNNING",
        "endpointId": one.id,
        "image": one.image,
        "lastStartedAt": rfc3339(worker.started_at),
        "machine": {"dataCenterId": one.data_center},
        "slsVersion": one.version,
    }
    gpu = one.gpu_type
    return found if gpu is None else {**found, "gpu": {"id": gpu.id, "count": one.gpu_count, "displayName": gpu.name}}


def _changes(deployment: Deployment, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body; `Problem` 400 for what breaks a rule."""
    found: dict[str, Any] = {FIELDS[name]: value for name, value in body.items() if name in FIELDS}
    if "networkVolumeId" in body:
        found.setdefault("network_volumes", [body["networkVolumeId"]])
    if "flashboot" in body:
        found["flashboot"] = "FLASHBOOT" if body["flashboot"] else "OFF"
    kind = body.get("scalerType", deployment.scaling["type"])
    if "scalerType" in body or "scalerValue" in body:
        found["scaling"] = {"type": kind, SCALING_FIELD[kind]: body.get("scalerValue", 4)}
    if deployment.gpu is not None:
        found["gpu"] = _gpu(deployment.gpu, body)
    else:
        flavors = body.get("cpuFlavorIds") or [cpu["id"] for cpu in deployment.cpu or ()] or ["cpu3c"]
        found["cpu"] = [{"id": flavor, "vcpuCount": body.get("vcpuCount", 2)} for flavor in flavors]
    least = found.get("workers_min", deployment.workers_min)
    most = found.get("workers_max", deployment.workers_max)
    if least > most:
        raise Problem(400, f"workersMin ({least}) must not be over workersMax ({most})")
    return found


def _gpu(before: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The GPU selection in the shape of version 2: the pools of the wanted types, without the others in them."""
    found = dict(before)
    for name, inside in (("gpuCount", "count"), ("allowedCudaVersions", "allowedCudaVersions"),
                         ("minCudaVersion", "minCudaVersion")):  # fmt: skip
        if name in body:
            found[inside] = body[name]
    if wanted := body.get("gpuTypeIds"):
        gpus = [catalog.GPUS[gpu_id] for gpu_id in wanted if gpu_id in catalog.GPUS]
        pools = list(dict.fromkeys(gpu.pool for gpu in gpus if gpu.pool is not None))
        if not pools:
            raise Problem(400, f"none of the GPU types {', '.join(wanted)} is in a serverless pool")
        others = [gpu.id for gpu in catalog.GPUS.values() if gpu.pool in pools and gpu.id not in wanted]
        found |= {"pools": pools, "excludedTypes": others}
    return found


def _grouping(query: Mapping[str, str], default: str, allowed: Iterable[str]) -> str:
    grouping = query.get("grouping", default)
    if grouping not in allowed:
        raise Problem(400, f"grouping: value must be one of {', '.join(allowed)}")
    return grouping


def _add(
    found: dict[tuple[float, str], dict[str, Any]],
    start: float,
    grouping: str,
    group: str,
    amount: float,
    seconds: float,
    disk_gb: int,
) -> None:
    """Add a cost to the record of its group and bucket."""
    fresh = {"time": rfc3339(start), grouping: group, "amount": 0.0, "timeBilledMs": 0, "diskSpaceBilledGb": 0}
    record = found.setdefault((start, group), fresh)
    record["amount"] += amount
    record["timeBilledMs"] += round(seconds * 1000)
    record["diskSpaceBilledGb"] += disk_gb
