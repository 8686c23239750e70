"""RunPod's REST API v1, the older one (docs.runpod.io/api-reference; its retirement is set for 2026-11-15): its paths,
bodies and answers, in the vocabulary of both.

What it lacks: a container on an endpoint (it comes from the template), pools of GPUs, logs, the catalog. What it has
beyond v2: reset, interruptible pods. Its actions document no body in their answers.

Not here: sending (``_management.py``), what a pod is (``_pods.py``).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import GpuType
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
from celery_runpod.errors import InvalidOption, NotOffered

FROM_TEMPLATE = "v1 takes the workers' container from a template: give template_id alone"
ENDPOINT_LACKS = {
    **dict.fromkeys(("image", "args", "disk_gb", "env", "ports", "registry"), FROM_TEMPLATE),
    "gpu_pools": "v1 places workers by types: give gpu_types",
    "excluded_gpu_types": "v1 places workers by types: give gpu_types",
}
# Where a pod runs, and on what, is told only when it is asked for.
WITH_MACHINE = {"includeMachine": "true"}


class RestV1:
    """Requests and answers of REST v1."""

    name = "v1"

    def list_pods(self) -> Request[list[Pod]]:
        return Request("list_pods", "GET", "pods", each("pods", _pod), query=WITH_MACHINE)

    def get_pod(self, pod_id: str) -> Request[Pod]:
        return Request("get_pod", "GET", f"pods/{pod_id}", _pod, query=WITH_MACHINE, pod_id=pod_id)

    def create_pod(self, spec: PodSpec) -> Request[Pod]:
        lacking = dict.fromkeys(("min_cuda", "start_ssh", "start_jupyter"))
        refuse(self.name, "v2", "create_pod", spec, lacking)
        volume = spec.volume_gb or spec.network_volume
        body = given(
            **_container(spec),
            templateId=spec.template_id,
            cloudType=spec.cloud,
            dataCenterIds=spec.data_centers,
            globalNetworking=spec.global_networking,
            interruptible=spec.interruptible,
            # 20 GB is v1's own default, and costs; a template may have its own.
            volumeInGb=spec.volume_gb if volume or spec.template_id else 0,
            volumeMountPath=spec.volume_path if volume else None,
            networkVolumeId=spec.network_volume,
        )
        if spec.gpu is not None:
            body |= {"computeType": "GPU", "gpuTypeIds": [spec.gpu], "gpuCount": spec.gpu_count or 1}
            body |= given(allowedCudaVersions=spec.cuda_versions)
        else:
            body |= {"computeType": "CPU", "cpuFlavorIds": [spec.cpu], "vcpuCount": spec.vcpus or 2}
        return Request("create_pod", "POST", "pods", _pod, body)

    def update_pod(self, pod_id: str, changes: PodChanges) -> Request[Pod]:
        body = given(**_container(changes), globalNetworking=changes.global_networking, locked=changes.locked)
        return Request("update_pod", "POST", f"pods/{pod_id}/update", _pod, body, pod_id=pod_id)

    def act_on_pod(self, pod_id: str, action: str) -> Request[Pod | None]:
        path = f"pods/{pod_id}/{action}"
        return Request(f"{action}_pod", "POST", path, nothing, pod_id=pod_id, has_body=False)

    def terminate_pod(self, pod_id: str) -> Request[None]:
        return Request("terminate_pod", "DELETE", f"pods/{pod_id}", nothing, pod_id=pod_id, has_body=False)

    def pod_logs(self, pod_id: str, source: str | None, tail: int) -> Request[None]:
        raise NotOffered("pod_logs", self.name, "v2", "RunPod's console shows them")

    def list_endpoints(self) -> Request[list[ServerlessEndpoint]]:
        return Request("list_endpoints", "GET", "endpoints", each("endpoints", _endpoint))

    def get_endpoint(self, endpoint: str) -> Request[ServerlessEndpoint]:
        return Request("get_endpoint", "GET", f"endpoints/{endpoint}", _endpoint, endpoint=endpoint)

    def create_endpoint(self, spec: EndpointSpec) -> Request[ServerlessEndpoint]:
        if spec.type != "QUEUE":
            raise NotOffered(f"create_endpoint(type={spec.type!r})", self.name, "v2")
        body = self._endpoint_body("create_endpoint", spec)
        if spec.cpu is not None:
            body |= {"computeType": "CPU", "cpuFlavorIds": [spec.cpu], "vcpuCount": spec.vcpus or 2}
        else:
            body["computeType"] = "GPU"
        return Request("create_endpoint", "POST", "endpoints", _endpoint, body)

    def update_endpoint(self, endpoint: str, changes: EndpointChanges) -> Request[ServerlessEndpoint]:
        body, path = self._endpoint_body("update_endpoint", changes), f"endpoints/{endpoint}/update"
        return Request("update_endpoint", "POST", path, _endpoint, body, endpoint=endpoint)

    def _endpoint_body(self, operation: str, spec: EndpointSpec | EndpointChanges) -> dict[str, Any]:
        refuse(self.name, "v2", operation, spec, ENDPOINT_LACKS)
        value = spec.scaler_value
        if value is not None and value != int(value):
            raise InvalidOption("scaler_value", value, "a whole number, with REST v1")
        return given(
            name=spec.name,
            templateId=spec.template_id,
            gpuTypeIds=spec.gpu_types,
            gpuCount=spec.gpu_count,
            workersMin=spec.workers_min,
            workersMax=spec.workers_max,
            idleTimeout=spec.idle_timeout_s,
            scalerType=spec.scaler,
            scalerValue=None if value is None else int(value),
            executionTimeoutMs=milliseconds(spec.execution_timeout_s),
            dataCenterIds=spec.data_centers,
            networkVolumeIds=spec.network_volumes,
            flashboot=spec.flashboot,
        )

    def delete_endpoint(self, endpoint: str) -> Request[None]:
        path = f"endpoints/{endpoint}"
        return Request("delete_endpoint", "DELETE", path, nothing, endpoint=endpoint, has_body=False)

    def list_workers(self, endpoint: str) -> Request[list[ServerlessWorker]]:
        path, query = f"endpoints/{endpoint}", {"includeWorkers": "true"}
        return Request("list_workers", "GET", path, _workers, query=query, endpoint=endpoint)

    def list_gpus(self, available_for: str | None) -> Request[list[GpuType]]:
        raise NotOffered("list_gpus", self.name, "v2")

    def pod_billing(self, pod_id: str | None, period: BillingPeriod) -> Request[list[BillingRow]]:
        query = _billing_query("pod_billing", period, "podId") | given(podId=pod_id)
        return Request("pod_billing", "GET", "billing/pods", rows(_row), query=query, pod_id=pod_id)

    def endpoint_billing(self, endpoint: str | None, period: BillingPeriod) -> Request[list[BillingRow]]:
        query = _billing_query("endpoint_billing", period, "endpointId") | given(endpointId=endpoint)
        path = "billing/endpoints"
        return Request("endpoint_billing", "GET", path, rows(_row), query=query, endpoint=endpoint)


def _container(spec: PodSpec | PodChanges) -> dict[str, Any]:
    return given(
        name=spec.name,
        imageName=spec.image,
        dockerStartCmd=None if spec.args is None else _words(spec.args),
        containerDiskInGb=spec.disk_gb,
        env=spec.env,
        ports=spec.ports,
        containerRegistryAuthId=spec.registry,
    )


def _words(args: str) -> list[str]:
    try:
        return shlex.split(args)
    except ValueError as error:
        problem = str(error)
    raise InvalidOption("args", problem, "words as a shell reads them, with REST v1")


def _billing_query(operation: str, period: BillingPeriod, grouping: str) -> dict[str, str]:
    refuse("v1", "v2", operation, period, {"last": "give start and end"})
    return period.query() | {"grouping": grouping}


def _pod(data: Any) -> Pod:
    told, pod_id = identified(data, "pod")
    gpu, machine = mapping(told.get("gpu")), mapping(told.get("machine"))
    public = {whole(inner): whole(outer) for inner, outer in mapping(told.get("portMappings")).items()}
    secure = machine.get("secureCloud")
    is_cpu = not gpu and text(told.get("cpuFlavorId")) is not None
    return Pod(
        id=pod_id,
        name=text(told.get("name")) or "",
        status=text(told.get("desiredStatus")) or UNKNOWN,
        image=text(told.get("image")),
        gpu=None if is_cpu else text(gpu.get("id")) or text(machine.get("gpuTypeId")),
        gpu_count=count(gpu.get("count")),
        cpu=text(told.get("cpuFlavorId")),
        vcpus=whole(told.get("vcpuCount")),
        memory_gb=number(told.get("memoryInGb")),
        cloud=None if not isinstance(secure, bool) else "SECURE" if secure else "COMMUNITY",
        data_center=text(machine.get("dataCenterId")),
        usd_per_hour=number(told.get("adjustedCostPerHr", told.get("costPerHr"))),
        template_id=text(told.get("templateId")),
        disk_gb=whole(told.get("containerDiskInGb")),
        ports=texts(told.get("ports")),
        public_ip=text(told.get("publicIp")),
        public_ports={inner: outer for inner, outer in public.items() if inner is not None and outer is not None},
        env=dict(mapping(told.get("env"))),
        locked=told.get("locked") is True,
        started_at=moment(told.get("lastStartedAt")),
    )


def _endpoint(data: Any) -> ServerlessEndpoint:
    told, endpoint = identified(data, "endpoint")
    volumes = texts(told.get("networkVolumeIds"))
    volume = text(told.get("networkVolumeId"))
    return ServerlessEndpoint(
        id=endpoint,
        name=text(told.get("name")) or "",
        template_id=text(told.get("templateId")),
        gpu_types=texts(told.get("gpuTypeIds")),
        gpu_count=count(told.get("gpuCount")),
        cpu=texts(told.get("instanceIds")),
        workers_min=count(told.get("workersMin")),
        workers_max=count(told.get("workersMax")),
        idle_timeout_s=number(told.get("idleTimeout")),
        scaler=text(told.get("scalerType")),
        scaler_value=number(told.get("scalerValue")),
        execution_timeout_s=seconds_of(told.get("executionTimeoutMs")),
        data_centers=texts(told.get("dataCenterIds")),
        network_volumes=volumes or ((volume,) if volume else ()),
        env=dict(mapping(told.get("env"))),
        created_at=moment(told.get("createdAt")),
    )


def _workers(data: Any) -> list[ServerlessWorker]:
    told, _ = identified(data, "endpoint")
    version = told.get("version")
    pods = [(_pod(one), one.get("slsVersion", version)) for one in objects(told.get("workers")) if text(one.get("id"))]
    return [
        ServerlessWorker(
            id=pod.id,
            status=pod.status,
            gpu=pod.gpu,
            gpu_count=pod.gpu_count,
            image=pod.image,
            data_center=pod.data_center,
            stale=running != version,
            started_at=pod.started_at,
        )
        for pod, running in pods
    ]


def _row(told: Mapping[str, Any]) -> BillingRow:
    return BillingRow(
        resource_id=text(told.get("podId")) or text(told.get("endpointId")),
        start=moment(told.get("time")),
        end=None,
        amount_usd=number(told.get("amount")) or 0.0,
        billed_s=seconds_of(told.get("timeBilledMs")),
    )
