"""Celery's consumer, which outlives the loss of Redis also while it holds messages.

Two things end Celery's own (5.7, with kombu 5.7) with an AttributeError. kombu closes the lost channel twice: the first
try fails while it reads the lost connection; the second, whose transport is taken apart by then, tries to put the held
messages back into their queues, and a RunPod worker holds a countdown message nearly always. And a task that was
running when the connection was lost acknowledges its message, at its end, on a channel that is no more.

So nothing is put back, and nothing acknowledged, over a lost connection: such a message comes back when the visibility
timeout is over, and is harmless then, as every repeat is. Until then the self-healing thread publishes what is missing.

A Redis that is out of memory refuses even an acknowledgement; Celery would end for it. It is waited for like one that is
away.

Next: ``selfheal.py``.
"""

from __future__ import annotations

from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import OutOfMemoryError


class LossTolerantConsumer(Consumer):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection_errors = (*self.conninfo.connection_errors, OutOfMemoryError)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        channel = getattr(self.connection, "_default_channel", None)
        if channel is not None:
            channel.do_restore = False
        for request in {*state.reserved_requests, *state.active_requests}:
            request.acknowledged = True
        super().on_connection_error_after_connected(exc)
