"""Every request that ManagementClient sends is described for the version in use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_runpod.api import BillingPeriod, EndpointChanges, EndpointSpec, ManagementClient, PodChanges, PodSpec
from celery_runpod.api._rest import Request as Sent
from celery_runpod.api._restv1 import V1
from celery_runpod.api._restv2 import V2
from celery_runpod.errors import NotOffered
from tests.unit.api.rest import ENDPOINT, POD, REST, path_of, query_of, worded
from tests.unit.api.servers import Loopback

from .described import VERSIONS, check_request

PERIOD = BillingPeriod(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC), "week")
CONTAINER = {"args": "--port 80", "disk_gb": 20, "env": {"A": "b"}, "ports": ["80/http"], "registry": "clz"}
GPU_POD = PodSpec(
    name="fresh",
    image="me/train:3",
    gpu="NVIDIA L4",
    gpu_count=2,
    cloud="COMMUNITY",
    volume_gb=20,
    data_centers=["US-KS-2"],
    cuda_versions=["12.8"],
    global_networking=True,
    **CONTAINER,
)
CPU_POD = PodSpec(image="me/web:1", cpu="cpu3c", vcpus=4, network_volume="agv6w2qcg7")
SCALING: dict[str, Any] = {
    "name": "fresh",
    "workers_min": 1,
    "workers_max": 3,
    "idle_timeout": 30,
    "execution_timeout": 900,
    "data_centers": ["US-KS-2"],
    "network_volumes": ["agv6w2qcg7"],
    "flashboot": True,
}
ENDPOINTS = {
    "v2": [
        EndpointSpec(image="me/sdxl:3", gpu_pools=["ADA_24"], excluded_gpu_types=["NVIDIA L4"], gpu_count=2, **SCALING),
        EndpointSpec(template_id="30zmvf89kd", cpu="cpu3c", scaler="REQUEST_COUNT", scaler_value=2, **CONTAINER),
        EndpointSpec(
            image="a", gpu_pools=["ADA_24"], type="LOAD_BALANCER", scaler="REQUEST_COUNT", scaler_value=4, name="lb"
        ),
    ],
    "v1": [
        EndpointSpec(template_id="30zmvf89kd", gpu_types=["NVIDIA L4"], gpu_count=2, **SCALING),
        EndpointSpec(template_id="30zmvf89kd", cpu="cpu3c", scaler="REQUEST_COUNT", scaler_value=2),
    ],
}
CHANGES = {
    "v2": EndpointChanges(
        gpu_pools=["ADA_24"], gpu_count=1, scaler="QUEUE_DELAY", scaler_value=8, **SCALING, **CONTAINER
    ),
    "v1": EndpointChanges(gpu_types=["NVIDIA L4"], scaler="QUEUE_DELAY", scaler_value=8, **SCALING),
}

Call = Callable[[ManagementClient, str], object]
CALLS: dict[str, list[Call]] = {
    "list_pods": [lambda client, _: client.list_pods()],
    "get_pod": [lambda client, _: client.get_pod(POD)],
    "create_pod": [lambda client, _: client.create_pod(GPU_POD), lambda client, _: client.create_pod(CPU_POD)],
    "update_pod": [
        lambda client, _: client.update_pod(
            POD, PodChanges(name="b", image="c", locked=False, global_networking=False, **CONTAINER)
        ),
    ],
    "start_pod": [lambda client, _: client.start_pod(POD)],
    "stop_pod": [lambda client, _: client.stop_pod(POD)],
    "restart_pod": [lambda client, _: client.restart_pod(POD)],
    "reset_pod": [lambda client, _: client.reset_pod(POD)],
    "terminate_pod": [lambda client, _: client.terminate_pod(POD)],
    "pod_logs": [
        lambda client, _: list(client.pod_logs(POD)),
        lambda client, _: list(client.pod_logs(POD, source="system", tail=0)),
    ],
    "wait_until_running": [lambda client, _: client.wait_until_running(POD, 1)],
    "list_endpoints": [lambda client, _: client.list_endpoints()],
    "get_endpoint": [lambda client, _: client.get_endpoint(ENDPOINT)],
    "create_endpoint": [lambda client, version: [client.create_endpoint(spec) for spec in ENDPOINTS[version]]],
    "update_endpoint": [lambda client, version: client.update_endpoint(ENDPOINT, CHANGES[version])],
    "delete_endpoint": [lambda client, _: client.delete_endpoint(ENDPOINT)],
    "list_workers": [lambda client, _: client.list_workers(ENDPOINT)],
    "list_gpus": [lambda client, _: client.list_gpus(), lambda client, _: client.list_gpus(available_for="POD")],
    "pod_billing": [lambda client, _: client.pod_billing(), lambda client, _: client.pod_billing(POD, PERIOD)],
    "endpoint_billing": [
        lambda client, _: client.endpoint_billing(),
        lambda client, _: client.endpoint_billing(ENDPOINT, PERIOD),
    ],
}
NOT_OFFERED = {"v2": {"reset_pod"}, "v1": {"pod_logs", "list_gpus"}}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runpod(version: str) -> Iterator[Loopback]:
    with Loopback(REST[version]) as server:
        yield server


def test_every_operation_is_called_here() -> None:
    public = {name for name, _ in inspect.getmembers(ManagementClient, inspect.isfunction) if not name.startswith("_")}
    assert set(CALLS) == public - {"close"}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_sent_is_described(runpod: Loopback, version: str, name: str) -> None:
    with ManagementClient("key", base_url=f"{runpod.origin}/{version}", rest_version=version) as client:
        for call in CALLS[name]:
            if name in NOT_OFFERED[version]:
                with pytest.raises(NotOffered):
                    call(client, version)
                continue
            call(client, version)
    for request in runpod.requests:
        body = request.json() if request.body else None
        check_request(version, request.method, path_of(request), query_of(request), body)
    assert bool(runpod.requests) is (name not in NOT_OFFERED[version])


def test_buckets_by_number_are_described_in_v2() -> None:
    _check("v2", worded(V2, "pod_billing", None, BillingPeriod(last=7)))
    _check("v2", worded(V2, "endpoint_billing", None, BillingPeriod(last=7, bucket="hour")))


NAMES = st.text(min_size=1, max_size=20).filter(str.strip)
GPU = st.fixed_dictionaries(
    {"gpu": st.just("NVIDIA L4")},
    optional={"gpu_count": st.integers(1, 8), "volume_gb": st.integers(10, 999), "cuda_versions": st.just(["12.8"])},
)
CPU = st.fixed_dictionaries({"cpu": st.just("cpu3c")}, optional={"vcpus": st.sampled_from([2, 4, 32])})
POD_SPECS = st.builds(
    lambda compute, rest: PodSpec(**compute, **rest),
    GPU | CPU,
    st.fixed_dictionaries(
        {"name": NAMES, "image": NAMES},
        optional={
            "template_id": NAMES,
            "cloud": st.sampled_from(["SECURE", "COMMUNITY"]),
            "disk_gb": st.integers(1, 999),
            "ports": st.lists(st.sampled_from(["22/tcp", "80/http"])),
            "env": st.dictionaries(NAMES.filter(lambda name: "=" not in name), st.text()),
            "args": st.just("python -m train --lr '0.1'"),
            "registry": NAMES,
            "data_centers": st.lists(st.sampled_from(["US-KS-2", "EU-RO-1"])),
            "global_networking": st.booleans(),
        },
    ),
)


@settings(max_examples=150, deadline=None)
@given(POD_SPECS)
def test_whatever_a_pod_spec_holds_is_described(spec: PodSpec) -> None:
    _check("v2", worded(V2, "create_pod", spec))
    _check("v1", worded(V1, "create_pod", spec))


def _check(version: str, request: Sent[Any]) -> None:
    check_request(version, request.method, f"/{version}/{request.path}", request.query, request.body)
