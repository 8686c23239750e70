"""How each kind of process reaches Redis: how long it waits, and whether it repeats a command.

CALL      before each call of a web process     2 s to connect, 3 s for an answer; nothing is repeated
READ      what a web process reads and writes   2 s, 5 s; repeated as redis-py does
COMMAND   a command in a terminal               3 s, 4 s; nothing is repeated
STORE     a worker's job store                  3 s, 5 s; repeated for about 12 s: longer than Redis takes to start
                                                again, shorter than any lease. Every script may be repeated
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from celery_runpod.settings import redis_url

CALL: dict[str, Any] = {"socket_connect_timeout": 2.0, "socket_timeout": 3.0, "retry": None}
READ: dict[str, Any] = {"socket_connect_timeout": 2.0, "socket_timeout": 5.0, "health_check_interval": 25}
COMMAND: dict[str, Any] = {
    "socket_connect_timeout": 3.0,
    "socket_timeout": 4.0,
    "retry": None,
    "decode_responses": True,
}
STORE: dict[str, Any] = {
    "socket_connect_timeout": 3.0,
    "socket_timeout": 5.0,
    "health_check_interval": 25,
    "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    "decode_responses": True,
}
STORE_RETRIES = 8


def connect(url: str, patience: dict[str, Any]) -> Redis:
    """A client of the Redis at `url`, which connects with its first command."""
    if patience is STORE:
        # Of its own for each client: redis-py writes into it.
        patience = {**STORE, "retry": Retry(ExponentialWithJitterBackoff(base=0.1, cap=2.5), STORE_RETRIES)}
    found: Redis = Redis.from_url(redis_url(url), **patience)
    return found


def is_redis(broker_url: str) -> bool:
    """Whether kombu's Redis transport carries the messages of a broker."""
    return broker_url.startswith(("redis", "unix", "sentinel"))
