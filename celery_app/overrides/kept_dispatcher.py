"""One dispatcher of events for each connection to the broker, instead of one for each event.

Celery's `default_dispatcher` takes a producer from the pool and makes a dispatcher, with one more producer, for a single
event; a job has two or more. They hold nothing that changes, so the channel of a connection can keep them: one thread at
a time has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.events import Events


class KeptEvents(Events):
    """`app.events`, whose default dispatchers are kept."""

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[Any]:
        with self.app.pool.acquire(block=True) as connection:
            # A channel is left behind when its connection is lost, and by a fork.
            channel, wanted = connection.default_channel, (hostname, enabled, buffer_while_offline)
            kept = getattr(channel, "runpod_dispatcher", None)
            if kept is None or kept[0] != wanted:
                kept = wanted, self.Dispatcher(connection, hostname, enabled, channel, buffer_while_offline)
                channel.runpod_dispatcher = kept
            yield kept[1]
