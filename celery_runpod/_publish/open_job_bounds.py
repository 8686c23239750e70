"""The bounds of a namespace: a call is refused at its caller before Redis is full.

The leading worker counts the open jobs and the bytes of their inputs every few seconds (of hundreds of endpoints: 50 at a
time), and writes them into the store together with the bounds of its settings
(`celery_app/watchdog/endpoint_counts.py`). So a burst may exceed a bound by the calls of these seconds. Calls that no
worker has accepted yet are counted at each call, because they pile up when no worker is up.

A worker itself refuses nothing because of a bound: it accepts what was published.
"""

from __future__ import annotations

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._connect import client_settings
from celery_runpod._store.store import store_of
from celery_runpod.errors import TooManyOpenJobs

MOST_OPEN_JOBS = "RUNPOD_MOST_OPEN_JOBS"
MOST_INPUT_BYTES = "RUNPOD_MOST_INPUT_BYTES"


def refuse_over_bounds(app: Celery) -> None:
    """Let a call pass if the store has room, if no worker has counted yet, or if the store does not answer. One round
    trip.

    Raises:
        TooManyOpenJobs: the namespace holds as many jobs, or bytes of input, as the workers allow.
    """
    try:
        totals = store_of(app).open_jobs.totals()
    except (RedisError, OSError):
        return
    if totals is None:
        return
    for what, held, most, setting in (
        ("open jobs", totals.jobs, totals.most_jobs, MOST_OPEN_JOBS),
        ("bytes of input", totals.input_bytes, totals.most_input_bytes, MOST_INPUT_BYTES),
    ):
        if held >= most:
            raise TooManyOpenJobs(client_settings().namespace, what, held, most, setting)
