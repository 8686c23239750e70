"""runpod.receive_webhook: what RunPod told the web application becomes the job's outcome.

The view has verified the URL's signature. Repeated, late, early and older webhooks change nothing: the store refuses
another attempt's, and a second verdict.

Next: ``delivery.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import shared_task

from celery_runpod.api import parse_job
from celery_runpod.contract import RECEIVE_WEBHOOK
from celery_runpod.errors import BadAnswer
from tasks.delivery import end_by_answer
from tasks.services import services

log = logging.getLogger(__name__)


@shared_task(bind=True, name=RECEIVE_WEBHOOK, ignore_result=True)
def receive_webhook(self: Any, endpoint: str, task_id: str, attempt: int, body: Mapping[str, Any]) -> None:
    """Take a webhook's body, without its `input` and `webhook`."""
    deps = services(self.app)
    fields = {"task_id": task_id, "endpoint": endpoint, "attempt": attempt}
    try:
        answer = parse_job(body)
    except BadAnswer as error:
        log.warning("webhook.unreadable", extra=fields | {"error": str(error)})
        return
    found = deps.store.jobs(endpoint, [task_id])
    if not found or not answer.final:
        log.info("webhook.no_news", extra=fields | {"state": answer.state})
        return
    # The record is of the latest attempt; the script compares it with the one that the URL was signed for.
    word = end_by_answer(deps, replace(found[0], attempt=attempt, job_id=answer.id), answer)
    log.info("webhook.received", extra=fields | {"word": word, "state": answer.state})
