"""What a view of any framework does with RunPod's webhook: verify the URL, record the hint, answer at once.

A webhook is a hint: it makes the job due, and a worker asks /status, which alone decides. The body is not believed and
not stored. It is read in one case only: after an unanswered submit, for RunPod's id of the job.

Not here: how a framework reads a request (`celery_runpod/flask.py`, `celery_runpod/django/_webhook_view.py`), what a
worker does with a hint (`tasks/webhook_hints.py`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._connect import ClientSettings, check_reachable, client_app, client_settings
from celery_runpod._protocol import CHECK_STATUS, Queues
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.store import JobStore, store_of
from celery_runpod._webhooks.signed_urls import WebhookTarget, verify
from celery_runpod.api._access import part_of
from celery_runpod.errors import BrokerUnavailable, InvalidInput, NotConfigured

log = logging.getLogger(__name__)

MOST_BYTES = 25_000_000
"""The largest body that is read. RunPod's results have at most 20 MB."""
MOST_ID_LENGTH = 255

Answer = tuple[int, dict[str, str]]
TAKEN: Answer = (200, {"status": "taken"})
NOT_SIGNED = "the signature does not match, or has expired"


class _Refused(Exception):
    """Refuses a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


def receive(
    query: Mapping[str, str], read: Callable[[int], bytes], *, length: int | None = None, app: Celery | None = None
) -> Answer:
    """HTTP status and JSON body for a webhook request.

    200: accepted, or the attempt has ended. 400: the body names no job. 403: the URL's signature is wrong or expired.
    413: the body is over 25 MB. 503: store or broker do not answer, or no secret is set; RunPod then tries again.

    Args:
        query: the URL's query.
        read: reads at most the given number of bytes of the body. Called only if needed, after the URL was verified.
        length: the Content-Length, if there is one.
        app: the Celery app to publish with; by default the current one.
    """
    now = time.time()  # noqa: TID251 - the edge
    settings = client_settings()
    secrets = _secrets(settings)
    if not any(secrets):
        log.error("webhook refused: RUNPOD_WEBHOOK_SECRET is not set in this process")
        return 503, {"error": "RUNPOD_WEBHOOK_SECRET is not set"}
    target = verify(query, secrets, settings.namespace, now)
    if target is None:
        log.warning("webhook refused: its URL was not signed with this process's secret, or has expired")
        return 403, {"error": NOT_SIGNED}
    try:
        app = app if app is not None else client_app()
        answer = _hint(store_of(app), target, now, read, length)
        if answer == "publish":
            _publish_check(app, settings.namespace, target.endpoint)
    except _Refused as refused:
        return refused.answer
    except (BrokerUnavailable, NotConfigured, *NOT_PUBLISHED, RedisError) as error:
        log.error("webhook of task %s cannot be accepted: %s", target.task_id, error)
        return 503, {"error": "the job store or the broker cannot be reached"}
    return TAKEN


def is_signed(query: Mapping[str, str]) -> bool:
    """Whether the query is signed and not expired. A server can refuse a request by it before it reads the body."""
    settings = client_settings()
    now = time.time()  # noqa: TID251 - the edge
    return verify(query, _secrets(settings), settings.namespace, now) is not None


def _secrets(settings: ClientSettings) -> list[str | None]:
    return [settings.webhook_secret, settings.webhook_secret_previous]


def _hint(reader: JobStore, target: WebhookTarget, now: float, read: Callable[[int], bytes], length: int | None) -> str:
    """Record the hint; returns the answer of ``celery_runpod/_store/scripts/hint.lua``."""
    answer = reader.hint(target.endpoint, target.task_id, target.attempt, now)
    if answer != "unnamed":
        return answer
    job_id = _job_id(_body(read, length))
    answer = reader.hint(target.endpoint, target.task_id, target.attempt, now, job_id)
    if answer == "full":
        log.warning("webhook of task %s names more RunPod ids than are kept", target.task_id)
        raise _Refused((503, {"error": "other ids were named for this job, and are checked first"}))
    return answer


def _body(read: Callable[[int], bytes], length: int | None) -> bytes:
    too_large: Answer = (413, {"error": f"the body is over {MOST_BYTES // 1_000_000} MB"})
    if length is not None and length > MOST_BYTES:
        raise _Refused(too_large)
    body = read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise _Refused(too_large)
    return body


def _job_id(body: bytes) -> str:
    """The RunPod id that a body names, checked to be safe in a URL's path."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _Refused((400, {"error": "the body is not a JSON object"}))
    job_id = parsed.get("id")
    try:
        if not isinstance(job_id, str) or len(job_id) > MOST_ID_LENGTH:
            raise InvalidInput(f"id: a text of 1 to {MOST_ID_LENGTH} characters is expected")
        part_of("job", job_id)
    except InvalidInput:
        raise _Refused((400, {"error": "the body's id cannot be the id of a RunPod job"})) from None
    return job_id


def _publish_check(app: Celery, namespace: str, endpoint: str) -> None:
    check_reachable(app, results=False)
    app.send_task(
        CHECK_STATUS,
        args=(endpoint,),
        queue=Queues.of(namespace).status,
        shadow=f"{CHECK_STATUS}[{endpoint}]",
        serializer="json",
        ignore_result=True,
    )
