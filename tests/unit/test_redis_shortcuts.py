"""What kombu and redis-py do anew for each command is done once in a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from redis import ConnectionPool

from celery_app.overrides import redis_shortcuts


def test_a_checkout_of_a_connection_collects_no_arguments() -> None:
    for _ in range(2):
        redis_shortcuts.install()
    assert not hasattr(ConnectionPool.get_connection, "__wrapped__")
    redis = fakeredis.FakeRedis()
    assert redis.connection_pool.get_connection("PING") is not redis.connection_pool.get_connection()
    assert redis.ping()


def test_a_channel_keeps_its_client_as_long_as_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(channel: Any, asynchronous: bool = False) -> Any:
        return SimpleNamespace(connection_pool=channel.pool)

    monkeypatch.setattr(redis_shortcuts, "_make", make)
    channel = SimpleNamespace(pool="one")
    first = redis_shortcuts.kept_client(channel)
    assert redis_shortcuts.kept_client(channel) is first
    assert redis_shortcuts.kept_client(channel, asynchronous=True) is not first
    channel.pool = "after a lost connection"
    assert redis_shortcuts.kept_client(channel) is not first
