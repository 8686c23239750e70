"""The operations of RunPod's management API: one table, a line for each.

`ManagementClient` has a method for each, the worker a task, and RunPod's REST API a method and a path.

Not here: bodies, queries and answers (``_restv2.py``), and how the retired REST v1 differs (``_restv1.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from celery_runpod.api._billing import BillingRow
from celery_runpod.api._catalog import GpuType
from celery_runpod.api._endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api._pods import Pod

T = TypeVar("T")

About = Literal["pod", "endpoint"]


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One operation; `T` is what its method returns.

    Args:
        name: the method of ManagementClient; part of every error.
        task: the worker's task.
        call: method and path.
        answer: which parser of the dialect reads the answer.
        about: what the id in the path, or in the query of a bill, names.
    """

    name: str
    task: str
    call: str
    answer: str
    about: About | None = None


OPERATIONS: dict[str, Operation[Any]] = {}


def _add(operation: Operation[T]) -> Operation[T]:
    OPERATIONS[operation.name] = operation
    return operation


# fmt: off
# The operation, its task, its call, how its answer is read, what its id names.
LIST_PODS = _add(Operation[list[Pod]](
    "list_pods", "runpod.pods.list", "GET pods", "pods"))
GET_POD = _add(Operation[Pod](
    "get_pod", "runpod.pods.get", "GET pods/{id}", "pod", "pod"))
CREATE_POD = _add(Operation[Pod](
    "create_pod", "runpod.pods.create", "POST pods", "pod"))
UPDATE_POD = _add(Operation[Pod](
    "update_pod", "runpod.pods.update", "PATCH pods/{id}", "pod", "pod"))
START_POD = _add(Operation[Pod | None](
    "start_pod", "runpod.pods.start", "POST pods/{id}/action", "acted", "pod"))
STOP_POD = _add(Operation[Pod | None](
    "stop_pod", "runpod.pods.stop", "POST pods/{id}/action", "acted", "pod"))
RESTART_POD = _add(Operation[Pod | None](
    "restart_pod", "runpod.pods.restart", "POST pods/{id}/action", "acted", "pod"))
RESET_POD = _add(Operation[Pod | None](
    "reset_pod", "runpod.pods.reset", "POST pods/{id}/reset", "acted", "pod"))
TERMINATE_POD = _add(Operation[None](
    "terminate_pod", "runpod.pods.terminate", "DELETE pods/{id}", "nothing", "pod"))
POD_LOGS = _add(Operation[None](
    "pod_logs", "runpod.pods.logs", "GET pods/{id}/logs", "nothing", "pod"))
POD_BILLING = _add(Operation[list[BillingRow]](
    "pod_billing", "runpod.pods.billing", "GET billing/pods", "bill", "pod"))
LIST_ENDPOINTS = _add(Operation[list[ServerlessEndpoint]](
    "list_endpoints", "runpod.endpoints.list", "GET serverless", "endpoints"))
GET_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "get_endpoint", "runpod.endpoints.get", "GET serverless/{id}", "endpoint", "endpoint"))
CREATE_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "create_endpoint", "runpod.endpoints.create", "POST serverless", "endpoint"))
UPDATE_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "update_endpoint", "runpod.endpoints.update", "PATCH serverless/{id}", "endpoint", "endpoint"))
DELETE_ENDPOINT = _add(Operation[None](
    "delete_endpoint", "runpod.endpoints.delete", "DELETE serverless/{id}", "nothing", "endpoint"))
LIST_WORKERS = _add(Operation[list[ServerlessWorker]](
    "list_workers", "runpod.endpoints.workers", "GET serverless/{id}/workers", "workers", "endpoint"))
ENDPOINT_BILLING = _add(Operation[list[BillingRow]](
    "endpoint_billing", "runpod.endpoints.billing", "GET billing/serverless", "bill", "endpoint"))
LIST_GPUS = _add(Operation[list[GpuType]](
    "list_gpus", "runpod.gpus", "GET catalog/gpus", "gpus"))
# fmt: on

MANAGEMENT = tuple(operation.task for operation in OPERATIONS.values())
"""Names of the worker's tasks, one around each method of ManagementClient."""
