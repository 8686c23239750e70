"""Connections to RabbitMQ after a plain `os.fork` (gunicorn --preload, uwsgi): a child begins with none.

It would share its parent's, and one of them would read the confirm of the other's message. Celery forgets them in the
processes that it forks itself, and in no others. Not for Redis: its client notices a fork.

Connected by importing `celery_runpod`.
"""

from __future__ import annotations

import os
from queue import LifoQueue

from celery._state import _get_active_apps

from celery_runpod._connect import broker_of, is_amqp


def _forget_connections() -> None:
    for app in _get_active_apps():
        # An app without a pool has not published, and may not be configured yet.
        if app._pool is None or not is_amqp(broker_of(app)):
            continue
        for pool in (app._pool, app.amqp._producer_pool):
            if pool is not None:
                # Not closed, which would end the parent's too; and another thread may hold the old lock for ever.
                pool._resource, pool._dirty = LifoQueue(), set()
                pool.setup()


os.register_at_fork(after_in_child=_forget_connections)
