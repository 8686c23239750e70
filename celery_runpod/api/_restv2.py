"""RunPod's REST API v2, the current one (docs.runpod.io/api-reference-v2): its paths, bodies and answers.

Not here: sending (``_management.py``), what a pod is (``_pods.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import GpuType, parse_gpu
from celery_runpod.api._endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api._endpointspec import EndpointChanges, EndpointSpec
from celery_runpod.api._fields import (
    count,
    identified,
    mapping,
    moment,
    number,
    objects,
    seconds_of,
    text,
    texts,
    whole,
)
from celery_runpod.api._pods import UNKNOWN, Pod
from celery_runpod.api._podspec import PodChanges, PodSpec
from celery_runpod.api._rest import Request, each, given, milliseconds, nothing, refuse, rows
from celery_runpod.errors import NotOffered

NO_TYPES = {"gpu_types": "v2 places workers by pools: give gpu_pools, list_gpus() tells the pool of each type"}


class RestV2:
    """Requests and answers of REST v2."""

    name = "v2"

    def list_pods(self) -> Request[list[Pod]]:
        return Request("list_pods", "GET", "pods", each("pods", _pod))

    def get_pod(self, pod_id: str) -> Request[Pod]:
        return Request("get_pod", "GET", f"pods/{pod_id}", _pod, pod_id=pod_id)

    def create_pod(self, spec: PodSpec) -> Request[Pod]:
        refuse(self.name, "v1", "create_pod", spec, {"interruptible": None})
        body = given(
            **_container(spec),
            templateId=spec.template_id,
            cloud=spec.cloud,
            dataCenterIds=spec.data_centers,
            globalNetworking=spec.global_networking,
            startSsh=spec.start_ssh,
            startJupyter=spec.start_jupyter,
            mounts=_mounts(spec),
        )
        if spec.gpu is not None:
            cuda = given(allowedCudaVersions=spec.cuda_versions, minCudaVersion=spec.min_cuda)
            body["gpu"] = {"id": spec.gpu, "count": spec.gpu_count or 1, **cuda}
        else:
            body["cpu"] = {"id": spec.cpu, "vcpuCount": spec.vcpus or 2}
        return Request("create_pod", "POST", "pods", _pod, body)

    def update_pod(self, pod_id: str, changes: PodChanges) -> Request[Pod]:
        body = given(**_container(changes), globalNetworking=changes.global_networking, locked=changes.locked)
        return Request("update_pod", "PATCH", f"pods/{pod_id}", _pod, body, pod_id=pod_id)

    def act_on_pod(self, pod_id: str, action: str) -> Request[Pod | None]:
        if action == "reset":
            raise NotOffered("reset_pod", self.name, "v1", "restart_pod restarts the container in place")
        path = f"pods/{pod_id}/action"
        return Request(f"{action}_pod", "POST", path, _pod, {"action": action}, pod_id=pod_id)

    def terminate_pod(self, pod_id: str) -> Request[None]:
        return Request("terminate_pod", "DELETE", f"pods/{pod_id}", nothing, pod_id=pod_id, has_body=False)

    def pod_logs(self, pod_id: str, source: str | None, tail: int) -> Request[None]:
        query = given(source=source, tail=str(tail))
        return Request("pod_logs", "GET", f"pods/{pod_id}/logs", nothing, query=query, pod_id=pod_id)

    def list_endpoints(self) -> Request[list[ServerlessEndpoint]]:
        return Request("list_endpoints", "GET", "serverless", each("endpoints", _endpoint))

    def get_endpoint(self, endpoint: str) -> Request[ServerlessEndpoint]:
        return Request("get_endpoint", "GET", f"serverless/{endpoint}", _endpoint, endpoint=endpoint)

    def create_endpoint(self, spec: EndpointSpec) -> Request[ServerlessEndpoint]:
        body = self._endpoint_body("create_endpoint", spec)
        body["type"] = spec.type
        if spec.cpu is not None:
            body["cpu"] = [{"id": spec.cpu, "vcpuCount": spec.vcpus or 2}]
        return Request("create_endpoint", "POST", "serverless", _endpoint, body)

    def update_endpoint(self, endpoint: str, changes: EndpointChanges) -> Request[ServerlessEndpoint]:
        body = self._endpoint_body("update_endpoint", changes)
        return Request("update_endpoint", "PATCH", f"serverless/{endpoint}", _endpoint, body, endpoint=endpoint)

    def _endpoint_body(self, operation: str, spec: EndpointSpec | EndpointChanges) -> dict[str, Any]:
        refuse(self.name, "v1", operation, spec, NO_TYPES)
        workers = given(min=spec.workers_min, max=spec.workers_max, idleTimeout=spec.idle_timeout_s)
        gpu = given(pools=spec.gpu_pools, excludedTypes=spec.excluded_gpu_types, count=spec.gpu_count)
        return given(
            **_container(spec),
            templateId=spec.template_id,
            gpu=gpu or None,
            workers=workers or None,
            scaling=_scaling(spec),
            timeout=milliseconds(spec.execution_timeout_s),
            dataCenterIds=spec.data_centers,
            networkVolumes=spec.network_volumes,
            flashboot=None if spec.flashboot is None else "FLASHBOOT" if spec.flashboot else "OFF",
        )

    def delete_endpoint(self, endpoint: str) -> Request[None]:
        path = f"serverless/{endpoint}"
        return Request("delete_endpoint", "DELETE", path, nothing, endpoint=endpoint, has_body=False)

    def list_workers(self, endpoint: str) -> Request[list[ServerlessWorker]]:
        path = f"serverless/{endpoint}/workers"
        return Request("list_workers", "GET", path, each("workers", _worker), endpoint=endpoint)

    def list_gpus(self, available_for: str | None) -> Request[list[GpuType]]:
        query = {"include": "AVAILABILITY", "product": available_for} if available_for else {}
        return Request("list_gpus", "GET", "catalog/gpus", each("gpus", parse_gpu), query=query)

    def pod_billing(self, pod_id: str | None, period: BillingPeriod) -> Request[list[BillingRow]]:
        query = _billing_query(period) | given(podId=pod_id)
        return Request("pod_billing", "GET", "billing/pods", rows(_row), query=query, pod_id=pod_id)

    def endpoint_billing(self, endpoint: str | None, period: BillingPeriod) -> Request[list[BillingRow]]:
        query = _billing_query(period) | given(serverlessId=endpoint)
        path = "billing/serverless"
        return Request("endpoint_billing", "GET", path, rows(_row), query=query, endpoint=endpoint)


def _container(spec: PodSpec | PodChanges | EndpointSpec | EndpointChanges) -> dict[str, Any]:
    return given(
        name=spec.name,
        image=spec.image,
        args=spec.args,
        disk=spec.disk_gb,
        env=spec.env,
        ports=spec.ports,
        registry=spec.registry,
    )


def _mounts(spec: PodSpec) -> dict[str, Any] | None:
    if spec.network_volume:
        return {"network": [{"volumeId": spec.network_volume, "path": spec.volume_path}]}
    return {"persistent": {"size": spec.volume_gb, "path": spec.volume_path}} if spec.volume_gb else None


def _scaling(spec: EndpointSpec | EndpointChanges) -> dict[str, Any] | None:
    if spec.scaler is None or spec.scaler_value is None:
        return None
    if spec.scaler == "REQUEST_COUNT":
        return {"type": spec.scaler, "requestCount": int(spec.scaler_value)}
    return {"type": spec.scaler, "queueDelay": spec.scaler_value}


def _billing_query(period: BillingPeriod) -> dict[str, str]:
    return period.query() | ({} if period.last is None else {"lastN": str(period.last)})


def _pod(data: Any) -> Pod:
    told, pod_id = identified(data, "pod")
    gpu, cpu, runtime = mapping(told.get("gpu")), mapping(told.get("cpu")), mapping(told.get("runtime"))
    ports = objects(runtime.get("ports"))
    public = {whole(one.get("private")): whole(one.get("public")) for one in ports}
    ssh = mapping(told.get("ssh"))
    lines = [text(mapping(ssh.get(way)).get("command")) for way in ("direct", "proxy")]
    return Pod(
        id=pod_id,
        name=text(told.get("name")) or "",
        status=text(told.get("status")) or UNKNOWN,
        image=text(told.get("image")),
        gpu=text(gpu.get("id")),
        gpu_count=count(gpu.get("count", 1 if gpu else 0)),
        cpu=text(cpu.get("id")),
        vcpus=whole(cpu.get("vcpuCount")),
        memory_gb=number(cpu.get("memory")),
        cloud=text(told.get("cloud")),
        data_center=text(told.get("dataCenterId")),
        usd_per_hour=number(told.get("cost")),
        template_id=text(told.get("template")),
        disk_gb=whole(told.get("disk")),
        ports=texts(told.get("ports")),
        public_ip=next((text(one.get("ip")) for one in ports if text(one.get("ip"))), None),
        public_ports={inner: outer for inner, outer in public.items() if inner is not None and outer is not None},
        ssh=next(filter(None, lines), None),
        env=dict(mapping(told.get("env"))),
        locked=told.get("locked") is True,
        actions=texts(told.get("actions")),
        uptime_s=number(runtime.get("uptime")),
        created_at=moment(told.get("createdAt")),
        started_at=moment(told.get("startedAt")),
    )


def _endpoint(data: Any) -> ServerlessEndpoint:
    told, endpoint = identified(data, "endpoint")
    gpu, workers, scaling = mapping(told.get("gpu")), mapping(told.get("workers")), mapping(told.get("scaling"))
    flavors = [text(one.get("id")) for one in objects(told.get("cpu"))]
    flashboot = text(told.get("flashboot"))
    return ServerlessEndpoint(
        id=endpoint,
        name=text(told.get("name")) or "",
        type=text(told.get("type")),
        image=text(told.get("image")),
        gpu_pools=texts(gpu.get("pools")),
        gpu_count=count(gpu.get("count", 1 if gpu else 0)),
        cpu=tuple(one for one in flavors if one),
        workers_min=count(workers.get("min")),
        workers_max=count(workers.get("max")),
        idle_timeout_s=number(workers.get("idleTimeout")),
        scaler=text(scaling.get("type")),
        scaler_value=number(scaling.get("queueDelay", scaling.get("requestCount"))),
        execution_timeout_s=seconds_of(told.get("timeout")),
        flashboot=None if flashboot is None else flashboot != "OFF",
        data_centers=texts(told.get("dataCenterIds")),
        network_volumes=texts(told.get("networkVolumes")),
        env=dict(mapping(told.get("env"))),
        created_at=moment(told.get("createdAt")),
    )


def _worker(data: Any) -> ServerlessWorker:
    told, worker = identified(data, "worker")
    return ServerlessWorker(
        id=worker,
        status=text(told.get("status")) or UNKNOWN,
        gpu=text(told.get("gpuTypeId")),
        gpu_count=count(told.get("gpuCount")),
        image=text(told.get("image")),
        data_center=text(told.get("dataCenterId")),
        stale=told.get("isStale") is True,
        uptime_s=number(told.get("uptimeSeconds")),
        started_at=moment(told.get("startedAt")),
    )


def _row(told: Mapping[str, Any]) -> BillingRow:
    return BillingRow(
        resource_id=text(told.get("podId")) or text(told.get("serverlessId")),
        start=moment(told.get("startTime")),
        end=moment(told.get("endTime")),
        amount_usd=number(told.get("totalAmount")) or 0.0,
        gpu_usd=number(told.get("gpuAmount")),
        cpu_usd=number(told.get("cpuAmount")),
        disk_usd=number(told.get("diskAmount")),
        fee_usd=number(told.get("feeAmount")),
    )
