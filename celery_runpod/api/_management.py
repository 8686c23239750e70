"""ManagementClient: managed resources (pods and Serverless endpoints), GPUs and bills.

``_operations.py`` lists the operations, ``_restv2.py`` words them as RunPod's REST API wants them. ``_restv1.py`` words
them for the version that RunPod has retired.

Not here: jobs (``_serverless.py``), HTTP itself (``_transport.py``), how a create happens no more than once
(``_creation.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

from celery_runpod.api import _operations as ops
from celery_runpod.api._access import Key, rest_url_of
from celery_runpod.api._billing import BillingPeriod, BillingRow
from celery_runpod.api._catalog import GpuType
from celery_runpod.api._checks import made, refuse_unless
from celery_runpod.api._creation import Named, create_once, made_name, refuse_taken
from celery_runpod.api._durations import MAX_S, bounded
from celery_runpod.api._endpoints import ServerlessEndpoint, ServerlessWorker
from celery_runpod.api._endpointspec import EndpointChanges, EndpointSpec
from celery_runpod.api._http_errors import Where
from celery_runpod.api._operations import Operation
from celery_runpod.api._payload import encode
from celery_runpod.api._pods import LogLine, Pod, log_lines
from celery_runpod.api._podspec import PodChanges, PodSpec
from celery_runpod.api._rest import Dialect, Request, request_of
from celery_runpod.api._restv1 import V1
from celery_runpod.api._restv2 import V2
from celery_runpod.api._transport import Client
from celery_runpod.api._waiting import wait_until_running
from celery_runpod.errors import BadAnswer, ConfigurationError, InvalidOption

T = TypeVar("T")
N = TypeVar("N", bound=Named)

MAX_TAIL = 5000
PRODUCTS = ("POD", "SERVERLESS")
DIALECTS = {"v2": V2, "v1": V1}


class ManagementClient(Client):
    """RunPod's management API (docs.runpod.io/api-reference-v2).

    >>> client = ManagementClient()
    >>> pod = client.create_pod(PodSpec(name="train", image="runpod/pytorch:2.8", gpu="NVIDIA L4"))
    >>> client.wait_until_running(pod.id, timeout=600).status
    'RUNNING'
    >>> client.terminate_pod(pod.id)

    One client serves all threads of a process. Nothing is ever sent twice. A spec may be given as a dict of its fields.

    Args:
        api_key: as for RunPodClient: the key, or a function that gives it; by default `RUNPOD_API_KEY`, else the file
            that `RUNPOD_API_KEY_FILE` names. It is in no repr, log line or exception.
        rest_version: "v2" or "v1"; by default the variable `RUNPOD_REST_VERSION`, else "v2".
        base_url: by default the variable `RUNPOD_REST_URL`, else RunPod's own for the version.
        connect_timeout, read_timeout, total_timeout, pool_size, allow_http: as for RunPodClient.

    Raises:
        NotConfigured, ConfigurationError, InvalidOption: as for RunPodClient.

    Every method raises an `ApiError`: Unauthorized, PodNotFound, EndpointNotFound, RequestRejected (with RunPod's own
    words, as for a GPU that it does not know), RateLimited (`retry_after_s` from its headers), Unavailable, BadAnswer;
    NotOffered, where the version does not offer the operation or field; InvalidInput for an id that cannot be one, and
    InvalidOption for a value that cannot be. With the last three nothing was sent.
    """

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        rest_version: str | None = None,
        base_url: str | None = None,
        connect_timeout: float | timedelta = 5.0,
        read_timeout: float | timedelta = 30.0,
        total_timeout: float | timedelta = 40.0,
        pool_size: int = 8,
        allow_http: bool | None = None,
    ) -> None:
        self._dialect = _dialect(rest_version)
        self.rest_version = self._dialect.name
        super().__init__(
            Key(api_key),
            rest_url_of(base_url, self._dialect.base_url, allow_http),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            total_timeout=total_timeout,
            pool_size=pool_size,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rest_version={self.rest_version!r}, base_url={self._http.base_url!r})"

    def list_pods(self) -> list[Pod]:
        """All pods of the account; workers of Serverless endpoints and members of clusters are not among them."""
        return self._call(ops.LIST_PODS)

    def get_pod(self, pod_id: str) -> Pod:
        """One pod."""
        return self._call(ops.GET_POD, pod_id)

    def create_pod(self, spec: PodSpec | Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep) -> Pod:
        """Create a pod; it is billed until it is stopped or terminated.

        Where the answer is lost, or a 5xx, the pod is looked up by its name (five looks in 30 s) and never asked for
        again. So names are unique: one that is given and taken is refused, which costs a look before the create.

        Raises:
            NameTaken: a pod of that name exists. Nothing was created.
            CreateUnconfirmed: it may exist, and cost; RunPod's answer was lost.
            RequestRejected: RunPod refused, and says why: no such GPU, none free, no funds.
        """
        return self._create("pod", ops.CREATE_POD, made(PodSpec, spec), self.list_pods, sleep)

    def update_pod(self, pod_id: str, changes: PodChanges | Mapping[str, Any]) -> Pod:
        """Change a pod; what cannot be changed in place restarts its container."""
        return self._call(ops.UPDATE_POD, pod_id, made(PodChanges, changes))

    def start_pod(self, pod_id: str) -> Pod:
        """Start a stopped pod. REST v1 does not answer with the pod: it is read afterwards. This also holds for stop,
        restart and reset."""
        return self._act(ops.START_POD, pod_id)

    def stop_pod(self, pod_id: str) -> Pod:
        """Stop a pod: its GPUs are given back, its volume is kept, and paid for."""
        return self._act(ops.STOP_POD, pod_id)

    def restart_pod(self, pod_id: str) -> Pod:
        """Restart a running pod's container in place."""
        return self._act(ops.RESTART_POD, pod_id)

    def reset_pod(self, pod_id: str) -> Pod:
        """Restart a pod from its image: REST v1 only.

        Raises:
            NotOffered: with REST v2.
        """
        return self._act(ops.RESET_POD, pod_id)

    def terminate_pod(self, pod_id: str) -> None:
        """End a pod for good: its disk and its volume are lost; a network volume is kept."""
        self._call(ops.TERMINATE_POD, pod_id)

    def pod_logs(
        self,
        pod_id: str,
        *,
        source: str | None = None,
        tail: int = 100,
        quiet: float | timedelta = 3.0,
        timeout: float | timedelta = 60.0,
    ) -> Iterator[LogLine]:
        """The last lines of a pod's log, and those that it goes on to write: REST v2 only. It is asked for when the
        first line is.

        Args:
            source: "container" or "system"; both by default.
            tail: how many earlier lines; 0 to 5000.
            quiet: the lines end when RunPod has sent nothing for this long, in seconds or as a `timedelta`.
            timeout: they end after this long in any case.

        Raises:
            NotOffered: with REST v1.
        """
        refuse_unless(source in (None, "container", "system"), "source", str(source)[:80], "'container' or 'system'")
        whole = isinstance(tail, int) and not isinstance(tail, bool)
        refuse_unless(whole and 0 <= tail <= MAX_TAIL, "tail", repr(tail)[:80], f"a whole number, 0 to {MAX_TAIL}")
        quiet_s, timeout_s = bounded("quiet", quiet, 0.001, MAX_S), bounded("timeout", timeout, 0.001, MAX_S)
        request = request_of(self._dialect, ops.POD_LOGS, pod_id, source, tail)
        return log_lines(self._stream(request, quiet_s, timeout_s))

    def wait_until_running(
        self,
        pod_id: str,
        timeout: float | timedelta,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Pod:
        """Look until the pod is RUNNING: after 1 s, then each time 1.5 times later, at most 30 s. Trouble with the API
        is waited out. REST v1 answers with the desired status: there a pod is RUNNING as soon as it is created.

        Raises:
            PodNotRunning: not after `timeout` (seconds or a `timedelta`); or it ended: ERROR, TERMINATED, EXITED.
            RequestRejected: PodNotFound, Unauthorized: waiting would not help.
        """
        request = request_of(self._dialect, ops.GET_POD, pod_id)

        def look(seconds: float) -> Pod:
            return self._send(request, min(seconds, self._http.total_timeout_s))

        return wait_until_running(look, pod_id, bounded("timeout", timeout, 0.0, MAX_S), clock, sleep)

    def list_endpoints(self) -> list[ServerlessEndpoint]:
        """All Serverless endpoints of the account."""
        return self._call(ops.LIST_ENDPOINTS)

    def get_endpoint(self, endpoint: str) -> ServerlessEndpoint:
        """One Serverless endpoint."""
        return self._call(ops.GET_ENDPOINT, endpoint)

    def create_endpoint(
        self, spec: EndpointSpec | Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep
    ) -> ServerlessEndpoint:
        """Create a Serverless endpoint, as `create_pod` creates a pod: no more than once.

        Raises:
            NameTaken, CreateUnconfirmed, RequestRejected: as for `create_pod`.
        """
        return self._create("endpoint", ops.CREATE_ENDPOINT, made(EndpointSpec, spec), self.list_endpoints, sleep)

    def update_endpoint(self, endpoint: str, changes: EndpointChanges | Mapping[str, Any]) -> ServerlessEndpoint:
        """Change an endpoint.

        >>> ManagementClient().update_endpoint("4m7x2k9q", {"workers_min": 1, "workers_max": 10}).workers_max
        10
        """
        return self._call(ops.UPDATE_ENDPOINT, endpoint, made(EndpointChanges, changes))

    def delete_endpoint(self, endpoint: str) -> None:
        """Delete an endpoint for good, with its workers; its queued and running jobs are cancelled."""
        self._call(ops.DELETE_ENDPOINT, endpoint)

    def list_workers(self, endpoint: str) -> list[ServerlessWorker]:
        """The workers that an endpoint has now."""
        return self._call(ops.LIST_WORKERS, endpoint)

    def list_gpus(self, *, available_for: str | None = None) -> list[GpuType]:
        """The types of GPUs, with prices: REST v2 only. `available_for` "POD" or "SERVERLESS" asks how many are free.

        Raises:
            NotOffered: with REST v1.
        """
        known = available_for is None or available_for in PRODUCTS
        refuse_unless(known, "available_for", str(available_for)[:80], f"one of {', '.join(PRODUCTS)}")
        return self._call(ops.LIST_GPUS, None, available_for)

    def pod_billing(self, pod_id: str | None = None, period: BillingPeriod | None = None) -> list[BillingRow]:
        """What pods, or one pod, cost: a row for each pod and bucket of time. By default each of the last 30 days."""
        return self._call(ops.POD_BILLING, pod_id, period or BillingPeriod())

    def endpoint_billing(self, endpoint: str | None = None, period: BillingPeriod | None = None) -> list[BillingRow]:
        """What Serverless endpoints, or one, cost: a row for each endpoint and bucket of time. By default each of the
        last 30 days."""
        return self._call(ops.ENDPOINT_BILLING, endpoint, period or BillingPeriod())

    def _call(self, operation: Operation[T], resource_id: str | None = None, *args: Any) -> T:
        return self._send(request_of(self._dialect, operation, resource_id, *args))

    def _send(self, request: Request[T], timeout_s: float | None = None) -> T:
        where, body = _where(request), request.body
        data = self._http.request(
            request.method,
            _path(request),
            where,
            body=None if body is None else encode(body, name="body"),
            timeout_s=timeout_s,
            has_body=request.has_body,
        )
        try:
            return request.parse(data)
        except BadAnswer as error:
            problem = error.message
        raise where.error(BadAnswer, problem, 200)

    def _stream(self, request: Request[Any], quiet_s: float, timeout_s: float) -> Iterator[str]:
        return self._http.lines(_path(request), _where(request), quiet_s=quiet_s, timeout_s=timeout_s)

    def _act(self, operation: Operation[Pod | None], pod_id: str) -> Pod:
        return self._call(operation, pod_id) or self.get_pod(pod_id)

    def _create(
        self,
        kind: str,
        operation: Operation[N],
        spec: PodSpec | EndpointSpec,
        existing: Callable[[], list[N]],
        sleep: Callable[[float], None],
    ) -> N:
        name = spec.name or made_name(kind)
        request = request_of(self._dialect, operation, None, replace(spec, name=name))
        if spec.name is not None:
            refuse_taken(kind, name, existing())
        return create_once(kind, name, lambda: self._send(request), existing, sleep)


def _dialect(version: str | None) -> Dialect:
    """Of this version; by default of the one that `RUNPOD_REST_VERSION` names, else of v2."""
    if version is not None:
        if version not in DIALECTS:
            raise InvalidOption("rest_version", str(version), "'v1' or 'v2'")
        return DIALECTS[version]
    named = os.environ.get("RUNPOD_REST_VERSION", "").strip().lower() or "v2"
    if named not in DIALECTS:
        raise ConfigurationError(f"RUNPOD_REST_VERSION is {named[:40]!r}; it must be v1 or v2")
    return DIALECTS[named]


def _where(request: Request[Any]) -> Where:
    return Where(request.operation, request.endpoint, pod_id=request.pod_id)


def _path(request: Request[Any]) -> str:
    return f"{request.path}?{urlencode(request.query)}" if request.query else request.path
