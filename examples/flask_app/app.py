"""A Flask application that enqueues a GPU job and a task of its own that follows it.

REDIS_URL=redis://127.0.0.1:6379/0 flask --app examples.flask_app.app run
REDIS_URL=redis://127.0.0.1:6379/0 celery -A examples.flask_app.app:celery worker
REDIS_URL=... RUNPOD_API_KEY=... celery-runpod worker

curl -X POST -H 'Content-Type: application/json' -d '{"prompt": "a cat"}' http://127.0.0.1:5000/images
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain
from flask import Flask, request

from celery_runpod import Endpoint, JobResult, cancel
from celery_runpod.flask import blueprint

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

celery = Celery("flask_app", broker=REDIS_URL, backend=REDIS_URL)
celery.set_default()

app = Flask(__name__)
app.register_blueprint(blueprint, url_prefix="/runpod/webhook")

echo = Endpoint("echo").using(deadline=900)


@celery.task(name="flask_app.keep")
def keep(output: dict[str, Any], order: str) -> dict[str, Any]:
    """What the application does with the job's output."""
    return {"order": order, "output": output}


@app.post("/images")
def create() -> dict[str, str]:
    """Enqueue a job, and what follows it."""
    asked = request.get_json()
    result = chain(echo.s(prompt=asked["prompt"]), keep.s(asked.get("order", "none"))).delay()
    return {"job": result.parent.id, "order": result.id}


@app.get("/images/<task_id>")
def show(task_id: str) -> dict[str, Any]:
    """How it stands."""
    result = JobResult(task_id)
    error = result.error
    return {
        "state": result.state,
        "reason": result.reason,
        "progress": result.progress,
        "result": result.result if result.successful() else None,
        "error": str(error) if error is not None else None,
    }


@app.delete("/images/<task_id>")
def stop(task_id: str) -> dict[str, str]:
    """Cancel the job and what follows it."""
    cancel(task_id)
    return {"cancelled": task_id}
