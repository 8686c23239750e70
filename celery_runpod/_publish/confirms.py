"""Publisher confirms of RabbitMQ: a publish counts once a queue has accepted the message.

Celery's own setting (`confirm_publish`) makes every publish of a connection wait without bound, events and replies too.
RabbitMQ confirms nothing while it is short of memory or disk, so a worker's event loop would block. Here only messages
that must not be lost wait, for at most `CONFIRM_S`. The user's app is not changed: a message turns its channel into a
confirming one by declaring `Confirms` (docs/decisions/0005).
"""

from __future__ import annotations

from typing import Any

from amqp.exceptions import AMQPError, NotFound, RecoverableChannelError
from kombu.abstract import MaybeChannelBound
from kombu.connection import PooledConnection
from kombu.exceptions import OperationalError

CONFIRM_S = 5.0
"""RabbitMQ confirms within milliseconds, unless it is short of memory or disk."""

SHORT = "RabbitMQ is short of memory or disk, and takes no messages now"

NOT_PUBLISHED = (OperationalError, AMQPError, OSError)
"""What a publish may raise. kombu turns only the errors that it retries into OperationalError."""


class NotTaken(RecoverableChannelError, OperationalError):
    """No queue accepted the message. Subclasses both: kombu retries RecoverableChannelError, and Celery's worker
    OperationalError."""


class Confirms(MaybeChannelBound):
    """An entity that a message declares to make its channel confirm. kombu declares it on the publishing channel before
    each message, because it is not cached."""

    name = ""

    def declare(self, channel: Any = None) -> None:
        channel = channel or self.channel
        if not hasattr(channel, "runpod_confirming"):
            channel.runpod_confirming = Confirming(channel)
        channel.runpod_confirming.refuse_if_blocked()


CONFIRMS = Confirms()


class Confirming:
    """Publishes on one channel. Confirms are counted by RabbitMQ's number of a message on the channel, so that a late one
    does not confirm the next message, as with amqp's own wait.

    A message waits for its confirm if it is `mandatory`, has a `confirm_timeout`, or if its app has `confirm_publish` on.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._sent = self._confirmed = 0
        # An app with `confirm_publish` may have published before: the first confirm shows how many messages.
        self._before: int | None = None
        self._problem: Exception | None = None
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._blocked = False
        if channel.connection.on_blocked is None:
            channel.connection.on_blocked = self._on_blocked
            channel.connection.on_unblocked = self._on_unblocked
        channel.basic_publish = self.publish

    def publish(self, message: Any, *, confirm_timeout: float | None = None, **options: Any) -> None:
        """In place of the channel's `basic_publish`.

        Raises:
            OperationalError: refused, or no confirm in time.
            NotTaken: no queue accepted it; kombu declares the queue and publishes again.
        """
        try:
            self._select()
            self._channel._basic_publish(message, **options)
            self._sent += 1
            self._problem = None
            if options.get("mandatory") or confirm_timeout or self._channel.connection.confirm_publish:
                self._wait(confirm_timeout or CONFIRM_S)
        except NotFound as error:
            self._not_taken(f"there is no such exchange ({error.reply_text})")
        if self._problem is not None:
            raise self._problem

    def refuse_if_blocked(self) -> None:
        """Called before queues are declared: RabbitMQ does not read a blocked connection, so it would never answer.

        Raises:
            OperationalError: nothing was sent.
        """
        try:
            self._channel.connection.drain_events(timeout=0)
        except TimeoutError:
            pass  # nothing arrived
        except NotFound as error:
            # The answer to an earlier message, which did not wait for it.
            self._not_taken(str(error))
        if self._blocked:
            self._give_up(SHORT)
            raise OperationalError(SHORT)

    def _select(self) -> None:
        """Turn confirms on, also again: amqp reopens a channel that an error has closed, and its numbers begin at 1."""
        if not self._channel._confirm_selected:
            self._channel.confirm_select(nowait=True)
            self._channel._confirm_selected = True
            self._sent = self._confirmed = self._before = 0

    def _wait(self, timeout_s: float) -> None:
        try:
            while self._confirmed < self._sent and not self._blocked:
                self._channel.connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            self._give_up(f"no confirm within {timeout_s:g} s")
        if self._blocked and self._confirmed < self._sent:
            self._give_up(SHORT)

    def _give_up(self, problem: str) -> None:
        # The message may still be confirmed, so this connection is not used again.
        self._channel.connection.collect()
        # Not one of the errors that kombu retries: a confirm will not come in the next seconds either.
        self._problem = OperationalError(problem)

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False

    def _on_ack(self, number: int, multiple: bool) -> None:
        if self._before is None:
            self._before = number - self._sent
        self._confirmed = max(self._confirmed, number - self._before)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._on_ack(number, multiple)
        if self._confirmed == self._sent:
            self._problem = OperationalError("RabbitMQ refused it")

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """RabbitMQ returns a message before it confirms it."""
        self._not_taken(f"no queue accepted it (exchange {exchange!r}, routing key {routing_key!r})")

    def _not_taken(self, problem: str) -> None:
        """Its queue or exchange was deleted after this connection had declared it."""
        self._channel.connection.client.declared_entities.clear()
        self._problem = NotTaken(problem)


def end_when_blocked(connection: Any) -> None:
    """Called when a worker opens an amqp connection. Close a pooled connection once RabbitMQ blocks it: RabbitMQ no
    longer reads it, so a declaration on it would wait without end.

    The heartbeat connection is exempt: heartbeats can queue in its socket, and it declares nothing.
    """

    def end(reason: str) -> None:
        connection.collect()
        raise OperationalError(SHORT)

    if isinstance(connection.client, PooledConnection):
        connection.on_blocked = end
