"""Celery's consumer, changed so that it survives the loss of Redis, and messages that would end the worker.

Where Celery 5.7 with kombu 5.7 ends, or stops to fetch messages, and what happens here instead:

- Redis is lost while the worker holds messages. kombu closes the lost channel twice; the second time it tries to put the
  held messages back through a transport that is gone (AttributeError). A task that still runs then acknowledges its
  message on the closed channel (AttributeError). Here nothing is put back or acknowledged over a lost connection: the
  message comes back after the visibility timeout, and a repeated message changes nothing. Until then the watchdog
  publishes what is missing.
- An acknowledgement fails. Celery logs it and counts the message as held for ever; after as many failures as the worker
  has processes it fetches nothing. Here the error is raised, so the worker connects again and forgets the message. The
  same holds for a Redis that is out of memory or read-only (`broker_channel_error_retry`), at which Celery ends.
- Redis answers, but refuses a command each time, because the key of a queue is not a list. Celery connects again at
  once, in a loop. Here the pauses grow, and one line of the log names the keys (``broker_refusals.py``).
- A message is nested too deeply, or raises in Celery's strategy or pool. It ends its own task, not the worker
  (``poison.py``). Celery drops a message that it cannot read; here it is put aside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import ResponseError

from celery_app.overrides import broken_envelopes
from celery_app.overrides.broker_refusals import Refusals
from celery_app.overrides.check_slots import CheckSlots
from celery_app.overrides.poison import PoisonWard, measure
from celery_app.overrides.unfit_messages import misfit
from tasks.services import services_of

log = logging.getLogger(__name__)


class LossTolerantConsumer(Consumer):
    """The consumer of a RunPod worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Gossip reads events from every process that shares the broker; a malformed event ends the worker (Celery 5.7).
        # Mingle copies other workers' lists of revoked tasks, which no task here reads (``unrevoked_request.py``).
        super().__init__(*args, **{**kwargs, "without_gossip": True, "without_mingle": True})
        self.ward = PoisonWard(lambda: services_of(self.app), self._let_go)
        self.refusals = Refusals(self._stops)
        # The strategies of the tasks hand over what this attribute names.
        begin: Callable[[Any], None] = getattr(self, "on_task_request")  # noqa: B009 - Celery's, untyped
        self.checks = CheckSlots(
            begin,
            lambda: self.pool.num_processes,
            lambda: self.qos.increment_eventually(),
            lambda: self.qos.decrement_eventually(),
            self._drop,
            lambda seconds, then: self.timer.call_after(seconds, then),
        )
        self.on_task_request = self.checks.take
        hand_over = getattr(self.controller, "_process_task", None)
        if hand_over is not None:
            # If the pool has no free process, Celery calls it later, when another task ends.
            self.controller._process_task = lambda request: self._hand_over(hand_over, request)

    def connect(self) -> Any:
        connection = super().connect()
        broken_envelopes.install(connection.transport)
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def receive(message: Any) -> None:
            if why := measure(message) or misfit(self.app, message):
                self.ward.take(message, why)
            else:
                handle(message)

        def on_message(message: Any) -> None:
            why = self._fault(lambda: receive(message), "message.not_handled")
            if why is not None and not message.acknowledged:
                self.ward.take(message, why)

        return on_message

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Called by kombu and by Celery."""
        self.ward.take(message, f"the message cannot be read: {_words(exc)}")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Called by Celery."""
        self.ward.take(message, "it names no task, so it is not the message of one", ends_task=False)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Called by Celery."""
        self.ward.take(message, _words(exc))

    def _hand_over(self, hand_over: Callable[[Any], None], request: Any) -> None:
        """Give a request to the pool. A request that cannot be pickled ends its task, not the worker."""
        why = self._fault(lambda: hand_over(request), "message.not_handed_over")
        if why is None:
            return
        self._forget(request)
        self.checks.over(request)
        if not request.acknowledged and not request.message.acknowledged:
            request.acknowledged = True
            self.ward.take(request.message, why)

    def _drop(self, request: Any) -> None:
        """Acknowledge a request that is not needed."""
        state.task_ready(request)
        request.acknowledge()

    def _forget(self, request: Any) -> None:
        """Free the place in the pool that the request took."""
        state.task_ready(request)
        pool = getattr(self.pool, "_pool", None)
        for job in list(getattr(pool, "_cache", {}).values()):
            # A job with a payload was pickled: it belongs to another copy of this task.
            if getattr(job, "correlation_id", None) == request.id and not hasattr(job, "_payload"):
                job.discard()
        if (release := getattr(self.controller, "_quick_release", None)) is not None:
            release()

    def _fault(self, work: Callable[[], Any], event: str) -> str | None:
        """Do the work. Log an error that the message or command caused, and return its text; None if there is none.

        Raises:
            Exception: an error of the broker, which ends the connection and no task; or any error while the worker ends.
        """
        try:
            work()
        except Exception as error:
            of_channels = getattr(self.connection, "channel_errors", ()) or ()
            if self._stops() or isinstance(error, (*self.connection_errors, *of_channels)):
                raise
            log.exception(event)
            return _words(error)
        return None

    def _stops(self) -> bool:
        return state.should_stop is not None or state.should_terminate is not None

    def _let_go(self, message: Any) -> None:
        if not message.acknowledged:
            self.call_soon_ack(message.reject_log_error, log, ())

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Do soon what a control command asks (`add_consumer`, `cancel_consumer`). In Celery's own, a queue whose name is
        not a text ends the worker."""
        return super().call_soon(lambda: self._fault(lambda: p(*args, **kwargs), "control_command.failed"))

    def call_soon_ack(self, p: Any, log: Any, errors: Any, *args: Any) -> Any:
        """Acknowledge or reject soon, and raise the `errors` that Celery would only log."""
        return super().call_soon_ack(p, log, (), *args)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        channel = getattr(self.connection, "_default_channel", None)
        if channel is not None:
            channel.do_restore = False
        for request in {*state.reserved_requests, *state.active_requests}:
            request.acknowledged = True
        self.checks.forget()
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, ResponseError):
            queues = [queue.name for queue in self.app.amqp.queues.consume_from.values()]
            self.refusals.wait(exc, self.app, queues)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
