"""When a publish to RabbitMQ counts: when it was confirmed, by a queue that took the message.

Celery's own setting (`confirm_publish`) makes every publish of a connection wait, events and replies too, and without
bound: a RabbitMQ that is short of memory or disk confirms nothing, and a worker's event loop would stand still. Here only
what must not be lost waits, and not for long. Nothing of this shows in the user's app: a channel is made so by what is
declared with a message, `Confirms`. (docs/decisions/0005)
"""

from __future__ import annotations

from typing import Any

from amqp.exceptions import AMQPError, NotFound, RecoverableChannelError
from kombu.abstract import MaybeChannelBound
from kombu.connection import PooledConnection
from kombu.exceptions import OperationalError

CONFIRM_S = 5.0
"""RabbitMQ confirms within milliseconds, or says that it is short of memory or disk and does not, until it is well."""

SHORT = "RabbitMQ is short of memory or disk, and takes no messages now"

NOT_PUBLISHED = (OperationalError, AMQPError, OSError)
"""What a publish raises. kombu makes OperationalError only of errors that it tries again; not of "no such exchange"."""


class NotTaken(RecoverableChannelError, OperationalError):
    """No queue accepted the message. Subclasses both: kombu retries the first, Celery's worker the second."""


class Confirms(MaybeChannelBound):
    """Declared with a message, it makes a channel one that confirms: kombu declares on the channel that it then
    publishes on, before each message, because this is not to be cached."""

    name = ""

    def declare(self, channel: Any = None) -> None:
        channel = channel or self.channel
        if not hasattr(channel, "runpod_confirming"):
            channel.runpod_confirming = Confirming(channel)
        channel.runpod_confirming.refuse_if_blocked()


CONFIRMS = Confirms()


class Confirming:
    """Publishes on one channel. RabbitMQ names a message by its number on the channel, so that a late confirm is not
    taken for that of the next one, as amqp's own wait does.

    A message waits for its confirm if it was published as `mandatory`, with a `confirm_timeout`, or by an app that wants
    them all confirmed.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._sent = self._confirmed = 0
        # Where its app wants all confirmed, some may have been already: the first answer tells how many.
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
            NotTaken: no queue took it; it is declared and published again.
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
        """Before queues are declared: a blocked connection is not read by RabbitMQ, which would never answer.

        Raises:
            OperationalError: nothing was sent.
        """
        try:
            self._channel.connection.drain_events(timeout=0)
        except TimeoutError:
            pass  # no verdict arrived
        except NotFound as error:
            # Of an earlier message, which did not wait.
            self._not_taken(str(error))
        if self._blocked:
            self._give_up(SHORT)
            raise OperationalError(SHORT)

    def _select(self) -> None:
        """Not once for all: amqp opens a channel again that an error has closed, and its numbers begin anew."""
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
        # It is not known what will become of the message, so this connection is not used again.
        self._channel.connection.collect()
        # Not one of kombu's errors that are tried again: what does not confirm now does not in the next seconds.
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
        """Told before the confirm."""
        self._not_taken(f"no queue took it (exchange {exchange!r}, routing key {routing_key!r})")

    def _not_taken(self, problem: str) -> None:
        """What it needs was deleted after this connection had declared it."""
        self._channel.connection.client.declared_entities.clear()
        self._problem = NotTaken(problem)


def end_when_blocked(connection: Any) -> None:
    """An amqp connection of a worker was opened. Of a pool, it is ended once RabbitMQ says that it is blocked: RabbitMQ
    reads it no more, and whoever declares something on it would wait until RabbitMQ is well.

    Not so the one on which heartbeats are sent: these may wait in its socket, and nothing is declared on it.
    """

    def end(reason: str) -> None:
        connection.collect()
        raise OperationalError(SHORT)

    if isinstance(connection.client, PooledConnection):
        connection.on_blocked = end
