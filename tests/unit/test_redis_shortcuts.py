"""What redis-py does anew for each command is done once in a worker."""

from __future__ import annotations

import fakeredis
from redis import ConnectionPool

from celery_app.overrides import redis_shortcuts


def test_a_checkout_of_a_connection_collects_no_arguments() -> None:
    for _ in range(2):
        redis_shortcuts.install()
    assert not hasattr(ConnectionPool.get_connection, "__wrapped__")
    redis = fakeredis.FakeRedis()
    assert redis.connection_pool.get_connection("PING") is not redis.connection_pool.get_connection()
    assert redis.ping()
