"""The Celery app that a client publishes with, and whether its broker answers.

Celery's own `apply_async` hangs for 20 s to for ever when Redis is away (it subscribes to the result first), so an
endpoint asks broker and backend for a sign of life, with short timeouts, before it publishes.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery, current_app
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from celery_runpod.contract import DEFAULT_QUEUE
from celery_runpod.errors import BrokerUnavailable, NotConfigured
from celery_runpod.rabbitmq import broker_of, is_amqp
from celery_runpod.redis_client import CALL, connect
from celery_runpod.settings import REDIS_SCHEMES, ClientSettings, mask_url

CONNECT_S = 2.0
ANSWER_S = 3.0

HOW_TO_CONFIGURE = """no Celery app is configured in this process. Either set REDIS_URL, or configure an app:
    from celery import Celery
    app = Celery("myproject", broker="redis://127.0.0.1:6379/0", backend="redis://127.0.0.1:6379/0")
    app.set_default()
and import that module before the endpoint is used (in Django: in the project's __init__.py)"""

_lock = threading.Lock()


def client_settings() -> ClientSettings:
    """The settings of this process, read from the environment each time: it is cheap, and tests change it."""
    return ClientSettings.from_env()


def client_app() -> Celery:
    """The current app if it is configured, else one made from `REDIS_URL` and its like.

    Raises:
        NotConfigured: neither is there.
    """
    app = current_app._get_current_object()
    if app.conf.get("broker_url") or app.conf.get("broker_write_url"):
        return app  # type: ignore[no-any-return]
    settings = client_settings()
    if not settings.explicit:
        raise NotConfigured(HOW_TO_CONFIGURE)
    with _lock:
        if not current_app.conf.get("broker_url"):
            made = Celery(
                "celery_runpod_client",
                broker=settings.broker_url,
                backend=settings.result_backend,
                set_as_current=False,
            )
            # Where a RunPod worker with RUNPOD_IMPORTS listens: such a site has no worker of its own.
            made.conf.task_default_queue = DEFAULT_QUEUE
            # The default of all threads, so that a chain and its other tasks use it too; an app of the user's own that
            # is made later takes its place.
            made.set_default()
        return current_app._get_current_object()  # type: ignore[no-any-return]


WORKER = "runpod_worker"
"""An attribute of the RunPod worker's own app, set before it is finalized."""


def is_worker(app: Celery) -> bool:
    """Whether this is the app of a RunPod worker."""
    return bool(getattr(app, WORKER, False))


def check_reachable(app: Celery) -> None:
    """Ask broker and result backend for a sign of life; once, where they are one Redis.

    Raises:
        BrokerUnavailable: one of them did not answer within seconds; its URL is shown without the password.
    """
    asked = set()
    for role, given in (("broker", broker_of(app)), ("result backend", app.conf.result_backend)):
        if not isinstance(given, str) or given in asked:
            continue
        asked.add(given)
        first = given.split(";", 1)[0]
        try:
            if first.startswith(REDIS_SCHEMES):
                _redis(first, os.getpid()).ping()
            elif role == "broker" and is_amqp(first):
                # One that is open already costs nothing: whether it still is, RabbitMQ's confirm of the message tells.
                with app.pool.acquire(block=True, timeout=ANSWER_S) as connection:
                    connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=ANSWER_S)
            continue
        except LimitExceeded:
            continue  # all are in use, so there is a broker
        except (RedisError, OperationalError, AMQPError, OSError) as error:
            reason = str(error) or type(error).__name__
        raise BrokerUnavailable(role, mask_url(first), reason)


@functools.lru_cache(maxsize=16)
def _redis(url: str, pid: int) -> Any:
    """A connection of its own for each process, kept open: a ping then costs a fraction of a millisecond."""
    return connect(url, CALL)
