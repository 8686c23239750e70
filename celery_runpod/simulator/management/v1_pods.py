"""Pods in version 1: flat bodies, a bare list (docs.runpod.io/api-reference/pods).

Version 1 knows RUNNING, EXITED and TERMINATED alone, as what a pod is meant to be; whether it is up shows in
`publicIp` and `portMappings`. Not here: a pod's life (``pods.py``).

Next: ``v1_endpoints.py``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from celery_runpod.simulator.management import catalog
from celery_runpod.simulator.management.bodies import (
    CUDAS,
    FLAG,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Shape,
    listed,
    objects,
    one_of,
    or_null,
    whole,
)
from celery_runpod.simulator.management.catalog import NotPlaced
from celery_runpod.simulator.management.pods import Pod, PodSpec, Status
from celery_runpod.simulator.management.routes import Account, Call, Problem, Reply, Route, flag, new_id, rfc3339
from celery_runpod.simulator.management.v2_pods import image_of
from celery_runpod.simulator.management.v2_views import ADDRESS, public_port, tcp_ports

PRIORITY = one_of("availability", "custom")
CONTAINER: dict[str, Shape] = {
    "containerDiskInGb": or_null(whole(1)),
    "containerRegistryAuthId": TEXT,
    "dockerEntrypoint": TEXTS,
    "dockerStartCmd": TEXTS,
    "env": TEXT_MAP,
    "globalNetworking": FLAG,
    "imageName": TEXT,
    "locked": FLAG,
    "name": {"type": "string", "maxLength": 191},
    "ports": TEXTS,
    "volumeInGb": or_null(whole(0)),
    "volumeMountPath": TEXT,
}
CREATE = objects(
    {
        **CONTAINER,
        "allowedCudaVersions": CUDAS,
        "cloudType": one_of("SECURE", "COMMUNITY"),
        "computeType": one_of("GPU", "CPU"),
        "countryCodes": TEXTS,
        "cpuFlavorIds": listed(one_of(*catalog.CPUS)),
        "cpuFlavorPriority": PRIORITY,
        "dataCenterIds": listed(one_of(*catalog.DATA_CENTERS)),
        "dataCenterPriority": PRIORITY,
        "gpuCount": whole(1),
        "gpuTypeIds": TEXTS,
        "gpuTypePriority": PRIORITY,
        "interruptible": FLAG,
        "minDiskBandwidthMBps": {"type": "number"},
        "minDownloadMbps": {"type": "number"},
        "minRAMPerGPU": whole(),
        "minUploadMbps": {"type": "number"},
        "minVCPUPerGPU": whole(),
        "networkVolumeId": TEXT,
        "supportPublicIp": FLAG,
        "templateId": TEXT,
        "vcpuCount": whole(),
    },
    closed=False,
)
UPDATE = objects(CONTAINER, closed=False)
FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "containerDiskInGb": ("disk", lambda value: value or 50),
    "containerRegistryAuthId": ("registry", str),
    "dockerEntrypoint": ("entrypoint", list),
    "dockerStartCmd": ("args", shlex.join),
    "env": ("env", dict),
    "globalNetworking": ("global_networking", bool),
    "imageName": ("image", str),
    "locked": ("locked", bool),
    "name": ("name", str),
    "ports": ("ports", list),
}
"""Field of a body -> field of the spec, and how its value is written there."""
ACTIONS = {"start": "start", "stop": "stop", "restart": "restart", "reset": "restart"}
LISTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cpuFlavorId": lambda pod: pod.get("cpuFlavorId"),
    "dataCenterId": lambda pod: pod["machine"]["dataCenterId"],
    "desiredStatus": lambda pod: pod["desiredStatus"],
    "gpuTypeId": lambda pod: pod.get("gpu", {}).get("id"),
    "id": lambda pod: pod["id"],
    "imageName": lambda pod: pod["image"],
    "name": lambda pod: pod["name"],
    "networkVolumeId": lambda pod: pod.get("networkVolume", {}).get("id"),
    "templateId": lambda pod: pod.get("templateId"),
    "endpointId": lambda pod: pod.get("endpointId"),
    "computeType": lambda pod: "GPU" if "gpu" in pod else "CPU",
}
"""Filter of the listing -> what it is compared with."""


class V1Pods:
    """See the module."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def routes(self) -> list[Route]:
        actions = [
            Route("POST", f"pods/*/{word}", "pods.action", self._acting(action)) for word, action in ACTIONS.items()
        ]
        return [
            Route("GET", "pods", "pods.list", self.listing),
            Route("POST", "pods", "pods.create", self.create, CREATE),
            Route("GET", "pods/*", "pods.get", self.get),
            Route("PATCH", "pods/*", "pods.update", self.update, UPDATE),
            Route("POST", "pods/*/update", "pods.update", self.update, UPDATE),
            Route("DELETE", "pods/*", "pods.delete", self.delete),
            *actions,
        ]

    def listing(self, call: Call) -> Reply:
        terminated = call.query.get("desiredStatus") == "TERMINATED"
        pods = self.account.pods.listing(call.now, terminated=terminated)
        found = []
        for pod in pods:
            full = shown(pod, call.now, {"includeMachine": "true", "includeNetworkVolume": "true"})
            if all(call.query.get(name, value(full)) == value(full) for name, value in LISTED.items()):
                found.append(shown(pod, call.now, call.query))
        return Reply(200, found)

    def create(self, call: Call) -> Reply:
        pod = self.account.pods.create(new_id(), _spec(call.body), call.now)
        return Reply(201, shown(pod, call.now, call.query))

    def get(self, call: Call) -> Reply:
        return Reply(200, shown(self.account.pod(call), call.now, call.query))

    def update(self, call: Call) -> Reply:
        pod = self._live(call)
        changes = _fields(call.body)
        mounts = _mounts(pod.spec.mounts, call.body)
        pod.update({**changes, "mounts": mounts}, call.now)
        return Reply(200, shown(pod, call.now, call.query))

    def delete(self, call: Call) -> Reply:
        self._live(call).act("terminate", call.now)
        return Reply(204)

    def _acting(self, action: str) -> Callable[[Call], Reply]:
        def act(call: Call) -> Reply:
            pod = self._live(call)
            status = pod.status(call.now)
            # Version 1 shows a pod that comes up as RUNNING, so it cannot refuse to restart it: it starts anyway.
            coming = action == "restart" and status in (Status.PROVISIONING, Status.STARTING) and not pod.spec.locked
            if not coming and not pod.act(action, call.now):
                raise Problem(400, f"cannot {action} a pod that is {status}")
            return Reply(200)

        return act

    def _live(self, call: Call) -> Pod:
        pod = self.account.pod(call)
        if pod.terminated_at is not None:
            raise Problem(404, "pod not found")
        return pod


def shown(pod: Pod, now: float, query: Mapping[str, str]) -> dict[str, Any]:
    """A pod as version 1 shows it. What is not known is left out: the description has no null for it."""
    spec, status = pod.spec, pod.status(now)
    desired = status if status in (Status.EXITED, Status.TERMINATED) else Status.RUNNING
    up = status is Status.RUNNING
    changed = datetime.fromtimestamp(pod.changed_at, UTC).strftime("%a %b %d %Y %H:%M:%S GMT+0000")
    found: dict[str, Any] = {
        "adjustedCostPerHr": spec.price_per_h,
        "containerDiskInGb": spec.disk,
        "costPerHr": spec.price_per_h,
        "desiredStatus": desired.value,
        "dockerEntrypoint": spec.entrypoint,
        "dockerStartCmd": _words(spec.args),
        "env": spec.env,
        "id": pod.id,
        "image": spec.image,
        "interruptible": spec.interruptible,
        "lastStartedAt": rfc3339(pod.runs[-1].start),
        "lastStatusChange": f"{pod.last_change}: {changed} (Coordinated Universal Time)",
        "locked": spec.locked,
        "machineId": f"machine{pod.number}",
        "name": spec.name,
        "portMappings": {str(port): public_port(pod, port) for port in tcp_ports(pod)} if up else None,
        "ports": spec.ports,
        "publicIp": ADDRESS if up else None,
        "volumeInGb": spec.volume_gb,
        "volumeEncrypted": False,
    }
    optional = {"containerRegistryAuthId": spec.registry, "templateId": spec.template, "volumeMountPath": _path(spec)}
    found |= {name: value for name, value in optional.items() if value is not None}
    if spec.gpu is not None:
        gpu = catalog.GPUS[spec.gpu[0]]
        prices = {"securePrice": gpu.secure, "communityPrice": gpu.community}
        found["gpu"] = {"id": gpu.id, "count": spec.gpu[1], "displayName": gpu.name, **prices}
        found |= {"memoryInGb": 62 * spec.gpu[1], "vcpuCount": 16 * spec.gpu[1]}
    elif spec.cpu is not None:
        memory = catalog.cpu_memory_gb(*spec.cpu)
        found |= {"cpuFlavorId": spec.cpu[0], "memoryInGb": memory, "vcpuCount": spec.cpu[1]}
    if flag(query, "includeMachine"):
        machine: dict[str, Any] = {"dataCenterId": spec.data_center, "secureCloud": spec.cloud == "SECURE"}
        found["machine"] = {**machine, **({"gpuTypeId": spec.gpu[0]} if spec.gpu is not None else {})}
    if flag(query, "includeNetworkVolume") and "network" in spec.mounts:
        found["networkVolume"] = {"id": spec.mounts["network"][0]["volumeId"], "dataCenterId": spec.data_center}
    if flag(query, "includeSavingsPlans"):
        found["savingsPlans"] = []
    return found


def _words(args: str) -> list[str]:
    """The arguments one by one; those that no shell could split stay one."""
    try:
        return shlex.split(args)
    except ValueError:
        return [args]


def _path(spec: PodSpec) -> str | None:
    """Where the volume is mounted."""
    mounts = [spec.mounts["persistent"]] if "persistent" in spec.mounts else spec.mounts.get("network", [])
    return str(mounts[0]["path"]) if mounts else None


def _spec(body: dict[str, Any]) -> PodSpec:
    """What a body asks for; `Problem` 400 for what cannot be had. The first GPU type or flavor that there is, is taken;
    what belongs to the other compute type is ignored, as the description says."""
    if not body.get("imageName") and not body.get("templateId"):
        raise Problem(400, "imageName is required unless templateId is set")
    template = body.get("templateId")
    cloud = body.get("cloudType", "SECURE")
    spec = PodSpec(
        name="my pod",
        image=image_of(template),
        price_per_h=0.0,
        data_center=(body.get("dataCenterIds") or catalog.DATA_CENTERS)[0],
        cloud=cloud,
        ports=["8888/http", "22/tcp"],
        mounts=_mounts({}, {"volumeInGb": 20, "volumeMountPath": "/workspace", **body}),
        template=template,
        interruptible=body.get("interruptible", False),
    )
    problem = NotPlaced("no GPU type or CPU flavor given")
    on_cpu = body.get("computeType") == "CPU"
    wanted = body.get("cpuFlavorIds", list(catalog.CPUS)) if on_cpu else body.get("gpuTypeIds", list(catalog.GPUS))
    for found in wanted:
        try:
            if on_cpu:
                spec.cpu = (found, body.get("vcpuCount", 2))
                spec.price_per_h = catalog.cpu_price(*spec.cpu)
            else:
                spec.gpu = (found, body.get("gpuCount", 1))
                spec.price_per_h = catalog.gpu_price(*spec.gpu, cloud)
            break
        except NotPlaced as error:
            problem = error
    else:
        raise Problem(400, f"create pod: {problem}")
    for name, value in _fields(body).items():
        setattr(spec, name, value)
    return spec


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of the spec that a body gives."""
    known = ((FIELDS[name], value) for name, value in body.items() if name in FIELDS)
    return {name: write(value) for (name, write), value in known}


def _mounts(before: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The mounts after a body: a network volume in the place of the pod's own, or its size and path."""
    old = before.get("persistent", {"size": 0, "path": "/workspace"})
    path = body.get("volumeMountPath", old["path"])
    if volume := body.get("networkVolumeId"):
        return {"network": [{"volumeId": volume, "path": path}]}
    if "network" in before:
        return {
            "network": [{**before["network"][0], "path": body.get("volumeMountPath", before["network"][0]["path"])}]
        }
    size = body.get("volumeInGb", old["size"])
    return {"persistent": {"size": size, "path": path}} if size else {}
