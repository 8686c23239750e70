"""RunPod's REST API v1, which RunPod retired on 2026-11-15 (docs.runpod.io/api-reference): its paths, bodies, queries
and answers, for who still sets `RUNPOD_REST_VERSION=v1`. To drop it, delete this file and what then has no use.

It lacks a container on an endpoint (a template has it), pools of GPUs, logs and the catalog. It has reset and
interruptible pods, which v2 lacks. It documents no body in the answers of its actions.

Not here: sending (``_management.py``), what a pod is (``_pods.py``).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._durations import milliseconds, whole_seconds
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
from celery_runpod.api._rest import Dialect, each, given, nothing, refuse, rows
from celery_runpod.errors import InvalidOption, NotOffered

FROM_TEMPLATE = "v1 takes the workers' container from a template: give template_id alone"
ENDPOINT_LACKS = {
    **dict.fromkeys(("image", "args", "disk_gb", "env", "ports", "registry"), FROM_TEMPLATE),
    "gpu_pools": "v1 places workers by types: give gpu_types",
    "excluded_gpu_types": "v1 places workers by types: give gpu_types",
}


def _new_pod(spec: PodSpec) -> dict[str, Any]:
    refuse("v1", "v2", "create_pod", spec, dict.fromkeys(("min_cuda", "start_ssh", "start_jupyter")))
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
    if spec.cpu is not None:
        return body | _on_cpu(spec)
    gpu = {"computeType": "GPU", "gpuTypeIds": [spec.gpu], "gpuCount": spec.gpu_count or 1}
    return body | gpu | given(allowedCudaVersions=spec.cuda_versions)


def _changed_pod(changes: PodChanges) -> dict[str, Any]:
    return given(**_container(changes), globalNetworking=changes.global_networking, locked=changes.locked)


def _new_endpoint(spec: EndpointSpec) -> dict[str, Any]:
    if spec.type != "QUEUE":
        raise NotOffered(f"create_endpoint(type={spec.type!r})", "v1", "v2")
    body = _endpoint_body("create_endpoint", spec)
    return body | ({"computeType": "GPU"} if spec.cpu is None else _on_cpu(spec))


def _changed_endpoint(changes: EndpointChanges) -> dict[str, Any]:
    return _endpoint_body("update_endpoint", changes)


def _endpoint_body(operation: str, spec: EndpointSpec | EndpointChanges) -> dict[str, Any]:
    refuse("v1", "v2", operation, spec, ENDPOINT_LACKS)
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
        idleTimeout=whole_seconds(spec.idle_timeout),
        scalerType=spec.scaler,
        scalerValue=None if value is None else int(value),
        executionTimeoutMs=milliseconds(spec.execution_timeout),
        dataCenterIds=spec.data_centers,
        networkVolumeIds=spec.network_volumes,
        flashboot=spec.flashboot,
    )


def _on_cpu(spec: PodSpec | EndpointSpec) -> dict[str, Any]:
    return {"computeType": "CPU", "cpuFlavorIds": [spec.cpu], "vcpuCount": spec.vcpus or 2}


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


def _billing_query(operation: str, name: str) -> Callable[[str | None, BillingPeriod], dict[str, str]]:
    def query(resource_id: str | None, period: BillingPeriod) -> dict[str, str]:
        refuse("v1", "v2", operation, period, {"last": "give start and end"})
        return period.query() | {"grouping": name} | given(**{name: resource_id})

    return query


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


V1 = Dialect(
    name="v1",
    other="v2",
    base_url="https://rest.runpod.io/v1",
    lacks={"pod_logs": "RunPod's console shows them", "list_gpus": None},
    calls={
        "update_pod": "POST pods/{id}/update",
        "start_pod": "POST pods/{id}/start",
        "stop_pod": "POST pods/{id}/stop",
        "restart_pod": "POST pods/{id}/restart",
        "list_endpoints": "GET endpoints",
        "get_endpoint": "GET endpoints/{id}",
        "create_endpoint": "POST endpoints",
        "update_endpoint": "POST endpoints/{id}/update",
        "delete_endpoint": "DELETE endpoints/{id}",
        "list_workers": "GET endpoints/{id}",
        "endpoint_billing": "GET billing/endpoints",
    },
    bodies={
        "create_pod": _new_pod,
        "update_pod": _changed_pod,
        "create_endpoint": _new_endpoint,
        "update_endpoint": _changed_endpoint,
    },
    queries={
        # Only then does v1 answer where a pod runs and on what, and which workers an endpoint has.
        "list_pods": lambda: {"includeMachine": "true"},
        "get_pod": lambda: {"includeMachine": "true"},
        "list_workers": lambda: {"includeWorkers": "true"},
        "pod_billing": _billing_query("pod_billing", "podId"),
        "endpoint_billing": _billing_query("endpoint_billing", "endpointId"),
    },
    answers={
        "pod": _pod,
        "pods": each("pods", _pod),
        "acted": nothing,
        "endpoint": _endpoint,
        "endpoints": each("endpoints", _endpoint),
        "workers": _workers,
        "bill": rows(_row),
        "nothing": nothing,
    },
)
