"""The checks of `doctor` on broker, result backend and store: reached, safe from losing anything, queues served.

They change nothing: a queue of RabbitMQ that exists is declared as a worker would declare it, and one that does not is
not made. Not here: what the store holds (``store_checks.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from amqp.exceptions import AccessRefused, NotFound
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import ChannelError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from celery_runpod._cli.doctor.findings import CHECK_S, Finding, TookTooLong, ok, warning, within, wrong
from celery_runpod._connect import COMMAND, celery_urls, client_settings, connect, is_amqp, mask_url
from celery_runpod._private_names import release
from celery_runpod._protocol import Queues
from celery_runpod._publish.rabbitmq import QuorumQueue, our_queues
from celery_runpod._redis_urls import is_redis_url
from celery_runpod._store.start_checks import clock_problem
from celery_runpod.errors import ConfigurationError

INSPECT_S = 1.5
OLDEST = (3, 10)
"""Quorum queues that delay messages need it: at-least-once dead lettering came with RabbitMQ 3.10."""
TROUBLE = (RedisError, OSError, ValueError, TookTooLong)


def check_server(role: str, url: str) -> list[Finding]:
    """Whether broker, result backend or store is reached, and loses nothing."""
    return check_redis(role, url) if is_redis_url(url) else check_broker(role, url)


def check_redis(role: str, url: str) -> list[Finding]:
    """Whether a Redis is reached, and set up so that it loses nothing."""
    masked = mask_url(url)
    try:
        info, latency_s, skew_s = within(CHECK_S, lambda: look_at_redis(url))
    except TROUBLE as error:
        return [unreachable(role, masked, error)]
    return judged(role, masked, info, latency_s, skew_s)


def judged(role: str, masked: str, info: dict[str, Any], latency_s: float, skew_s: float) -> list[Finding]:
    """What is found in the INFO of one Redis."""
    version = info.get("redis_version", "of an unknown version")
    found = [ok(role, f"{masked}: Redis {version}, answers in {latency_s * 1000:.1f} ms")]
    if info.get("role") == "slave":
        found.append(wrong(role, f"{masked} is a replica, which takes no writes", "use the URL of its master"))
    policy = info.get("maxmemory_policy")
    if policy is None:
        found.append(
            warning(f"{role}: memory", "Redis does not show its maxmemory-policy", "make sure that it is noeviction")
        )
    elif policy == "noeviction":
        found.append(ok(f"{role}: memory", "maxmemory-policy noeviction"))
    else:
        may_lose = f"maxmemory-policy is {policy}: Redis may throw away messages, results and jobs"
        advice = "set maxmemory-policy noeviction (CONFIG SET, and in redis.conf or your provider's settings)"
        found.append(wrong(f"{role}: memory", may_lose, advice))
    if str(info.get("aof_enabled")) == "1":
        found.append(ok(f"{role}: persistence", "AOF is on"))
    else:
        may_lose = "AOF is off: a crash of Redis loses what came after its last snapshot"
        found.append(warning(f"{role}: persistence", may_lose, "set appendonly yes"))
    if problem := clock_problem(skew_s):
        found.append(wrong(f"{role}: clock", problem, "set the clock on both machines (NTP)"))
    else:
        found.append(ok(f"{role}: clock", f"{skew_s:+.3f} s off Redis'"))
    return found


def look_at_redis(url: str) -> tuple[dict[str, Any], float, float]:
    """INFO, the seconds of a round trip, and by how many seconds this clock is ahead of Redis'."""
    return look_at_client(connect(url, COMMAND))


def look_at_client(redis: Any) -> tuple[dict[str, Any], float, float]:
    """The same, of a client of one server."""
    info: Any = redis.info()
    began, sent = time.monotonic(), time.time()
    seconds, micros = redis.time()
    latency_s = time.monotonic() - began
    return info, latency_s, sent + latency_s / 2 - (seconds + micros / 1e6)


def unreachable(role: str, masked: str, error: Exception) -> Finding:
    if isinstance(error, AuthenticationError | NoPermissionError | AccessRefused):
        return wrong(role, f"{masked} refuses the user or password: {error}", "correct the URL, or the user's rights")
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return wrong(role, f"{masked} cannot be reached: {reason}", "is it running, and is the URL right?")


def check_broker(role: str, url: str) -> list[Finding]:
    """Whether a broker that is not Redis is reached; of RabbitMQ also its release and the workers' queues."""
    masked = mask_url(url)
    try:
        return within(CHECK_S, lambda: _look(role, url, masked))
    except Exception as error:
        return [unreachable(role, masked, error)]


def _look(role: str, url: str, masked: str) -> list[Finding]:
    with Connection(url, connect_timeout=3) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=4)
        if not is_amqp(url):
            return [ok(role, f"{masked}: reached ({connection.transport.driver_type})")]
        properties: Any = connection.connection.server_properties
        product = properties.get("product", "a broker")
        version = str(properties.get("version", "of an unknown version"))
        found = [ok(role, f"{masked}: {product} {version}")]
        if product == "RabbitMQ" and release(version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            found = [wrong(role, f"{masked}: RabbitMQ {version}", f"at least {oldest} is needed")]
        return [*found, *_look_at_queues(role, connection)]


def _look_at_queues(role: str, connection: Any) -> list[Finding]:
    try:
        names = our_queues()
    except ConfigurationError:
        return []  # another check reports a wrong namespace
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
        waiting = within(CHECK_S, lambda: _without_a_worker(broker_url, names))
    except Exception:
        return []  # another check reports a broker in trouble
    return [
        warning(
            f"queue {name}", f"{number} messages wait, and no worker listens to it", f"start one: {_worker_of(name)}"
        )
        for name, number in waiting.items()
    ]


def _without_a_worker(broker_url: str, names: Sequence[str]) -> dict[str, int]:
    with Celery("celery_runpod_doctor", set_as_current=False) as app:
        app.conf.update(celery_urls(broker_url, "disabled://"))
        waiting, served = {}, set()
        with app.connection_for_read(connect_timeout=3) as connection:
            for name in names:
                try:
                    there = connection.channel().queue_declare(queue=name, passive=True)
                except ChannelError:
                    continue  # no such queue, so nothing waits in it
                if there.message_count:
                    waiting[name] = int(there.message_count)
                if there.consumer_count:  # RabbitMQ knows it; Redis does not
                    served.add(name)
        if waiting.keys() - served:
            # Workers of every app on this broker answer.
            answers = app.control.inspect(timeout=INSPECT_S).active_queues() or {}
            served |= {queue["name"] for queues in answers.values() for queue in queues}
        return {name: number for name, number in waiting.items() if name not in served}


def _worker_of(queue: str) -> str:
    """The command of the worker that listens to a queue."""
    try:
        if queue in Queues.of(client_settings().namespace).all():
            return "celery-runpod worker"
    except ConfigurationError:
        pass  # another check reports a wrong namespace
    return f"your own Celery worker for it (celery -A your_project worker -Q {queue})"
