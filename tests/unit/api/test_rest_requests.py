"""What each version says in its own way: paths, bodies, queries. Without a network: requests are values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from celery_runpod.api import BillingPeriod, EndpointChanges, EndpointSpec, PodChanges, PodSpec
from celery_runpod.api._rest import Dialect, Request
from celery_runpod.api._restv1 import V1
from celery_runpod.api._restv2 import V2
from celery_runpod.errors import InvalidOption, NotOffered

from .rest import worded

POD = PodSpec(name="train", image="me/train:3", gpu="NVIDIA L4", gpu_count=2, args="--lr '0 1'", disk_gb=50)
CPU_POD = PodSpec(name="web", image="me/web:1", cpu="cpu3c", vcpus=4)


def sent(request: Request[Any]) -> tuple[str, str, Any]:
    return request.method, request.path, None if request.body is None else dict(request.body)


def test_a_gpu_pod() -> None:
    assert sent(worded(V2, "create_pod", POD)) == (
        "POST",
        "pods",
        {
            "name": "train",
            "image": "me/train:3",
            "args": "--lr '0 1'",
            "disk": 50,
            "gpu": {"id": "NVIDIA L4", "count": 2},
        },
    )
    assert sent(worded(V1, "create_pod", POD)) == (
        "POST",
        "pods",
        {
            "name": "train",
            "imageName": "me/train:3",
            "dockerStartCmd": ["--lr", "0 1"],
            "containerDiskInGb": 50,
            "volumeInGb": 0,
            "computeType": "GPU",
            "gpuTypeIds": ["NVIDIA L4"],
            "gpuCount": 2,
        },
    )


def test_a_cpu_pod() -> None:
    assert sent(worded(V2, "create_pod", CPU_POD))[2]["cpu"] == {"id": "cpu3c", "vcpuCount": 4}
    body = sent(worded(V1, "create_pod", CPU_POD))[2]
    assert (body["computeType"], body["cpuFlavorIds"], body["vcpuCount"]) == ("CPU", ["cpu3c"], 4)
    assert "gpuTypeIds" not in body and "gpu" not in sent(worded(V2, "create_pod", CPU_POD))[2]


@pytest.mark.parametrize(
    ("given", "v2", "v1"),
    [
        ({"volume_gb": 20}, {"persistent": {"size": 20, "path": "/workspace"}}, (20, "/workspace", None)),
        (
            {"network_volume": "agv6", "volume_path": "/data"},
            {"network": [{"volumeId": "agv6", "path": "/data"}]},
            (None, "/data", "agv6"),
        ),
        ({}, None, (0, None, None)),
        ({"template_id": "9x4m"}, None, (None, None, None)),
    ],
)
def test_storage(given: dict[str, Any], v2: Any, v1: tuple[Any, ...]) -> None:
    """v1 would add 20 GB of its own accord."""
    spec = PodSpec(image="a", gpu="NVIDIA L4", **given)
    assert sent(worded(V2, "create_pod", spec))[2].get("mounts") == v2
    body = sent(worded(V1, "create_pod", spec))[2]
    assert (body.get("volumeInGb"), body.get("volumeMountPath"), body.get("networkVolumeId")) == v1


def test_cuda_of_a_pod() -> None:
    spec = PodSpec(image="a", gpu="NVIDIA L4", cuda_versions=("12.8",))
    assert sent(worded(V2, "create_pod", spec))[2]["gpu"]["allowedCudaVersions"] == ["12.8"]
    assert sent(worded(V1, "create_pod", spec))[2]["allowedCudaVersions"] == ["12.8"]
    floor = PodSpec(image="a", gpu="NVIDIA L4", min_cuda="12.4")
    assert sent(worded(V2, "create_pod", floor))[2]["gpu"]["minCudaVersion"] == "12.4"


def test_changes_of_a_pod() -> None:
    changes = PodChanges(name="b", env={}, locked=False)
    assert sent(worded(V2, "update_pod", "7h", changes)) == (
        "PATCH",
        "pods/7h",
        {"name": "b", "env": {}, "locked": False},
    )
    assert sent(worded(V1, "update_pod", "7h", changes)) == (
        "POST",
        "pods/7h/update",
        {"name": "b", "env": {}, "locked": False},
    )


@pytest.mark.parametrize("action", ["start", "stop", "restart"])
def test_actions(action: str) -> None:
    assert sent(worded(V2, f"{action}_pod", "7h")) == ("POST", "pods/7h/action", {"action": action})
    assert sent(worded(V1, f"{action}_pod", "7h")) == ("POST", f"pods/7h/{action}", None)
    assert worded(V2, f"{action}_pod", "7h").operation == worded(V1, f"{action}_pod", "7h").operation == f"{action}_pod"


@pytest.mark.parametrize("version", [V1, V2])
def test_an_end(version: Dialect) -> None:
    assert sent(worded(version, "terminate_pod", "7h")) == ("DELETE", "pods/7h", None)
    assert not worded(version, "terminate_pod", "7h").has_body
    assert sent(worded(version, "delete_endpoint", "4m"))[0] == "DELETE"


def test_an_endpoint() -> None:
    common: dict[str, Any] = {
        "name": "sdxl",
        "workers_min": 0,
        "workers_max": 3,
        "idle_timeout": 5,
        "execution_timeout": timedelta(minutes=10),
        "flashboot": False,
        "network_volumes": ["agv6"],
    }
    v2 = EndpointSpec(image="me/sdxl:3", gpu_pools=["ADA_24"], excluded_gpu_types=["NVIDIA L4"], **common)
    assert sent(worded(V2, "create_endpoint", v2)) == (
        "POST",
        "serverless",
        {
            "name": "sdxl",
            "image": "me/sdxl:3",
            "type": "QUEUE",
            "gpu": {"pools": ["ADA_24"], "excludedTypes": ["NVIDIA L4"]},
            "workers": {"min": 0, "max": 3, "idleTimeout": 5},
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "timeout": 600_000,
            "flashboot": "OFF",
            "networkVolumes": ["agv6"],
        },
    )
    v1 = EndpointSpec(template_id="30zm", gpu_types=["NVIDIA L4"], **common)
    assert sent(worded(V1, "create_endpoint", v1)) == (
        "POST",
        "endpoints",
        {
            "name": "sdxl",
            "templateId": "30zm",
            "computeType": "GPU",
            "gpuTypeIds": ["NVIDIA L4"],
            "workersMin": 0,
            "workersMax": 3,
            "idleTimeout": 5,
            "scalerType": "QUEUE_DELAY",
            "scalerValue": 4,
            "executionTimeoutMs": 600_000,
            "flashboot": False,
            "networkVolumeIds": ["agv6"],
        },
    )


def test_scaling_by_requests() -> None:
    changes = EndpointChanges(scaler="REQUEST_COUNT", scaler_value=2.0)
    assert sent(worded(V2, "update_endpoint", "4m", changes)) == (
        "PATCH",
        "serverless/4m",
        {"scaling": {"type": "REQUEST_COUNT", "requestCount": 2}},
    )
    assert sent(worded(V1, "update_endpoint", "4m", changes)) == (
        "POST",
        "endpoints/4m/update",
        {"scalerType": "REQUEST_COUNT", "scalerValue": 2},
    )


def test_half_a_second_of_queue_delay_is_for_v2() -> None:
    changes = EndpointChanges(scaler="QUEUE_DELAY", scaler_value=0.5)
    assert sent(worded(V2, "update_endpoint", "4m", changes))[2]["scaling"]["queueDelay"] == 0.5
    with pytest.raises(InvalidOption, match="whole number"):
        worded(V1, "update_endpoint", "4m", changes)


def test_queries() -> None:
    start = datetime(2026, 6, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    period = BillingPeriod(start, datetime(2026, 7, 1, tzinfo=UTC), "week")
    window = {"bucketSize": "week", "startTime": "2026-06-01T00:00:00Z", "endTime": "2026-07-01T00:00:00Z"}
    assert worded(V2, "pod_billing", "7h", period).query == window | {"podId": "7h"}
    assert worded(V1, "pod_billing", "7h", period).query == window | {"podId": "7h", "grouping": "podId"}
    assert worded(V2, "endpoint_billing", None, BillingPeriod(last=3)).query == {"bucketSize": "day", "lastN": "3"}
    assert worded(V1, "endpoint_billing", "4m", BillingPeriod()).query == {
        "bucketSize": "day",
        "grouping": "endpointId",
        "endpointId": "4m",
    }
    assert worded(V2, "list_gpus", "POD").query == {"include": "AVAILABILITY", "product": "POD"}
    assert worded(V2, "list_gpus", None).query == {}
    assert worded(V2, "pod_logs", "7h", None, 5).query == {"tail": "5"}


GPU: dict[str, Any] = {"image": "a", "gpu": "NVIDIA L4"}
TEMPLATE: dict[str, Any] = {"template_id": "30zm", "gpu_types": ["NVIDIA L4"]}


@pytest.mark.parametrize(
    ("ask", "operation", "here", "there"),
    [
        (lambda: worded(V2, "reset_pod", "7h"), "reset_pod", "v2", "v1"),
        (
            lambda: worded(V2, "create_pod", PodSpec(**GPU, interruptible=True)),
            "create_pod(interruptible=...)",
            "v2",
            "v1",
        ),
        (
            lambda: worded(V2, "create_endpoint", EndpointSpec(image="a", gpu_types=["NVIDIA L4"])),
            "create_endpoint(gpu_types=...)",
            "v2",
            "v1",
        ),
        (
            lambda: worded(V2, "update_endpoint", "4m", EndpointChanges(gpu_types=["NVIDIA L4"])),
            "update_endpoint(gpu_types=...)",
            "v2",
            "v1",
        ),
        (lambda: worded(V1, "pod_logs", "7h", None, 1), "pod_logs", "v1", "v2"),
        (lambda: worded(V1, "list_gpus", None), "list_gpus", "v1", "v2"),
        (lambda: worded(V1, "pod_billing", None, BillingPeriod(last=1)), "pod_billing(last=...)", "v1", "v2"),
        (lambda: worded(V1, "create_pod", PodSpec(**GPU, min_cuda="12.4")), "create_pod(min_cuda=...)", "v1", "v2"),
        (lambda: worded(V1, "create_pod", PodSpec(**GPU, start_ssh=True)), "create_pod(start_ssh=...)", "v1", "v2"),
        (
            lambda: worded(V1, "create_endpoint", EndpointSpec(image="a", gpu_types=["NVIDIA L4"])),
            "create_endpoint(image=...)",
            "v1",
            "v2",
        ),
        (
            lambda: worded(V1, "create_endpoint", EndpointSpec(template_id="30zm", gpu_pools=["ADA_24"])),
            "create_endpoint(gpu_pools=...)",
            "v1",
            "v2",
        ),
        (
            lambda: worded(
                V1,
                "create_endpoint",
                EndpointSpec(**TEMPLATE, type="LOAD_BALANCER", scaler="REQUEST_COUNT", scaler_value=1),
            ),
            "create_endpoint(type='LOAD_BALANCER')",
            "v1",
            "v2",
        ),
    ],
)
def test_what_a_version_has_not_got(ask: Any, operation: str, here: str, there: str) -> None:
    with pytest.raises(NotOffered) as caught:
        ask()
    error = caught.value
    assert (error.operation, error.version, error.offered_by) == (operation, here, there)
    assert operation in str(error) and f"{here} does not offer it, {there} does" in str(error)


def test_arguments_that_no_shell_would_read() -> None:
    with pytest.raises(InvalidOption, match="No closing quotation"):
        worded(V1, "create_pod", PodSpec(**GPU, args="--name 'oops"))


def test_no_request_shows_its_body() -> None:
    assert "hush" not in repr(worded(V2, "create_pod", PodSpec(**GPU, env={"TOKEN": "hush"})))
