"""The job store as a command reads it.

Not here: the rows of jobs that it prints (`celery_runpod/_live/job_rows.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import click
from redis.exceptions import RedisError

from celery_runpod._connect import COMMAND, client_settings, connect, mask_url
from celery_runpod._escaping import shown
from celery_runpod._protocol import EVERY_ENDPOINT
from celery_runpod._store.store import JobStore

CONNECT_S, ANSWER_S = 2.0, 5.0


def on_hold(endpoint: str, since: float) -> str:
    """The sentence on an endpoint to which nothing is submitted; "*" is all of them."""
    at = datetime.fromtimestamp(since).astimezone().isoformat(sep=" ", timespec="seconds")
    every = endpoint == EVERY_ENDPOINT
    lifted = f"celery-runpod resume {'--all' if every else endpoint}"
    return f"on hold since {at}: {'every endpoint' if every else endpoint}; nothing is submitted until `{lifted}`"


def open_store() -> JobStore:
    """The job store, as the environment names it."""
    settings = client_settings()
    return JobStore(connect(settings.store_url, COMMAND), settings.namespace)


@contextmanager
def store_or_sentence() -> Iterator[JobStore]:
    """The store; trouble with Redis becomes one sentence and exit status 1."""
    url = mask_url(client_settings().store_url)
    try:
        yield open_store()
    except (RedisError, OSError) as error:
        reason = str(error) or type(error).__name__
    else:
        return
    raise click.ClickException(f"the job store at {url} cannot be reached: {shown(reason)}")
