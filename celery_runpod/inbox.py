"""What a view does with RunPod's webhook, whatever the framework.

Verify the URL, keep the job id in the store (RunPod does not repeat after a 200), hand the body to the workers, answer
at once. RunPod's own fields `input` and `webhook` are dropped here: the URL is a capability, and bodies are not logged.

Next: ``flask.py`` and ``django/views.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod.clientapp import check_reachable, client_app, client_settings
from celery_runpod.confirms import NOT_PUBLISHED
from celery_runpod.contract import HIDDEN, RECEIVE_WEBHOOK, Queues
from celery_runpod.errors import BrokerUnavailable, NotConfigured
from celery_runpod.results import reader_for
from celery_runpod.webhooks import WebhookTarget, verify

log = logging.getLogger(__name__)

MOST_BYTES = 25_000_000
"""RunPod's results are up to 20 MB; a larger body is nobody's result."""

Answer = tuple[int, dict[str, str]]


def receive(query: Mapping[str, str], body: bytes, *, app: Celery | None = None) -> Answer:
    """HTTP status and JSON body for a webhook request.

    200 taken; 400 not a JSON object; 403 the URL was not signed by us; 413 too large; 503 cannot be taken now, or no
    secret is set: RunPod then tries again.
    """
    settings = client_settings()
    secrets = [settings.webhook_secret, settings.webhook_secret_previous]
    if not any(secrets):
        log.error("webhook refused: RUNPOD_WEBHOOK_SECRET is not set in this process")
        return 503, {"error": "RUNPOD_WEBHOOK_SECRET is not set"}
    target = verify(query, secrets, settings.namespace)
    if target is None:
        log.warning("webhook refused: its URL was not signed with this process's secret")
        return 403, {"error": "the signature does not match"}
    if len(body) > MOST_BYTES:
        return 413, {"error": f"the body is over {MOST_BYTES // 1_000_000} MB"}
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return 400, {"error": "the body is not a JSON object"}
    kept = {name: value for name, value in told.items() if name not in ("input", "webhook")}
    try:
        _hand_over(target, kept, app if app is not None else client_app(), settings.namespace)
    except (BrokerUnavailable, NotConfigured, *NOT_PUBLISHED, RedisError) as error:
        log.error("webhook of task %s cannot be handed over: %s", target.task_id, error)
        return 503, {"error": "the broker cannot be reached"}
    return 200, {"status": "taken"}


def _hand_over(target: WebhookTarget, told: dict[str, Any], app: Celery, namespace: str) -> None:
    check_reachable(app)
    job_id = told.get("id")
    if isinstance(job_id, str) and job_id:
        try:
            reader_for(app).note_webhook(target.endpoint, target.task_id, target.attempt, job_id)
        except RedisError as error:
            # The message alone is enough unless a worker dies with it: then the checks make up for it.
            log.warning("job id of task %s not kept: %s", target.task_id, error)
    app.send_task(
        RECEIVE_WEBHOOK,
        args=(target.endpoint, target.task_id, target.attempt, told),
        queue=Queues.of(namespace).deliver,
        serializer="json",
        ignore_result=True,
        argsrepr=HIDDEN,
        kwargsrepr=HIDDEN,
    )
