"""The project's own Celery app and tasks."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from tests import django_project

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0")

assert django_project.settings.configured
app = Celery("shop", broker=os.environ.get("RUNPOD_BROKER_URL", REDIS_URL), backend=REDIS_URL)
app.conf.update(task_default_queue="shop", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
app.set_default()


@app.task(name="shop.fail")
def fail(value: Any) -> Any:
    raise ValueError("it never works")


@app.task(name="shop.same")
def same(value: Any) -> Any:
    return value
