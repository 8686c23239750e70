"""Celery's consumer, which outlives the loss of Redis also while it holds messages.

Two things end Celery's own (5.7, with kombu 5.7) with an AttributeError. kombu closes the lost channel twice: the first
try fails while it reads the lost connection; the second, whose transport is taken apart by then, tries to put the held
messages back into their queues, and a RunPod worker holds a countdown message nearly always. And a task that was
running when the connection was lost acknowledges its message, at its end, on a channel that is no more.

So nothing is put back, and nothing acknowledged, over a lost connection: such a message comes back when the visibility
timeout is over, and is harmless then, as every repeat is. Until then the self-healing thread publishes what is missing.

Celery only logs an acknowledgement that failed, and the message counts as held for ever: as many of them as the worker
has processes, and it never fetches another. Here the failure is raised, so that the worker connects anew and lets go of
it; also from a Redis that is out of memory or read-only (`broker_channel_error_retry`), for which Celery would end.

Next: ``selfheal.py``.
"""

from __future__ import annotations

from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer


class LossTolerantConsumer(Consumer):
    """See the module."""

    def call_soon_ack(self, p: Any, log: Any, errors: Any, *args: Any) -> Any:
        """Acknowledge, or reject, soon; `errors` are those that Celery would have swallowed."""
        return super().call_soon_ack(p, log, (), *args)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        channel = getattr(self.connection, "_default_channel", None)
        if channel is not None:
            channel.do_restore = False
        for request in {*state.reserved_requests, *state.active_requests}:
            request.acknowledged = True
        super().on_connection_error_after_connected(exc)
