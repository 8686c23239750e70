"""RunPod's REST API v2, the current one (docs.runpod.io/api-reference-v2): its bodies, queries and answers.

Not here: paths (``_operations.py``), sending (``_management.py``), what a pod is (``_pods.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import parse_gpu
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

NO_TYPES = {"gpu_types": "v2 places workers by pools: give gpu_pools, list_gpus() has the pool of each type"}


def _new_pod(spec: PodSpec) -> dict[str, Any]:
    refuse("v2", "v1", "create_pod", spec, {"interruptible": None})
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
        return body | {"gpu": {"id": spec.gpu, "count": spec.gpu_count or 1, **cuda}}
    return body | {"cpu": {"id": spec.cpu, "vcpuCount": spec.vcpus or 2}}


def _changed_pod(changes: PodChanges) -> dict[str, Any]:
    return given(**_container(changes), globalNetworking=changes.global_networking, locked=changes.locked)


def _new_endpoint(spec: EndpointSpec) -> dict[str, Any]:
    body = _endpoint_body("create_endpoint", spec) | {"type": spec.type}
    return body if spec.cpu is None else body | {"cpu": [{"id": spec.cpu, "vcpuCount": spec.vcpus or 2}]}


def _changed_endpoint(changes: EndpointChanges) -> dict[str, Any]:
    return _endpoint_body("update_endpoint", changes)


def _endpoint_body(operation: str, spec: EndpointSpec | EndpointChanges) -> dict[str, Any]:
    refuse("v2", "v1", operation, spec, NO_TYPES)
    workers = given(min=spec.workers_min, max=spec.workers_max, idleTimeout=whole_seconds(spec.idle_timeout))
    gpu = given(pools=spec.gpu_pools, excludedTypes=spec.excluded_gpu_types, count=spec.gpu_count)
    return given(
        **_container(spec),
        templateId=spec.template_id,
        gpu=gpu or None,
        workers=workers or None,
        scaling=_scaling(spec),
        timeout=milliseconds(spec.execution_timeout),
        dataCenterIds=spec.data_centers,
        networkVolumes=spec.network_volumes,
        flashboot=None if spec.flashboot is None else "FLASHBOOT" if spec.flashboot else "OFF",
    )


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


def _billing_query(name: str) -> Callable[[str | None, BillingPeriod], dict[str, str]]:
    def query(resource_id: str | None, period: BillingPeriod) -> dict[str, str]:
        last = None if period.last is None else str(period.last)
        return period.query() | given(lastN=last, **{name: resource_id})

    return query


def _logs_query(source: str | None, tail: int) -> dict[str, str]:
    return given(source=source, tail=str(tail))


def _gpus_query(available_for: str | None) -> dict[str, str]:
    return {"include": "AVAILABILITY", "product": available_for} if available_for else {}


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


V2 = Dialect(
    name="v2",
    other="v1",
    base_url="https://api.runpod.io/v2",
    lacks={"reset_pod": "restart_pod restarts the container in place"},
    bodies={
        "create_pod": _new_pod,
        "update_pod": _changed_pod,
        "start_pod": lambda: {"action": "start"},
        "stop_pod": lambda: {"action": "stop"},
        "restart_pod": lambda: {"action": "restart"},
        "create_endpoint": _new_endpoint,
        "update_endpoint": _changed_endpoint,
    },
    queries={
        "pod_logs": _logs_query,
        "list_gpus": _gpus_query,
        "pod_billing": _billing_query("podId"),
        "endpoint_billing": _billing_query("serverlessId"),
    },
    answers={
        "pod": _pod,
        "pods": each("pods", _pod),
        "acted": _pod,
        "endpoint": _endpoint,
        "endpoints": each("endpoints", _endpoint),
        "workers": each("workers", _worker),
        "gpus": each("gpus", parse_gpu),
        "bill": rows(_row),
        "nothing": nothing,
    },
)
