"""What kombu and redis-py do anew for each command that the worker sends to Redis, done once.

kombu's Redis transport makes a client for each publish, acknowledgement and event, about eleven for a job, and a client
of redis-py takes 0.16 ms to make. It holds nothing but its connection pool, so a channel can keep it.

redis-py collects the arguments of each checkout of a connection, to warn of those that are deprecated. No checkout has
any, and collecting them took 2 % of a worker's time.
"""

from __future__ import annotations

import inspect
from typing import Any

from kombu.transport.redis import Channel
from redis import ConnectionPool

_make: Any = Channel._create_client


def install() -> None:
    """Change both in this process. Repeating it changes nothing."""
    channels: Any = Channel
    channels._create_client = kept_client
    pools: Any = ConnectionPool
    pools.get_connection = inspect.unwrap(pools.get_connection)


def kept_client(channel: Any, asynchronous: bool = False) -> Any:
    """As kombu's; the client of an event loop has a connection of its own, and is made anew."""
    if asynchronous:
        return _make(channel, asynchronous=True)
    client = getattr(channel, "runpod_client", None)
    # A pool is left behind when its connections are lost, and by a fork.
    if client is None or client.connection_pool is not channel.pool:
        client = channel.runpod_client = _make(channel)
    return client
