"""How RunPod shows pods, endpoints and workers (docs.runpod.io/api-reference-v2).

Not here: what the bodies of requests mean (``pod_routes.py``, ``serverless_routes.py``).
"""

from __future__ import annotations

from typing import Any

from celery_runpod._simulator.management import catalog
from celery_runpod._simulator.management.deployments import Deployment, WorkerView
from celery_runpod._simulator.management.route_table import rfc3339
from celery_runpod._simulator.management.simulated_pods import Pod, Status

ADDRESS = "127.0.0.1"
URLS = {
    "run": "run",
    "runSync": "runsync",
    "status": "status/{job_id}",
    "stream": "stream/{job_id}",
    "cancel": "cancel/{job_id}",
    "retry": "retry/{job_id}",
    "purgeQueue": "purge-queue",
    "health": "health",
}


def shown_pod(pod: Pod, now: float) -> dict[str, Any]:
    """A pod as RunPod shows it."""
    spec, status = pod.spec, pod.status(now)
    started = pod.started_at(now)
    found: dict[str, Any] = {
        "id": pod.id,
        "name": spec.name,
        "image": spec.image,
        "args": spec.args,
        "disk": spec.disk,
        "ports": spec.ports,
        "env": spec.env,
        "registry": spec.registry,
        "status": status.value,
        "actions": pod.actions(now),
        "mounts": spec.mounts,
        "cloud": spec.cloud,
        "dataCenterId": spec.data_center,
        "cudaVersion": catalog.HOST_CUDA_VERSION if spec.gpu and spec.gpu[0].startswith("NVIDIA") else None,
        "ssh": {"proxy": _proxy(pod, status), "direct": _direct(pod, status)},
        "template": spec.template,
        "cost": pod.cost_per_h(now),
        "locked": spec.locked,
        "globalNetworking": {"enabled": False},
        "runtime": _runtime(pod, now) if status is Status.RUNNING else None,
        "createdAt": rfc3339(pod.created_at),
        "startedAt": None if started is None else rfc3339(started),
    }
    if spec.global_networking:
        found["globalNetworking"] = {"enabled": True, "ip": "10.0.0.1", "internalDns": f"{pod.id}.runpod.internal"}
    if spec.gpu is not None:
        found["gpu"] = {"id": spec.gpu[0], "count": spec.gpu[1]}
    elif spec.cpu is not None:
        memory = catalog.cpu_memory_gb(*spec.cpu)
        found["cpu"] = {"id": spec.cpu[0], "vcpuCount": spec.cpu[1], "memory": memory}
    return found


def public_port(pod: Pod, private: int) -> int:
    """Where a TCP port of the pod would be reached."""
    return 20_000 + (pod.number * 101 + private) % 40_000


def tcp_ports(pod: Pod) -> list[int]:
    """The pod's TCP ports."""
    found = (port.partition("/") for port in pod.spec.ports)
    return [int(number) for number, _, kind in found if kind == "tcp" and number.isdigit()]


def _runtime(pod: Pod, now: float) -> dict[str, Any]:
    ports = [
        {"private": port, "public": public_port(pod, port), "type": "tcp", "ip": ADDRESS} for port in tcp_ports(pod)
    ]
    gpus = [{"util": 0, "memoryUtil": 0}] * (pod.spec.gpu[1] if pod.spec.gpu else 0)
    uptime = int(now - pod.up_at)
    return {"uptime": uptime, "gpus": gpus, "cpu": {"util": 1}, "memory": {"util": 1}, "ports": ports}


def _proxy(pod: Pod, status: Status) -> dict[str, Any] | None:
    if status in (Status.PROVISIONING, Status.TERMINATED):
        return None
    user = f"{pod.id}-64411eb2"
    return {"host": "ssh.runpod.io", "port": 22, "username": user, "command": f"ssh {user}@ssh.runpod.io"}


def _direct(pod: Pod, status: Status) -> dict[str, Any] | None:
    if status is not Status.RUNNING or 22 not in tcp_ports(pod):
        return None
    port = public_port(pod, 22)
    return {"host": ADDRESS, "port": port, "username": "root", "command": f"ssh root@{ADDRESS} -p {port}"}


def shown_endpoint(deployment: Deployment, base: str) -> dict[str, Any]:
    """An endpoint as RunPod shows it; `base`: the address of the simulator."""
    found: dict[str, Any] = {
        "id": deployment.id,
        "name": deployment.name,
        "type": "QUEUE",
        "requestUrls": {name: f"{base}/v2/{deployment.id}/{path}" for name, path in URLS.items()},
        "image": deployment.image,
        "args": deployment.args,
        "disk": deployment.disk,
        "ports": deployment.ports,
        "env": deployment.env,
        "registry": deployment.registry,
        "workers": {"min": deployment.workers_min, "max": deployment.workers_max},
        "scaling": deployment.scaling,
        "dataCenterIds": deployment.data_centers,
        "networkVolumes": deployment.network_volumes,
        "timeout": deployment.timeout_ms,
        "flashboot": deployment.flashboot,
        "createdAt": rfc3339(deployment.created_at),
    }
    if deployment.scaling["type"] == "QUEUE_DELAY":
        found["workers"]["idleTimeout"] = deployment.idle_timeout
    if deployment.gpu is not None:
        found["gpu"] = deployment.gpu
    else:
        found["cpu"] = [
            {**cpu, "memory": catalog.cpu_memory_gb(cpu["id"], cpu["vcpuCount"])} for cpu in deployment.cpu or ()
        ]
    return found


def shown_workers(deployment: Deployment, workers: list[WorkerView], now: float) -> dict[str, Any]:
    """The workers of an endpoint. All run its current version: the simulator has no rollouts."""
    gpu = deployment.gpu_type
    listed = [
        {
            "id": worker.id,
            "status": worker.status,
            "isStale": False,
            "version": deployment.version,
            "gpuCount": deployment.gpu_count,
            "image": deployment.image,
            "uptimeSeconds": max(0, int(now - worker.started_at)),
            "gpuTypeId": None if gpu is None else gpu.id,
            "dataCenterId": deployment.data_center,
            "startedAt": rfc3339(worker.started_at),
        }
        for worker in workers
    ]
    names = ("running", "idle", "initializing", "throttled", "unhealthy")
    summary = {name: sum(worker.status == name.upper() for worker in workers) for name in names}
    return {
        "workers": listed,
        "summary": {**summary, "total": len(workers)},
        "endpointVersion": deployment.version,
    }
