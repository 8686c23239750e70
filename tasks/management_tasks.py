"""runpod.pods.*, runpod.endpoints.*, runpod.gpus: RunPod's management API for processes that have no API key.

They run only where `RUNPOD_MANAGEMENT=on` is set: whoever can write to the broker could rent GPUs with them.

`celery_runpod/api/_operations.py` names the tasks. Each calls the method of `ManagementClient` with the same arguments;
answers are JSON, errors arrive typed. The answers leave out the environment variables of pods and endpoints: they may be
secrets, and results are stored in Redis. A message that creates can come twice, after a worker was killed, and still
creates once: the second delivery only looks for the name. A name that the caller did not give is made from the task id.

`runpod.pods.wait` holds no worker slot: between two looks it is a countdown message under its own task id. Where kombu
loses such a message (docs/guarantees.md), the wait is lost, and the pod stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NoReturn

from celery import shared_task
from celery.app.task import Context

from celery_runpod._escaping import described
from celery_runpod._plain_json import answer_json
from celery_runpod._protocol import WAIT_FOR_POD
from celery_runpod.api import BillingPeriod, ManagementClient
from celery_runpod.api._creation import refuse_taken
from celery_runpod.api._operations import OPERATIONS, Operation
from celery_runpod.api._waiting import STARTING, UNSEEN, is_running, look_once
from celery_runpod.errors import (
    CreateUnconfirmed,
    EndpointNotFound,
    InvalidInput,
    NameTaken,
    PodNotFound,
    PodNotRunning,
    RunPodError,
)
from celery_runpod.options import Backoff
from tasks.publish_check import check_times
from tasks.schedule import backoff_s
from tasks.services import Services, services_of

MOST_LOG_LINES = 5000
LOOKS = Backoff()
MOST_WAIT_S = 86_400.0


def _create(client: ManagementClient, request: Context, operation: Operation[Any], spec: Any) -> Any:
    """Create, unless an earlier delivery of this message may have done it."""
    kind = operation.name.removeprefix("create_")
    given = spec.get("name") if isinstance(spec, Mapping) else None
    name = given or f"{kind}-{request.id}"
    try:
        if _came_again(request):
            refuse_taken(kind, name, getattr(client, f"list_{kind}s")())
            raise CreateUnconfirmed(kind, name, "a worker was lost over it, or took too long")
        return _call(client, request, operation, {**spec, "name": name} if isinstance(spec, Mapping) else spec)
    except NameTaken as error:
        if given:
            raise  # by the lost worker, or by somebody else
        existing = error.existing_id
    # The name is made from the task id: what has it was created by this message.
    return getattr(client, f"get_{kind}")(existing)


def _end(client: ManagementClient, request: Context, operation: Operation[Any], *args: Any, **kwargs: Any) -> Any:
    """Terminate or delete: an earlier delivery of this message may have done it."""
    try:
        return _call(client, request, operation, *args, **kwargs)
    except (PodNotFound, EndpointNotFound):
        if not _came_again(request):
            raise
    return None


def _came_again(request: Context) -> bool:
    return bool((request.delivery_info or {}).get("redelivered"))


def _logs(client: ManagementClient, request: Context, operation: Operation[Any], pod_id: str, **options: Any) -> Any:
    lines = _call(client, request, operation, pod_id, **{"quiet": 1.0, "timeout": 20.0, **options})
    return list(islice(lines, MOST_LOG_LINES))


def _pod_bill(
    client: ManagementClient, request: Context, operation: Operation[Any], pod_id: str | None = None, **period: Any
) -> Any:
    return _call(client, request, operation, pod_id, _period(period))


def _endpoint_bill(
    client: ManagementClient, request: Context, operation: Operation[Any], endpoint: str | None = None, **period: Any
) -> Any:
    return _call(client, request, operation, endpoint, _period(period))


def _period(given: Mapping[str, Any]) -> BillingPeriod:
    times = {name: datetime.fromisoformat(given[name]) for name in ("start", "end") if given.get(name)}
    return BillingPeriod(**{**given, **times})


def _call(client: ManagementClient, request: Context, operation: Operation[Any], *args: Any, **kwargs: Any) -> Any:
    return getattr(client, operation.name)(*args, **kwargs)


CALLS: dict[str, Callable[..., Any]] = {
    "create_pod": _create,
    "create_endpoint": _create,
    "terminate_pod": _end,
    "delete_endpoint": _end,
    "pod_logs": _logs,
    "pod_billing": _pod_bill,
    "endpoint_billing": _endpoint_bill,
}
"""Operations whose task does more than call the method of the client."""


def _client(services: Services, api_key_name: str | None) -> ManagementClient:
    """The client for a task that may run.

    Raises:
        ConfigurationError: `RUNPOD_MANAGEMENT` is off.
        InvalidOption: management tasks may not use this API key.
    """
    services.settings.check_management(api_key_name)
    return services.management(api_key_name)


def _register(operation: Operation[Any]) -> None:
    name = operation.task
    call: Callable[..., Any] = CALLS.get(operation.name, _call)

    def task(self: Any, *args: Any, api_key_name: str | None = None, **kwargs: Any) -> Any:
        client = _client(services_of(self.app), api_key_name)
        try:
            return answer_json(call(client, self.request, operation, *args, **kwargs))
        except TypeError as error:
            # Arguments that the method does not take, sent by name: a caller's mistake, with an error that says so.
            problem = f"{name}: {error}"
        except ValueError as error:
            # Its text may quote the value.
            problem = f"{name}: an argument has a value that cannot be read ({type(error).__name__})"
        raise InvalidInput(problem)

    shared_task(bind=True, name=name, throws=(RunPodError,))(task)


for _operation in OPERATIONS.values():
    _register(_operation)


@shared_task(bind=True, name=WAIT_FOR_POD, throws=(RunPodError,), max_retries=None)
def wait(
    self: Any,
    pod_id: str,
    timeout_s: float = 600.0,
    api_key_name: str | None = None,
    begun_at: float | None = None,
    looks: int = 0,
    left_exited: bool = False,
) -> Any:
    """Look until the pod is RUNNING, and return it: after 1 s, then each time 1.5 times later, at most 30 s. Rate limits
    and unreachable APIs are no end. The task gives itself the last three arguments.

    Raises:
        PodNotRunning: it was not RUNNING after `timeout_s` seconds; or it will not be, as `is_running` decides.
        RequestRejected: PodNotFound, Unauthorized: waiting would not help.
        ConfigurationError, InvalidOption: as for `_client`.
    """
    services = services_of(self.app)
    client = _client(services, api_key_name)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MOST_WAIT_S:
        raise InvalidInput(
            f"timeout_s: {described(timeout_s)} given; allowed: more than 0, at most {MOST_WAIT_S:g} seconds"
        )
    now = services.clock()
    began = now if begun_at is None else begun_at
    pod, asked_to_wait_s = look_once(lambda: client.get_pod(pod_id))
    if pod is not None:
        if is_running(pod, now - began, left_exited):
            return answer_json(pod)
        left_exited = left_exited or pod.status in STARTING
    left_s = began + timeout_s - now
    if left_s <= 0:
        raise PodNotRunning(pod_id, round(now - began, 1), UNSEEN if pod is None else pod.status)
    pause_s = min(
        max(backoff_s(looks, LOOKS, services.spread()), asked_to_wait_s), left_s, services.settings.countdown_cap_s
    )
    _again(self, services, pause_s, (pod_id, timeout_s, api_key_name, began, looks + 1, left_exited))


def _again(task: Any, services: Services, pause_s: float, args: tuple[Any, ...]) -> NoReturn:
    """Leave the worker slot, and come back under the same task id. Raises Celery's Retry."""
    countdown = float(max(1, math.ceil(pause_s))) if check_times(services).whole else pause_s
    raise task.retry(
        args=args, kwargs={}, countdown=countdown, max_retries=None, queue=services.settings.queues.deliver
    )
