"""Sends a cancel to the workers: kept in the job store first, then published.

Not here: what a worker cancels (`tasks/cancel.py`); the public ways to cancel (``results.py``, ``endpoint.py``).
"""

from __future__ import annotations

import logging
import time

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._connect import check_reachable, client_settings, store_unavailable
from celery_runpod._protocol import CANCEL, Queues, Scope
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.store import store_of

log = logging.getLogger(__name__)

BATCH = 1000
"""So many ids are in one message."""


def publish_cancel(app: Celery, ids: list[str], *, scope: Scope) -> None:
    """Ask for a cancel of these ids; see `Scope`.

    Raises:
        BrokerUnavailable: broker, result backend or job store does not answer; nothing was cancelled.
    """
    if _stand_ins.active():
        for one in ids:
            _stand_ins.results_of(app).cancel(one)
        return
    check_reachable(app)
    for start in range(0, len(ids), BATCH):
        _publish(app, ids[start : start + BATCH], scope=scope)


def _publish(app: Celery, ids: list[str], *, scope: Scope) -> None:
    # Kept in the store first: a worker may lose the message, and a job may be accepted after it.
    try:
        store_of(app).cancels.wish_cancel(ids, time.time(), scope=scope)  # noqa: TID251 - the edge
    except (RedisError, OSError) as error:
        raise store_unavailable(app, error) from None
    try:
        app.send_task(
            CANCEL,
            args=(ids,),
            kwargs={"scope": scope},
            queue=Queues.of(client_settings().namespace).deliver,
            serializer="json",
            ignore_result=True,
        )
    except NOT_PUBLISHED as error:
        shown = ", ".join(ids)
        log.warning("the cancel of %s is kept, but was not published; a worker carries it out: %s", shown, error)
