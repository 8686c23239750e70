"""Drops connections to RabbitMQ in the child of a plain `os.fork` (gunicorn --preload, uwsgi).

Child and parent would share a connection, and one would read the confirm of the other's message. Celery drops them only
in processes that it forks itself. Not needed for Redis, whose client notices a fork.

Connected by importing `celery_runpod`.
"""

from __future__ import annotations

import os
from queue import LifoQueue

from celery._state import _get_active_apps

from celery_runpod._connect import broker_of, is_amqp


def _forget_connections() -> None:
    for app in _get_active_apps():
        # An app without a pool has not published yet, and may not be configured.
        if app._pool is None or not is_amqp(broker_of(app)):
            continue
        for pool in (app._pool, app.amqp._producer_pool):
            if pool is not None:
                # Not closed, which would also end the parent's. A new queue, because another thread may hold the lock.
                pool._resource, pool._dirty = LifoQueue(), set()
                pool.setup()


os.register_at_fork(after_in_child=_forget_connections)
