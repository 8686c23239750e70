"""A user's application, as it would be written: its own Celery app, tasks and queue. Runs in a worker of its own."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

import celery_runpod

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0")

URL = os.environ.get("APPLICATION_URL", REDIS_URL)
MASTER = {"master_name": os.environ["APPLICATION_MASTER"]} if "APPLICATION_MASTER" in os.environ else {}

app = Celery("application", broker=os.environ.get("RUNPOD_BROKER_URL", URL), backend=URL)
app.conf.update(
    broker_transport_options=MASTER,
    result_backend_transport_options=MASTER,
    task_routes={"tests.application.routed": {"queue": "elsewhere"}},
    task_create_missing_queues=True,
    broker_connection_retry_on_startup=True,
    task_queues=None,
    worker_prefetch_multiplier=1,
)


@app.task
def wrap(value: Any) -> dict[str, Any]:
    """A dict, so that an endpoint can follow."""
    return {"value": value}


@app.task
def same(value: Any) -> Any:
    return value


@app.task
def collect(values: list[Any]) -> list[Any]:
    return values


@app.task(bind=True)
def routed(self: Any, value: Any) -> list[Any]:
    """Where it ran, and with what."""
    return [self.request.delivery_info["routing_key"], value]


@app.task(bind=True)
def described(self: Any, value: Any) -> dict[str, Any]:
    """What of the message arrived."""
    return {"priority": self.request.delivery_info.get("priority"), "root": self.request.root_id, "value": value}


@app.task
def note(value: Any, key: str) -> None:
    """Leave a mark that a test can count."""
    app.backend.client.rpush(key, repr(value))


@app.task
def retry_for_ever(task_id: str, endpoint: str, key: str) -> None:
    """An errback that runs its own job again, and notes what becomes of that."""
    try:
        told = celery_runpod.Endpoint(endpoint, app=app).retry(task_id).id
    except celery_runpod.errors.RetryRefused as error:
        told = str(error)
    app.backend.client.rpush(key, told)


@app.task
def note_failure(request: Any, exc: BaseException, traceback: str, key: str) -> None:
    """An errback as in Celery's documentation."""
    app.backend.client.rpush(key, f"{type(exc).__name__} {request.id} {'Traceback' in str(traceback)}")


@app.task
def note_error(task_id: str, key: str = "errors") -> None:
    """An errback of an endpoint takes the task id alone."""
    error = celery_runpod.JobResult(task_id, app=app).error
    app.backend.client.rpush(key, f"{type(error).__name__} {task_id}")
