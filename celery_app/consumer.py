"""Celery's consumer, which outlives the loss of Redis also while it holds messages.

When the broker's connection is lost, kombu 5.7 closes the channel twice. The first try fails while it reads the lost
connection; the second, whose transport is taken apart by then, tries to put the held messages back into their queues
and raises AttributeError, which ends the worker. A RunPod worker holds a countdown message nearly always. So nothing is
put back over a lost connection: such a message comes back when the visibility timeout is over, and until then the
self-healing thread publishes the checks that are missing.

Next: ``selfheal.py``.
"""

from __future__ import annotations

from celery.worker.consumer import Consumer


class LossTolerantConsumer(Consumer):
    """See the module."""

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        channel = getattr(self.connection, "_default_channel", None)
        if channel is not None:
            channel.do_restore = False
        super().on_connection_error_after_connected(exc)
