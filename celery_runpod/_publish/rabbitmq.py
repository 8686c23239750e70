"""How queues are declared on RabbitMQ, by whichever process publishes first.

Celery declares a queue before it publishes to it, as its own app knows it, and RabbitMQ refuses a second declaration with
other arguments. So every process declares the queues of the namespace as quorum queues, and leaves any other queue as it
is if it exists. Only the declarations of single messages change; the user's app does not.

Not here: waiting for RabbitMQ's confirm (``confirms.py``), the worker's settings (`config/celery_config.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from celery import Celery
from celery.app.amqp import AMQP
from celery.app.amqp import Queues as QueuesOfAnApp
from kombu.entity import Queue

from celery_runpod._connect import ClientSettings, broker_of, is_amqp
from celery_runpod._protocol import Queues
from celery_runpod._publish.confirms import CONFIRMS
from celery_runpod.errors import ConfigurationError


def quorum_arguments(version: str) -> dict[str, Any]:
    """The arguments of the namespace's queues, for this version of RabbitMQ.

    From version 4 on, RabbitMQ drops a message that returns to its queue for the 21st time; `runpod.run` must never be
    dropped, and -1 turns the limit off. Before version 4 there is no limit, and -1 drops a message at its first return
    (www.rabbitmq.com/docs/quorum-queues, repeated requeues; measured on 3.10).
    """
    major = version.split(".", 1)[0]
    unlimited = {"x-delivery-limit": -1} if major.isdigit() and int(major) >= 4 else {}
    return {"x-queue-type": "quorum", **unlimited}


class QuorumQueue(Queue):
    """A queue of the namespace."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # From these Celery sees that quorum queues are used, which have no QoS for a whole channel.
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
    """A queue of the user's app. It is declared only if it does not exist, because this process may not know its
    arguments."""

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:
        # On a separate channel, which RabbitMQ closes if the name is unknown.
        probe = (channel or self.channel).connection.channel()
        try:
            probe.queue_declare(queue=self.name, passive=True)
        except NotFound:
            super().declare(nowait=nowait, channel=channel)  # type: ignore[no-untyped-call]
        else:
            probe.close()
        return self.name


class ForeignQueues(QueuesOfAnApp):
    """Declares a queue that the app does not know only if it does not exist."""

    def new_missing(self, name: str) -> Any:
        return CallersQueue(**super().new_missing(name).as_dict())  # type: ignore[no-untyped-call]


class ForeignAMQP(AMQP):
    """Celery's own, with these queues: for an app that publishes to queues of the user's app."""

    queues_cls = ForeignQueues


def wrong_queue(name: str, reason: str) -> str:
    """What to do about a queue of the namespace that another process declared."""
    return (
        f"RabbitMQ has a queue {name!r} with other arguments than it must have ({reason}). It was declared by a process "
        "that does not import celery_runpod, or before an upgrade to RabbitMQ 4. Stop what publishes to it, let it run "
        f"empty, and delete it (rabbitmqctl delete_queue {name}): the next worker makes it again"
    )


def our_queues() -> tuple[str, ...]:
    """The names of the queues of this process's namespace."""
    return Queues.of(ClientSettings.from_env().namespace).all()


def mend_declarations(app: Celery, declare: Any) -> None:
    """Replace the namespace's queues, in what a message declares, by quorum queues."""
    if not isinstance(declare, list) or not declare or not is_amqp(broker_of(app)):
        return
    ours = our_queues()
    declare[:] = [_as_ours(one) if type(one) is Queue and one.name in ours else one for one in declare]


def declare_followers(app: Celery, declare: Any, names: Iterable[str]) -> None:
    """Add the queues of what follows a message to its declarations. The worker that publishes to them does not know their
    arguments, and RabbitMQ drops a message to a queue that does not exist."""
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
            continue  # an app with `task_create_missing_queues` off
        if isinstance(queue, QuorumQueue):
            declare.append(queue)
        elif name in ours:
            declare.append(_as_ours(queue))
        elif _is_plain(queue):
            declare.append(CallersQueue(**queue.as_dict()))  # type: ignore[no-untyped-call]


def confirm(declare: Any, properties: Any, *, wait: bool) -> None:
    """If a message declares a queue of the namespace, or of what follows a call, publish it on a confirming channel. With
    `wait` the publish returns once its own queue has the message."""
    if not isinstance(declare, list) or not any(isinstance(one, QuorumQueue | CallersQueue) for one in declare):
        return
    if wait and _is_plain(declare[0]):
        properties["mandatory"] = True
    if CONFIRMS not in declare:
        declare.insert(0, CONFIRMS)


def _as_ours(queue: Queue) -> QuorumQueue:
    """This queue as a quorum queue, with the exchange of its app."""
    exchange = queue.exchange
    if exchange is None or (exchange.type == "direct" and exchange.name in ("", queue.name)):
        # Celery declares an exchange of the queue's name but publishes to RabbitMQ's default one. Another app may have
        # declared it with another type.
        return QuorumQueue(queue.name)
    return QuorumQueue(queue.name, exchange, routing_key=queue.routing_key)


def _is_plain(entity: Any) -> bool:
    """Whether it is a queue, and not a Broadcast."""
    return type(entity) in (Queue, QuorumQueue, CallersQueue)
