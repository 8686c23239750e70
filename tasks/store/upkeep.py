"""What the store keeps beside the jobs: pauses of the API, heartbeats of workers, what a namespace was begun with.

Not here: the jobs themselves (``store.py``).

Next: ``store.py``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis

from celery_runpod.records import RecordReader
from tasks.store.states import lua_prelude

_SCRIPTS = Path(__file__).parent / "scripts"


@cache
def script_source(name: str) -> str:
    """The Lua of a transition, with the table of states before it."""
    return lua_prelude() + (_SCRIPTS / f"{name}.lua").read_text()


class Upkeep(RecordReader):
    """Runs the scripts, and keeps the notes that are no job's."""

    def __init__(
        self, redis: Redis, namespace: str, *, tombstone_ttl_s: float = 2 * 86_400.0, key_ttl_s: float = 86_400.0
    ) -> None:
        super().__init__(redis, namespace)
        self.tombstone_ttl_s = int(tombstone_ttl_s)
        self.key_ttl_s = int(key_ttl_s)
        self._scripts = {path.stem: redis.register_script(script_source(path.stem)) for path in _SCRIPTS.glob("*.lua")}

    def _run(self, script: str, keys: list[str], *args: str | float | int) -> Any:
        return self._scripts[script](keys=keys, args=[_arg(arg) for arg in args])

    def _ending_keys(self, endpoint: str, task_id: str) -> list[str]:
        keys = self.keys
        return [
            keys.job(endpoint, task_id),
            keys.due(endpoint),
            keys.undelivered(endpoint),
            keys.inflight(endpoint),
            keys.cancels(endpoint),
            keys.cancel_keys(endpoint),
            keys.waiting(endpoint),
        ]

    # Pauses

    def pause(self, endpoint: str, operation: str, now: float, retry_after_s: float | None, spread: float) -> float:
        """Pause an operation of an endpoint; answers until when."""
        retry_after = "" if retry_after_s is None else retry_after_s
        return float(self._run("pause", [self.keys.pause(endpoint, operation)], now, retry_after, 1.0, 60.0, spread))

    def paused_until(self, endpoint: str, operation: str) -> float | None:
        """Until when, also when that time is past: then the operation works again, unless `unpause` was called."""
        found: Any = self.redis.hget(self.keys.pause(endpoint, operation), "until")
        return None if found is None else float(found)

    def unpause(self, endpoint: str, operation: str) -> None:
        self.redis.delete(self.keys.pause(endpoint, operation))

    # A worker's own notes

    def heartbeat(self, hostname: str, now: float, fresh_s: float) -> None:
        """This worker is up, or with 0 s is not; a caller is told when none is."""
        with self.redis.pipeline(transaction=False) as pipe:
            if fresh_s:
                pipe.zadd(self.keys.workers(), {hostname: now + fresh_s})
            else:
                pipe.zrem(self.keys.workers(), hostname)
            pipe.zremrangebyscore(self.keys.workers(), "-inf", now - 3600)
            pipe.execute()

    def server_time(self) -> tuple[int, int]:
        """Redis' own clock: seconds and microseconds."""
        found: Any = self.redis.time()
        return int(found[0]), int(found[1])

    def identity(self, mine: str) -> str:
        """What the namespace was begun with; what is given, if it begins now."""
        self.redis.set(self.keys.identity(), mine, nx=True)
        found: Any = self.redis.get(self.keys.identity())
        return str(found)


def _arg(arg: str | float | int) -> str | int:
    return repr(arg) if isinstance(arg, float) else arg
