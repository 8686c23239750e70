"""The checks of `doctor` on a broker that is not Redis: whether it is reached and, of RabbitMQ, its age and our queues.

A queue that is there is declared as a worker would declare it, which changes nothing; one that is not is left unmade.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amqp.exceptions import AccessRefused, NotFound
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import ChannelError

from celery_runpod._cli.doctor.findings import Finding, ok, warning, within, wrong
from celery_runpod._connect import client_settings, is_amqp, mask_url
from celery_runpod._private_names import release
from celery_runpod._protocol import Queues
from celery_runpod._publish.rabbitmq import QuorumQueue, our_queues
from celery_runpod.errors import ConfigurationError

BROKER_S = 6.0
INSPECT_S = 1.5
OLDEST = (3, 10)
"""Quorum queues that delay messages need it: at-least-once dead lettering came with RabbitMQ 3.10."""


def check_broker(role: str, url: str) -> list[Finding]:
    """Reached or not, and what is wrong with it."""
    masked = mask_url(url)
    try:
        return within(BROKER_S, lambda: _look(role, url, masked))
    except AccessRefused as error:
        problem = f"{masked} refuses the user or password: {error}"
        return [wrong(role, problem, "correct the URL, or the user's rights")]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return [wrong(role, f"{masked} cannot be reached: {reason}", "is it running, and is the URL right?")]


def _look(role: str, url: str, masked: str) -> list[Finding]:
    with Connection(url, connect_timeout=3) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=4)
        if not is_amqp(url):
            return [ok(role, f"{masked}: reached ({connection.transport.driver_type})")]
        properties: Any = connection.connection.server_properties
        product, version = (
            properties.get("product", "a broker"),
            str(properties.get("version", "of an unknown version")),
        )
        found = [ok(role, f"{masked}: {product} {version}")]
        if product == "RabbitMQ" and release(version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            found = [wrong(role, f"{masked}: RabbitMQ {version}", f"at least {oldest} is needed")]
        return [*found, *_look_at_queues(role, connection)]


def _look_at_queues(role: str, connection: Any) -> list[Finding]:
    try:
        names = our_queues()
    except ConfigurationError:
        return []  # the namespace is wrong, which is told by its own check
    found, missing = [], []
    for name in names:
        try:
            connection.channel().queue_declare(queue=name, passive=True)
            QuorumQueue(name).declare(channel=connection.channel())  # type: ignore[no-untyped-call]
        except NotFound:
            missing.append(name)
        except ConfigurationError as error:
            what, _, advice = str(error).partition(". ")
            found.append(wrong(f"{role}: queue", what, advice))
    there = [name for name in names if name not in missing]
    if there and not found:
        found.append(ok(f"{role}: queues", f"{', '.join(there)}: quorum queues"))
    if missing:
        found.append(ok(f"{role}: queues", f"{', '.join(missing)}: not made yet; the first worker or call makes them"))
    return found


def check_consumers(broker_url: str, names: Sequence[str]) -> list[Finding]:
    """A warning for each queue in which messages wait while no worker listens to it."""
    try:
        waiting = within(BROKER_S, lambda: _unheard(broker_url, names))
    except Exception:
        return []  # that the broker is in trouble is another check's finding
    return [
        warning(
            f"queue {name}",
            f"{number} messages wait, and no worker listens to it",
            "start one: "
            + (
                "celery-runpod worker"
                if name in _ours()
                else f"your own Celery worker for it (celery -A your_project worker -Q {name})"
            ),
        )
        for name, number in waiting.items()
    ]


def _unheard(broker_url: str, names: Sequence[str]) -> dict[str, int]:
    with Celery("celery_runpod_doctor", broker=broker_url, set_as_current=False) as app:
        waiting, heard = {}, set()
        with app.connection_for_read(connect_timeout=3) as connection:
            for name in names:
                try:
                    there = connection.channel().queue_declare(queue=name, passive=True)
                except ChannelError:
                    continue  # no such queue, so nothing waits in it
                if there.message_count:
                    waiting[name] = int(there.message_count)
                if there.consumer_count:  # RabbitMQ knows it; Redis does not
                    heard.add(name)
        if waiting.keys() - heard:
            # Workers of every app on this broker answer.
            answers = app.control.inspect(timeout=INSPECT_S).active_queues() or {}
            heard |= {queue["name"] for queues in answers.values() for queue in queues}
        return {name: number for name, number in waiting.items() if name not in heard}


def _ours() -> tuple[str, ...]:
    try:
        return Queues.of(client_settings().namespace).all()
    except ConfigurationError:
        return ()
