"""One request of RunPod's REST API, as a value; and what each version of that API must know how to say.

    RestVersion    the operations, in our words
    ├── restv2.py  nested bodies, lists under a name, PATCH, POST .../action
    └── restv1.py  flat bodies, bare lists, POST .../update, POST .../start

A version is pure: it makes requests and reads answers, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import GpuType
from celery_runpod.api._endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api._endpointspec import EndpointChanges, EndpointSpec
from celery_runpod.api._fields import listed, text
from celery_runpod.api._pods import Pod
from celery_runpod.api._podspec import PodChanges, PodSpec
from celery_runpod.errors import NotOffered

T = TypeVar("T")


def nothing(_: Any) -> None:
    """The answer of an operation that has none."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request, and how its answer is read.

    Args:
        operation: our name for it; part of every error.
        endpoint, pod_id: what it is about; part of every error.
        has_body: False where a success has no body, or none that is documented.
        body: not in the repr: `env` may hold secrets.
    """

    operation: str
    method: str
    path: str
    parse: Callable[[Any], T]
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    pod_id: str | None = None
    has_body: bool = True


class RestVersion(Protocol):
    """A version of RunPod's REST API.

    Each method raises NotOffered where the version has not got the operation, or a field that is asked for. Ids in
    paths come in checked and quoted.
    """

    name: str

    def list_pods(self) -> Request[list[Pod]]: ...
    def get_pod(self, pod_id: str) -> Request[Pod]: ...
    def create_pod(self, spec: PodSpec) -> Request[Pod]: ...
    def update_pod(self, pod_id: str, changes: PodChanges) -> Request[Pod]: ...
    def act_on_pod(self, pod_id: str, action: str) -> Request[Pod | None]:
        """start, stop, restart or reset; None where the answer does not tell the pod."""

    def terminate_pod(self, pod_id: str) -> Request[None]: ...
    def pod_logs(self, pod_id: str, source: str | None, tail: int) -> Request[None]:
        """An answer that goes on, and is not parsed as JSON."""

    def list_endpoints(self) -> Request[list[ServerlessEndpoint]]: ...
    def get_endpoint(self, endpoint: str) -> Request[ServerlessEndpoint]: ...
    def create_endpoint(self, spec: EndpointSpec) -> Request[ServerlessEndpoint]: ...
    def update_endpoint(self, endpoint: str, changes: EndpointChanges) -> Request[ServerlessEndpoint]: ...
    def delete_endpoint(self, endpoint: str) -> Request[None]: ...
    def list_workers(self, endpoint: str) -> Request[list[ServerlessWorker]]: ...
    def list_gpus(self, available_for: str | None) -> Request[list[GpuType]]: ...
    def pod_billing(self, pod_id: str | None, period: BillingPeriod) -> Request[list[BillingRow]]: ...
    def endpoint_billing(self, endpoint: str | None, period: BillingPeriod) -> Request[list[BillingRow]]: ...


def each(name: str, parse: Callable[[Mapping[str, Any]], T]) -> Callable[[Any], list[T]]:
    """How a list of things is read; one without an id cannot be told from its like, and is left out."""
    return lambda data: [parse(one) for one in listed(data, name) if text(one.get("id"))]


def rows(parse: Callable[[Mapping[str, Any]], T]) -> Callable[[Any], list[T]]:
    """How the records of a bill are read; they have no ids of their own."""
    return lambda data: [parse(one) for one in listed(data, "records")]


def given(**fields: Any) -> dict[str, Any]:
    """A body without what is None; sequences and mappings as JSON has them."""
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as RunPod wants them; None stays None."""
    return None if seconds is None else round(seconds * 1000)


def refuse(version: str, other: str, operation: str, spec: Any, lacking: Mapping[str, str | None]) -> None:
    """Raises NotOffered for the first field that is given and that the version does not know: `lacking` has these,
    each with what to do instead."""
    for name, instead in lacking.items():
        if getattr(spec, name) is not None:
            raise NotOffered(f"{operation}({name}=...)", version, other, instead)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
