"""A user's application that sends, and takes, nothing but pickle."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

import celery_runpod  # noqa: F401 - pins serializers

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0")

app = Celery("pickling", broker=REDIS_URL, backend=REDIS_URL, set_as_current=False)
app.conf.update(
    task_serializer="pickle",
    accept_content=["pickle"],
    result_accept_content=["json", "pickle"],
    task_default_queue="pickled",
    broker_connection_retry_on_startup=True,
)


@app.task
def unpacked(value: Any, *more: Any) -> list[Any]:
    return [value, *(str(one) for one in more)]


@app.task
def packed(value: Any) -> dict[str, Any]:
    return {"value": value}
