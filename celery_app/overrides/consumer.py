"""Celery's consumer, made to survive the loss of Redis while it holds messages, and messages that would end it.

Two things end Celery's own (5.7, with kombu 5.7) with an AttributeError. kombu closes the lost channel twice: the first
try fails while it reads the lost connection; the second, whose transport is taken apart by then, tries to put the held
messages back into their queues, and a RunPod worker holds a countdown message nearly always. And a task that was
running when the connection was lost acknowledges its message, at its end, on a channel that is no more.

So nothing is put back, and nothing acknowledged, over a lost connection: such a message comes back when the visibility
timeout is over, and is harmless then, as every repeat is. Until then the self-healing thread publishes what is missing.

Celery only logs an acknowledgement that failed, and the message counts as held for ever: as many of them as the worker
has processes, and it never fetches another. Here the failure is raised, so that the worker connects anew and lets go of
it; also from a Redis that is out of memory or read-only (`broker_channel_error_retry`), for which Celery would end.

Celery connects anew at once. A Redis that answers, and refuses a command each time (a key of a queue that is no list), is
asked again ever more slowly, and one line of the log names the keys (`refusals.py`).

What a message carries is measured before it is decoded, and whatever the strategy or the pool raises over a message is
that message's end, not the worker's (``poison.py``). Celery acknowledges and drops a message that it cannot read; here
it is put aside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import ResponseError

from celery_app.overrides import envelopes
from celery_app.overrides.fitting import misfit
from celery_app.overrides.poison import PoisonWard, measure
from celery_app.overrides.refusals import Refusals
from tasks.services import services_of

log = logging.getLogger(__name__)


class LossTolerantConsumer(Consumer):
    """The consumer of a RunPod worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Gossip reads the events of every process that shares the broker, and one that is no event ends its worker
        # (Celery 5.7). Mingle copies other workers' lists of revoked tasks, which no task here asks (``request.py``).
        super().__init__(*args, **{**kwargs, "without_gossip": True, "without_mingle": True})
        self.ward = PoisonWard(lambda: services_of(self.app), self._let_go)
        self.refusals = Refusals(self._stops)
        hand_over = getattr(self.controller, "_process_task", None)
        if hand_over is not None:
            # Where the pool has no free process, Celery calls it later, from the end of another task.
            self.controller._process_task = lambda request: self._hand_over(hand_over, request)

    def connect(self) -> Any:
        connection = super().connect()
        envelopes.install(connection.transport)
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> Any:
            try:
                if (why := measure(message) or misfit(self.app, message)) is None:
                    return handle(message)
            except Exception as error:
                if self._passes(error):
                    raise
                log.exception("message.not_handled")
                why = _words(error)
            if not message.acknowledged:
                self.ward.take(message, why)
            return None

        return on_message

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Called by kombu and by Celery."""
        self.ward.take(message, f"the message cannot be read: {_words(exc)}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Called by Celery."""
        self.ward.take(message, "it is no task's message: it names no task", ends_task=False)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Called by Celery."""
        self.ward.take(message, _words(exc))

    def _hand_over(self, hand_over: Callable[[Any], None], request: Any) -> None:
        """Give a request to the pool. What cannot be pickled ends the task, and not the worker."""
        try:
            return hand_over(request)
        except Exception as error:
            if self._passes(error):
                raise
            log.exception("message.not_handed_over")
            why = _words(error)
        self._forget(request)
        if not request.acknowledged and not request.message.acknowledged:
            request.acknowledged = True
            self.ward.take(request.message, why)

    def _forget(self, request: Any) -> None:
        """Free the place in the pool that the request took."""
        state.task_ready(request)
        pool = getattr(self.pool, "_pool", None)
        for job in list(getattr(pool, "_cache", {}).values()):
            # Not of another copy of this task: what was pickled has a payload.
            if getattr(job, "correlation_id", None) == request.id and not hasattr(job, "_payload"):
                job.discard()
        if (release := getattr(self.controller, "_quick_release", None)) is not None:
            release()

    def _passes(self, error: Exception) -> bool:
        """Whether an error comes from the broker (it ends the connection, and no task) or from the worker's own end."""
        of_channels = getattr(self.connection, "channel_errors", ()) or ()
        return self._stops() or isinstance(error, (*self.connection_errors, *of_channels))

    def _stops(self) -> bool:
        return state.should_stop is not None or state.should_terminate is not None

    def _let_go(self, message: Any) -> None:
        if not message.acknowledged:
            self.call_soon_ack(message.reject_log_error, log, ())

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Do soon what a control command asks (`add_consumer`, `cancel_consumer`). A queue whose name is no text would
        end the worker there."""

        def done() -> None:
            try:
                p(*args, **kwargs)
            except Exception as error:
                if self._passes(error):
                    raise
                log.exception("control_command.failed")

        return super().call_soon(done)

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
        if isinstance(exc, ResponseError):
            queues = [queue.name for queue in self.app.amqp.queues.consume_from.values()]
            self.refusals.wait(exc, self.app, queues)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
