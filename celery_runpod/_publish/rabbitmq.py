"""Queues on RabbitMQ: how they are declared, by whoever publishes first.

RabbitMQ refuses a queue that is declared twice with different arguments, and Celery declares a queue before it publishes
to it, with what ITS app knows. So the queues of ours are quorum queues whoever declares them, and a queue that is not
ours is left as it is if it exists. Nothing of this shows in the user's app: only what is declared with one message is.

Not here: waiting for RabbitMQ's word (``confirms.py``), the worker's settings (its `config/celery_config.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from celery import Celery
from kombu.entity import Queue

from celery_runpod._connect import ClientSettings, broker_of, is_amqp
from celery_runpod._protocol import Queues
from celery_runpod._publish.confirms import CONFIRMS
from celery_runpod.errors import ConfigurationError


def quorum_arguments(version: str) -> dict[str, Any]:
    """The arguments of a queue of ours, for this version of RabbitMQ.

    From version 4 on a message is thrown away when it came back to its queue for the 21st time, which `runpod.run` must
    never be: -1 lifts that. Before version 4 there is no limit, and -1 would throw a message away at the first time
    (www.rabbitmq.com/docs/quorum-queues, repeated requeues; measured on 3.10).
    """
    major = version.split(".", 1)[0]
    unlimited = {"x-delivery-limit": -1} if major.isdigit() and int(major) >= 4 else {}
    return {"x-queue-type": "quorum", **unlimited}


class QuorumQueue(Queue):
    """A queue of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Celery finds out by these that quorum queues are used: they know no QoS for a whole channel.
        kwargs["queue_arguments"] = {"x-queue-type": "quorum"}
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    def queue_declare(self, nowait: bool = False, passive: bool = False, channel: Any = None) -> Any:
        channel = channel or self.channel
        version = str(channel.connection.server_properties.get("version") or "")
        try:
            return channel.queue_declare(
                queue=self.name,
                passive=passive,
                durable=True,
                exclusive=False,
                auto_delete=False,
                arguments=quorum_arguments(version),
                nowait=nowait,
            )
        except PreconditionFailed as error:
            reason = error.reply_text
        raise ConfigurationError(wrong_queue(self.name, reason))


class CallersQueue(Queue):
    """A queue of the user's app, declared by somebody who may not know its arguments: one that exists stays as it is."""

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:
        # On a channel of its own: RabbitMQ answers an unknown name by closing the channel.
        probe = (channel or self.channel).connection.channel()
        try:
            probe.queue_declare(queue=self.name, passive=True)
        except NotFound:
            super().declare(nowait=nowait, channel=channel)  # type: ignore[no-untyped-call]
        else:
            probe.close()
        return self.name


def wrong_queue(name: str, reason: str) -> str:
    """What to do about a queue of ours that somebody else declared."""
    return (
        f"RabbitMQ has a queue {name!r} with other arguments than it must have ({reason}). It was declared by a process "
        "that does not import celery_runpod, or before an upgrade to RabbitMQ 4. Stop what publishes to it, let it run "
        f"empty, and delete it (rabbitmqctl delete_queue {name}): the next worker makes it again"
    )


def our_queues() -> tuple[str, ...]:
    """The names of the queues of this process's namespace."""
    return Queues.of(ClientSettings.from_env().namespace).all()


def mend_declarations(app: Celery, declare: Any) -> None:
    """Replace, in what is declared with a message, the queues of ours by what they must be."""
    if not isinstance(declare, list) or not declare or not is_amqp(broker_of(app)):
        return
    ours = our_queues()
    declare[:] = [_as_ours(one) if type(one) is Queue and one.name in ours else one for one in declare]


def declare_followers(app: Celery, declare: Any, names: Iterable[str]) -> None:
    """Declare, with a message, the queues of what follows it: the worker that will publish to them does not know how the
    caller's app would make them, and RabbitMQ drops what is sent to a queue that is not there."""
    if not isinstance(declare, list) or not is_amqp(broker_of(app)):
        return
    ours = our_queues()
    known = {one.name for one in declare}
    for name in dict.fromkeys(names):
        if name in known:
            continue
        try:
            queue = app.amqp.queues[name]
        except KeyError:
            continue  # the app makes no queues that it does not know
        if isinstance(queue, QuorumQueue):
            declare.append(queue)
        elif name in ours:
            declare.append(_as_ours(queue))
        elif _is_plain(queue):
            declare.append(CallersQueue(**queue.as_dict()))  # type: ignore[no-untyped-call]


def confirm(declare: Any, properties: Any, *, wait: bool) -> None:
    """Publish a message, with which queues of ours or of what follows are declared, on a channel that confirms, and have
    it wait until its own queue has it."""
    if not isinstance(declare, list) or not any(isinstance(one, QuorumQueue | CallersQueue) for one in declare):
        return
    if wait and _is_plain(declare[0]):
        properties["mandatory"] = True
    if CONFIRMS not in declare:
        declare.insert(0, CONFIRMS)


def _as_ours(queue: Queue) -> QuorumQueue:
    """This queue as it must be, reached as its app reaches it."""
    exchange = queue.exchange
    if exchange is None or (exchange.type == "direct" and exchange.name in ("", queue.name)):
        # Celery makes one of the queue's name, but publishes by that name to RabbitMQ's own. Another app may have made
        # it of another type.
        return QuorumQueue(queue.name)
    return QuorumQueue(queue.name, exchange, routing_key=queue.routing_key)


def _is_plain(entity: Any) -> bool:
    """A queue, and not a Broadcast."""
    return type(entity) in (Queue, QuorumQueue, CallersQueue)
