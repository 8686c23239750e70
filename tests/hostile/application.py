"""The user's tasks of the hostile tests: what a careless or mad project would have.

Not here: the app itself, which is `tests/application.py`'s.
"""

from __future__ import annotations

from typing import Any

import celery_runpod
from tests.application import app

RETRIES = "hostile:retries"
"""The list in which the mad errback writes what came of each retry."""


@app.task
def nested(levels: int) -> Any:
    """A result of so many levels, for the endpoint that follows."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return {"deep": value}


@app.task
def mad(task_id: str) -> None:
    """An errback that runs the job again, which keeps this errback."""
    try:
        celery_runpod.Endpoint("failing", app=app).retry(task_id, timeout=60)
    except celery_runpod.errors.RunPodError as error:
        app.backend.client.rpush(RETRIES, type(error).__name__)
    else:
        app.backend.client.rpush(RETRIES, "retried")
