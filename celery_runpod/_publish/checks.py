"""Publishes a check from outside of the RunPod worker: after a webhook, or where somebody begins to watch a job.

Not here: when a check is due (`tasks/publish_check.py`).
"""

from __future__ import annotations

import logging

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._connect import check_reachable
from celery_runpod._protocol import CHECK_STATUS, Queues
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.store import JobStore
from celery_runpod.errors import BrokerUnavailable, NotConfigured

log = logging.getLogger(__name__)


def publish_check(app: Celery, namespace: str, endpoint: str) -> None:
    """Publish a check of this endpoint.

    Raises:
        BrokerUnavailable: broker or result backend do not answer.
        kombu.exceptions.OperationalError, amqp.exceptions.AMQPError: the message was not confirmed.
    """
    check_reachable(app)
    app.send_task(
        CHECK_STATUS,
        args=(endpoint,),
        queue=Queues.of(namespace).status,
        shadow=f"{CHECK_STATUS}[{endpoint}]",
        serializer="json",
        ignore_result=True,
    )


def look_now(app: Celery, store: JobStore, endpoint: str, task_id: str, now: float) -> None:
    """Have a job looked at now, because somebody begins to watch it. Where that fails, it is looked at as planned."""
    try:
        if store.watches.begin(endpoint, task_id, now):
            publish_check(app, store.keys.namespace, endpoint)
    except (BrokerUnavailable, NotConfigured, *NOT_PUBLISHED, RedisError) as error:
        log.warning("job %s is watched, and was not looked at at once: %s", task_id, error)
