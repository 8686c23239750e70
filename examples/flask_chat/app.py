"""A chat: a question is a job, its answer appears word by word, and a button cancels it, at RunPod too.

`python -m examples.flask_chat` runs it with a Redis, a local RunPod and a worker of its own. With your own:

REDIS_URL=redis://127.0.0.1:6379/0 flask --app examples.flask_chat.app run
REDIS_URL=... RUNPOD_API_KEY=... celery-runpod worker
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from flask import Flask, abort, jsonify, render_template, request, session
from flask.typing import ResponseReturnValue

from celery_runpod import Endpoint, JobResult
from celery_runpod.flask import RunPod

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
MOST_PROMPT = 2_000

celery = Celery("flask_chat", broker=REDIS_URL, backend=REDIS_URL)
celery.set_default()

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or os.urandom(32)
runpod = RunPod(app, celery=celery)

chat = Endpoint("chat").using(stream=True, deadline=600, start_timeout=300)


@runpod.may_see
def may_see(request: Any, task_id: str) -> bool:
    """A visitor sees the answers to their own questions."""
    return task_id in session.get("asked", [])


@app.get("/")
def page() -> str:
    return render_template("chat.html")


@app.post("/questions")
def ask() -> ResponseReturnValue:
    """A question: its answer is read from the events of the task."""
    prompt = str((request.get_json(silent=True) or {}).get("prompt", "")).strip()
    if not 0 < len(prompt) <= MOST_PROMPT:
        return jsonify(error=f"a question has 1 to {MOST_PROMPT} characters"), 400
    result = chat.delay(prompt=prompt)
    session["asked"] = [*session.get("asked", [])[-19:], result.id]
    return jsonify(task=result.id), 201


@app.delete("/questions/<task_id>")
def stop(task_id: str) -> ResponseReturnValue:
    """Cancel a question; its GPU job ends too."""
    if not may_see(request, task_id):
        abort(404)
    JobResult(task_id).cancel()
    return "", 204
