"""The anchor of `throughput.py`: a Celery app with two tasks that do nothing."""

from __future__ import annotations

import os

from celery import Celery

import celery_runpod  # noqa: F401 - as in every application that publishes endpoints

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0")

app = Celery("empty", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(task_default_queue="empty", broker_connection_retry_on_startup=True)


@app.task
def first() -> int:
    return 1


@app.task
def second(value: int) -> int:
    return value
