"""The operations of RunPod's management API: one table, a line for each.

`ManagementClient` has a method for each, the worker a task, and each version of the REST API a method and a path.
A version without a path does not offer the operation.

The bodies, queries and answers of a version stand in ``_restv2.py`` and ``_restv1.py``.
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
        v2, v1: method and path in each version; None where the version does not offer it.
        answer: which parser of the version reads the answer.
        about: what the id in the path, or in the query of a bill, names.
        instead: what to do where a version does not offer it.
    """

    name: str
    task: str
    v2: str | None
    v1: str | None
    answer: str
    about: About | None = None
    instead: str | None = None

    def call(self, version: str) -> str | None:
        """Method and path in a version."""
        return self.v1 if version == "v1" else self.v2


OPERATIONS: dict[str, Operation[Any]] = {}


def _add(operation: Operation[T]) -> Operation[T]:
    OPERATIONS[operation.name] = operation
    return operation


# fmt: off
# The operation, its task, REST v2, REST v1, how its answer is read, what its id names.
LIST_PODS = _add(Operation[list[Pod]](
    "list_pods", "runpod.pods.list", "GET pods", "GET pods", "pods"))
GET_POD = _add(Operation[Pod](
    "get_pod", "runpod.pods.get", "GET pods/{id}", "GET pods/{id}", "pod", "pod"))
CREATE_POD = _add(Operation[Pod](
    "create_pod", "runpod.pods.create", "POST pods", "POST pods", "pod"))
UPDATE_POD = _add(Operation[Pod](
    "update_pod", "runpod.pods.update", "PATCH pods/{id}", "POST pods/{id}/update", "pod", "pod"))
START_POD = _add(Operation[Pod | None](
    "start_pod", "runpod.pods.start", "POST pods/{id}/action", "POST pods/{id}/start", "acted", "pod"))
STOP_POD = _add(Operation[Pod | None](
    "stop_pod", "runpod.pods.stop", "POST pods/{id}/action", "POST pods/{id}/stop", "acted", "pod"))
RESTART_POD = _add(Operation[Pod | None](
    "restart_pod", "runpod.pods.restart", "POST pods/{id}/action", "POST pods/{id}/restart", "acted", "pod"))
RESET_POD = _add(Operation[Pod | None](
    "reset_pod", "runpod.pods.reset", None, "POST pods/{id}/reset", "acted", "pod",
    "restart_pod restarts the container in place"))
TERMINATE_POD = _add(Operation[None](
    "terminate_pod", "runpod.pods.terminate", "DELETE pods/{id}", "DELETE pods/{id}", "nothing", "pod"))
POD_LOGS = _add(Operation[None](
    "pod_logs", "runpod.pods.logs", "GET pods/{id}/logs", None, "nothing", "pod", "RunPod's console shows them"))
POD_BILLING = _add(Operation[list[BillingRow]](
    "pod_billing", "runpod.pods.billing", "GET billing/pods", "GET billing/pods", "bill", "pod"))
LIST_ENDPOINTS = _add(Operation[list[ServerlessEndpoint]](
    "list_endpoints", "runpod.endpoints.list", "GET serverless", "GET endpoints", "endpoints"))
GET_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "get_endpoint", "runpod.endpoints.get", "GET serverless/{id}", "GET endpoints/{id}", "endpoint", "endpoint"))
CREATE_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "create_endpoint", "runpod.endpoints.create", "POST serverless", "POST endpoints", "endpoint"))
UPDATE_ENDPOINT = _add(Operation[ServerlessEndpoint](
    "update_endpoint", "runpod.endpoints.update", "PATCH serverless/{id}", "POST endpoints/{id}/update",
    "endpoint", "endpoint"))
DELETE_ENDPOINT = _add(Operation[None](
    "delete_endpoint", "runpod.endpoints.delete", "DELETE serverless/{id}", "DELETE endpoints/{id}",
    "nothing", "endpoint"))
LIST_WORKERS = _add(Operation[list[ServerlessWorker]](
    "list_workers", "runpod.endpoints.workers", "GET serverless/{id}/workers", "GET endpoints/{id}",
    "workers", "endpoint"))
ENDPOINT_BILLING = _add(Operation[list[BillingRow]](
    "endpoint_billing", "runpod.endpoints.billing", "GET billing/serverless", "GET billing/endpoints",
    "bill", "endpoint"))
LIST_GPUS = _add(Operation[list[GpuType]](
    "list_gpus", "runpod.gpus", "GET catalog/gpus", None, "gpus"))
# fmt: on

MANAGEMENT = tuple(operation.task for operation in OPERATIONS.values())
"""Names of the worker's tasks, one around each method of ManagementClient."""
