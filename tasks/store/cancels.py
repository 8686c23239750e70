"""The cancels that RunPod has not confirmed yet: each is owed until it is settled.

Not here: who decides on a cancel (`scripts/request_cancel.lua`), and who pays (`tasks/debts.py`).

Next: ``store.py``.
"""

from __future__ import annotations

from typing import Any

from tasks.store.upkeep import Upkeep


class Cancels(Upkeep):
    """The part of the store that is about cancels owed."""

    def cancels_due(self, endpoint: str, now: float, most: int) -> int:
        """How many cancels are owed now, at most `most`."""
        found: Any = self.redis.zcount(self.keys.cancels(endpoint), "-inf", now)
        return min(int(found), most)

    def lease_cancels(self, endpoint: str, now: float, again_at: float, batch: int) -> list[tuple[str, str]]:
        """(RunPod job id, name of the API key) of the jobs to cancel now."""
        keys = [self.keys.cancels(endpoint), self.keys.cancel_keys(endpoint)]
        flat = self._run("lease_cancels", keys, now, again_at, batch)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def put_off_cancel(self, endpoint: str, job_id: str, at: float) -> None:
        self.redis.zadd(self.keys.cancels(endpoint), {job_id: at}, xx=True)

    def settle_cancel(self, endpoint: str, job_id: str) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.cancels(endpoint), job_id)
            pipe.hdel(self.keys.cancel_keys(endpoint), job_id)
            pipe.execute()
