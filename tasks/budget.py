"""How many calls of each RunPod operation an endpoint may have; one budget, shared by every worker process.

The `limits` library counts, in the store's Redis. Pauses after a 429, or while the API is down, are in the store
(`store.pauses.pause`), also for each endpoint and operation: a 429 on /run does not stop polling.
"""

from __future__ import annotations

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from celery_runpod._connect import STORE, RedisClient, connect, redis_url
from celery_runpod._redis_urls import has_replicas

WINDOW_S = 10
# docs.runpod.io/serverless/endpoints/operation-reference: base limits per endpoint in 10 s
PER_WINDOW = {"run": 1000, "runsync": 2000, "status": 2000, "stream": 2000, "cancel": 100, "purge-queue": 2}
SPARED = 20
"""One in this many calls of a window is reserved for urgent calls (`take` without `spare`)."""


class StorageOfClient(RedisStorage):
    """The library's counts in Redis, through our own client: its own for clusters and Sentinels connect when they are
    made, and do not wait for a replica that is promoted. The keys of one budget share a hash tag."""

    def __init__(self, client: RedisClient, key_prefix: str) -> None:
        self.storage, self.key_prefix, self.target_server = client, key_prefix, "redis"  # type: ignore[assignment]
        self.initialize_storage("")
        super(RedisStorage, self).__init__("", wrap_exceptions=False)


class Budget:
    """How many calls may be made now.

    Raises:
        redis.exceptions.RedisError: the store is away.
    """

    def __init__(self, storage: Storage, namespace: str) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage)  # type: ignore[arg-type]
        self._namespace = namespace

    @classmethod
    def on(cls, url: str, namespace: str) -> Budget:
        if has_replicas(url):
            return cls(StorageOfClient(connect(url, STORE), f"{namespace}:limits"), namespace)
        url = redis_url(url)
        if url.startswith("unix://"):
            url = f"redis+{url}"  # as the library names a socket
        storage = storage_from_string(url, key_prefix=f"{namespace}:limits", wrap_exceptions=False)
        return cls(storage, namespace)  # type: ignore[arg-type]

    def take(self, endpoint: str, operation: str, wanted: int, *, spare: bool = False) -> int:
        """How many of the wanted calls are granted; they count from now. With `spare`, a request for several leaves the
        reserved calls."""
        item = RateLimitItemPerSecond(PER_WINDOW[operation], WINDOW_S)
        names = (self._namespace, endpoint, operation)
        if wanted > 1:
            free = self._limiter.get_window_stats(item, *names).remaining
            least = 1
            if spare:
                free, least = free - PER_WINDOW[operation] // SPARED, 0
            wanted = min(wanted, max(least, free))
        return wanted if wanted and self._limiter.hit(item, *names, cost=wanted) else 0
