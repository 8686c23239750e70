"""One Redis client for each channel of kombu's, instead of one for each command that it sends.

kombu's Redis transport makes a client for each publish, acknowledgement and event, about eleven for a job, and a client
of redis-py takes 0.16 ms to make. It holds nothing but its connection pool, so a channel can keep it.
"""

from __future__ import annotations

from typing import Any

from kombu.transport.redis import Channel

_make: Any = Channel._create_client


def install() -> None:
    """Let the channels of this process keep their clients. Repeating it changes nothing."""
    channels: Any = Channel
    channels._create_client = kept_client


def kept_client(channel: Any, asynchronous: bool = False) -> Any:
    """As kombu's; the client of an event loop has a connection of its own, and is made anew."""
    if asynchronous:
        return _make(channel, asynchronous=True)
    client = getattr(channel, "runpod_client", None)
    # A pool is left behind when its connections are lost, and by a fork.
    if client is None or client.connection_pool is not channel.pool:
        client = channel.runpod_client = _make(channel)
    return client
