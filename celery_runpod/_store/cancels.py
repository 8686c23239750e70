"""Cancels: the decision for many jobs at once, and the cancels that RunPod has not confirmed yet.

Not here: what a decision is (`scripts/request_cancel.lua`), and who sends it to RunPod (`tasks/outstanding.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from celery_runpod._store.upkeep import Upkeep

BATCH = 1000


class Cancels(Upkeep):
    """The part of the store that is about cancels."""

    # The decision

    def places(self, task_ids: Iterable[str]) -> dict[str, list[str]]:
        """The jobs among these ids, by their endpoint."""
        ids = list(dict.fromkeys(task_ids))
        found: dict[str, list[str]] = {}
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            places: Any = self.redis.mget([self.keys.task(task_id) for task_id in some])
            for task_id, place in zip(some, places, strict=True):
                if place and (endpoint := json.loads(place).get("endpoint")):
                    found.setdefault(endpoint, []).append(task_id)
        return found

    def states(self, endpoint: str, task_ids: Iterable[str]) -> dict[str, str]:
        """The states of the records among these ids."""
        ids = list(task_ids)
        states: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with self.redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hget(self.keys.job(endpoint, task_id), "state")
                states |= {task_id: state for task_id, state in zip(some, pipe.execute(), strict=True) if state}
        return states

    def request_cancels(
        self, endpoint: str, task_ids: list[str], outcome: Mapping[str, Any], now: float, deliver_again_at: float
    ) -> list[str]:
        """Decide on the cancels of these jobs in one round trip; answers the ids of those that were open."""
        with self.redis.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                args = (task_id, json.dumps(outcome), now, deliver_again_at)
                self._run("request_cancel", self._ending_keys(endpoint, task_id), *args, on=pipe)
            words = pipe.execute()
        return [task_id for task_id, word in zip(task_ids, words, strict=True) if word == "cancelled"]

    # Cancels that RunPod has not confirmed

    def cancels_due(self, endpoint: str, now: float, most: int) -> int:
        """How many cancels are due at RunPod, at most `most`; 0 while they are put off."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcount(self.keys.cancels(endpoint), "-inf", now)
            pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
            due, until = pipe.execute()
        return 0 if until and float(until) > now else min(int(due), most)

    def put_off_cancels(self, endpoint: str, until: float, keep_s: int = 600) -> None:
        """Send no cancel of this endpoint to RunPod until then, however many are due."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hset(self.keys.pause(endpoint, "cancel"), "until", repr(until))
            pipe.expire(self.keys.pause(endpoint, "cancel"), keep_s)
            pipe.execute()

    def lease_cancels(self, endpoint: str, now: float, again_at: float, batch: int) -> list[tuple[str, str]]:
        """(RunPod job id, name of the API key) of the jobs to cancel now."""
        keys = [self.keys.cancels(endpoint), self.keys.cancel_keys(endpoint)]
        flat = self._run("lease_cancels", keys, now, again_at, batch)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def cancel_failed(
        self, endpoint: str, job_id: str, why: str, now: float, *, base_s: float, cap_s: float, most_s: float
    ) -> tuple[str, int, float]:
        """("later" | "given_up" | "unknown", how often it has failed, since when); the wait doubles with each failure."""
        keys = [
            self.keys.cancels(endpoint),
            self.keys.cancel_keys(endpoint),
            self.keys.cancel_refusals(endpoint),
        ]
        word, *rest = self._run("cancel_failed", keys, job_id, why, now, base_s, cap_s, most_s)
        return word, int(rest[0]) if rest else 0, float(rest[1]) if rest else now

    def settle_cancel(self, endpoint: str, job_id: str) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.cancels(endpoint), job_id)
            pipe.hdel(self.keys.cancel_keys(endpoint), job_id)
            pipe.hdel(self.keys.cancel_refusals(endpoint), job_id)
            pipe.execute()
