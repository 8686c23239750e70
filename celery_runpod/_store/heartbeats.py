"""What the workers note of themselves: who is up, and which Redis process they know.

Not here: what follows when the store was restored to an older state (`celery_app/watchdog/restored_store.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from celery_runpod._cluster import ClusterRedis, ask_which_server
from celery_runpod._store.store_part import Part


@dataclass(frozen=True)
class Incarnation:
    """`settled`: the workers know this Redis process. Calls begun until `fence` (s since 1970, 0: none) may have
    been submitted in a time that the store has lost."""

    settled: bool
    fence: float


class Heartbeats(Part):
    """The notes of all workers of a namespace."""

    def heartbeat(self, hostname: str, now: float, fresh_s: float) -> None:
        """Refresh this worker's heartbeat; `fresh_s=0` removes it. Callers read it to report NO_WORKER."""
        with self.redis.pipeline(transaction=False) as pipe:
            if fresh_s:
                pipe.zadd(self.keys.workers(), {hostname: now + fresh_s})
            else:
                pipe.zrem(self.keys.workers(), hostname)
            pipe.zremrangebyscore(self.keys.workers(), "-inf", now - 3600)
            pipe.execute()

    def worker_up(self, now: float) -> bool:
        """Whether any RunPod worker's heartbeat is fresh."""
        return bool(self.redis.zcount(self.keys.workers(), now, "+inf"))

    def masters(self) -> list[str]:
        """The marks of the masters of a cluster; [""] for one Redis."""
        return self.redis.marks() if isinstance(self.redis, ClusterRedis) else [""]

    def master_of(self, endpoint: str) -> str:
        """The mark of the master that holds an endpoint's records; "" for one Redis."""
        return self.redis.mark_of(self.keys.due(endpoint)) if isinstance(self.redis, ClusterRedis) else ""

    def beat(
        self,
        now: float,
        remembered: float | None,
        lost_s: float,
        grace_s: float,
        master: str = "",
        known: str = "",
    ) -> tuple[str, str]:
        """ "ok" | "restarted" | "went_back": whether this Redis process, of this master of a cluster, holds what the
        workers remember; and which life of the store that is. ("unknown", "") where INFO is forbidden, as some services
        do. `known` is the life that this worker knew last."""
        server = self.redis_process(master)
        if server is None:
            return "unknown", ""
        word, life = self.scripts.run(
            "beat",
            master=master,
            run_id=server,
            now=now,
            remembered=remembered,
            lost=lost_s,
            grace=grace_s,
            known=known,
        )
        return str(word), str(life)

    def renew_leader(self, token: str, keep_s: int) -> bool:
        """Whether the worker with this token heals for the next `keep_s` seconds; one does at a time."""
        return self.scripts.word("renew_leader", token=token, ttl=keep_s * 1000) == "mine"

    def redis_process(self, master: str = "") -> str | None:
        """Which Redis process answers: another one after each start. None where INFO is forbidden."""
        with self.redis.pipeline(transaction=False) as pipe:
            ask_which_server(pipe, self.keys.incarnation(master))
            [found] = pipe.execute(raise_on_error=False)
        if isinstance(found, RedisError) and not isinstance(found, ResponseError):
            raise found
        return run_id_of(found)

    def server_time(self) -> float:
        """Seconds since 1970 by Redis' own clock."""
        seconds, micros = self.redis.time()  # type: ignore[misc]
        return int(seconds) + int(micros) / 1e6

    def identity(self, mine: str) -> str:
        """What the namespace was begun with; what is given, if it begins now."""
        self.redis.set(self.keys.identity(), mine, nx=True)
        found: Any = self.redis.get(self.keys.identity())
        return str(found)


def run_id_of(info: Any) -> str | None:
    """Which Redis process answered, from the answer to INFO; None where that was refused."""
    return None if isinstance(info, ResponseError) else str(info.get("run_id", "")) or None
