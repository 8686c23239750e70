"""A few lines of RunPod's REST API for the tests of ManagementClient: one pod, one endpoint, in the words of a version.

It keeps nothing and judges nothing; what a client sends is in the server's `requests`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from celery_runpod.api._operations import OPERATIONS
from celery_runpod.api._rest import Dialect, request_of
from celery_runpod.api._rest import Request as Worded

from .servers import Request, answer

POD = "7h9k2m4n6p"
ENDPOINT = "4m7x2k9q"


def worded(dialect: Dialect, name: str, *args: Any) -> Worded[Any]:
    """The request of an operation in a version's words; the id comes first where the operation has one."""
    operation = OPERATIONS[name]
    return request_of(dialect, operation, *args) if operation.about else request_of(dialect, operation, None, *args)


PODS: dict[str, dict[str, Any]] = {
    "v2": {
        "id": POD,
        "name": "train",
        "status": "RUNNING",
        "image": "me/train:3",
        "gpu": {"id": "NVIDIA L4", "count": 2},
        "cloud": "SECURE",
        "dataCenterId": "US-KS-2",
        "cost": 0.86,
        "template": "9x4m2p7v",
        "disk": 50,
        "ports": ["8888/http", "22/tcp"],
        "env": {"TOKEN": "hush"},
        "ssh": {"proxy": {"command": "ssh by-proxy"}, "direct": {"command": "ssh root@100.65.0.119 -p 10341"}},
        "runtime": {"uptime": 3600, "ports": [{"private": 22, "public": 10341, "type": "tcp", "ip": "100.65.0.119"}]},
        "actions": ["stop", "restart", "terminate"],
        "locked": True,
        "createdAt": "2026-06-01T12:00:00Z",
        "startedAt": "2026-06-01T12:02:00Z",
    },
    "v1": {
        "id": POD,
        "name": "train",
        "desiredStatus": "RUNNING",
        "image": "me/train:3",
        "gpu": {"id": "NVIDIA L4", "count": 2},
        "machine": {"dataCenterId": "US-KS-2", "secureCloud": True, "gpuTypeId": "NVIDIA L4"},
        "costPerHr": "0.86",
        "templateId": "9x4m2p7v",
        "containerDiskInGb": 50,
        "ports": ["8888/http", "22/tcp"],
        "env": {"TOKEN": "hush"},
        "publicIp": "100.65.0.119",
        "portMappings": {"22": 10341},
        "locked": True,
        "lastStartedAt": "2026-06-01T12:02:00Z",
    },
}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "v2": {
        "id": ENDPOINT,
        "name": "sdxl",
        "type": "QUEUE",
        "image": "me/sdxl:3",
        "gpu": {"pools": ["ADA_24"], "count": 1},
        "workers": {"min": 1, "max": 5, "idleTimeout": 7},
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        "timeout": 300000,
        "flashboot": "FLASHBOOT",
        "dataCenterIds": ["US-KS-2"],
        "networkVolumes": ["2q9m7x4c"],
        "createdAt": "2026-06-01T12:00:00Z",
    },
    "v1": {
        "id": ENDPOINT,
        "name": "sdxl",
        "templateId": "30zmvf89kd",
        "gpuTypeIds": ["NVIDIA L4"],
        "gpuCount": 1,
        "workersMin": 1,
        "workersMax": 5,
        "idleTimeout": 7,
        "scalerType": "QUEUE_DELAY",
        "scalerValue": 4,
        "executionTimeoutMs": 300000,
        "dataCenterIds": "US-KS-2",
        "networkVolumeIds": ["2q9m7x4c"],
        "createdAt": "2026-06-01T12:00:00Z",
        "version": 4,
        "workers": [PODS["v1"] | {"slsVersion": 3}],
    },
}
WORKER = {
    "id": "8g3n5t6r",
    "status": "IDLE",
    "gpuTypeId": "NVIDIA L4",
    "gpuCount": 1,
    "isStale": True,
    "uptimeSeconds": 9,
}
GPU = {
    "id": "NVIDIA L4",
    "name": "L4",
    "pool": "ADA_24",
    "manufacturer": "NVIDIA",
    "memory": 24,
    "secure": True,
    "community": False,
    "price": {"secure": 0.43, "community": 0.0, "serverless": 0.69},
    "maxCount": {"secure": 8, "community": 0},
    "availability": "LOW",
}
POD_BILL = {
    "startTime": "2026-06-01T00:00:00Z",
    "endTime": "2026-06-02T00:00:00Z",
    "podId": POD,
    "totalAmount": 12.34,
    "gpuAmount": 11.1,
    "cpuAmount": 0,
    "diskAmount": 1.24,
}
ENDPOINT_BILL = {**POD_BILL, "serverlessId": ENDPOINT, "feeAmount": 1.0}
ENDPOINT_BILL.pop("podId")
V1_BILL = {"amount": 12.34, "time": "2026-06-01T00:00:00Z", "timeBilledMs": 3600000}
LOG = b"""id: 2026-06-01T12:02:03Z/1
data: {"ts":"2026-06-01T12:02:03Z","source":"container","line":"Model loaded."}

"""


def query_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))


def path_of(request: Request) -> str:
    return urlsplit(request.path).path


def v2(request: Request) -> bytes:
    """RunPod's REST v2, where all goes well."""
    told = (request.method, path_of(request).removeprefix("/v2"))
    pod, endpoint = PODS["v2"], ENDPOINTS["v2"]
    match told:
        case "DELETE", _:
            return answer(b"", 204)
        case "GET", "/pods":
            return answer({"pods": [pod]})
        case "POST", "/pods":
            return answer(pod | request.json() | {"status": "PROVISIONING"}, 201)
        case "GET", path if path.endswith("/logs"):
            return answer(LOG, content_type="text/event-stream")
        case _, path if path.startswith("/pods/"):
            return answer(pod)
        case "GET", "/serverless":
            return answer({"endpoints": [endpoint]})
        case "POST", "/serverless":
            return answer(endpoint | request.json(), 201)
        case "GET", path if path.endswith("/workers"):
            return answer({"workers": [WORKER], "summary": {}})
        case _, path if path.startswith("/serverless/"):
            return answer(endpoint)
        case "GET", "/catalog/gpus":
            return answer({"gpus": [GPU]})
        case "GET", "/billing/pods":
            return answer({"records": [POD_BILL], "metadata": {}})
        case "GET", "/billing/serverless":
            return answer({"records": [ENDPOINT_BILL], "metadata": {}})
    return answer({"title": "Not Found", "status": 404, "detail": f"no such path: {told}"}, 404)


def v1(request: Request) -> bytes:
    """RunPod's REST v1, where all goes well."""
    told = (request.method, path_of(request).removeprefix("/v1"))
    pod, endpoint = PODS["v1"], ENDPOINTS["v1"]
    match told:
        case "DELETE", _:
            return answer(b"", 204)
        case "GET", "/pods":
            return answer([pod])
        case "POST", "/pods":
            return answer(pod | {"name": request.json()["name"]}, 201)
        case "POST", path if path.rpartition("/")[2] in ("start", "stop", "restart", "reset"):
            return answer(b"")
        case _, path if path.startswith("/pods/"):
            return answer(pod)
        case "GET", "/endpoints":
            return answer([endpoint])
        case "POST", "/endpoints":
            return answer(endpoint | {"name": request.json()["name"]})
        case _, path if path.startswith("/endpoints/"):
            return answer(endpoint)
        case "GET", "/billing/pods":
            return answer([V1_BILL | {"podId": POD}])
        case "GET", "/billing/endpoints":
            return answer([V1_BILL | {"endpointId": ENDPOINT}])
    return answer({"message": f"no such path: {told}"}, 404)


REST = {"v2": v2, "v1": v1}
