"""The copies of calls that were published and that no worker has accepted yet.

Not here: who keeps a copy (`celery_runpod/_publish/keep_copies.py`), who publishes a lost call again
(`celery_app/watchdog/lost_calls.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import loads

from celery_runpod._call_rules import unfolded
from celery_runpod._store.part import Part


@dataclass(frozen=True)
class Kept:
    """A call in the outbox: when its message was published, when it was last known to be in its queue, where it went."""

    task_id: str
    issued_at: float
    last_seen: float
    exchange: str
    routing_key: str
    priority: int | None


class KeptCalls(Part):
    """The copies, and where each call went."""

    def keep_message(self, task_id: str, issued_at: float, place: str, text: str) -> None:
        """Keep a copy of a message, and where it went, until a worker has accepted it; nothing where one has already."""
        self.scripts.run("keep_message", task_id=task_id, published_at=issued_at, place=place, text=text)

    def drop_message(self, task_id: str) -> None:
        """The call needs no copy any more: a worker has accepted it, or it has ended."""
        self.scripts.together(lambda pipe: self.put_drop(pipe, task_id))

    def put_drop(self, pipe: Any, task_id: str) -> None:
        """The same, on a pipeline."""
        pipe.zrem(self.keys.outbox(), task_id)
        pipe.hdel(self.keys.outbox_messages(), task_id)
        pipe.hdel(self.keys.outbox_places(), task_id)
        pipe.zrem(self.keys.outbox_waiting(), task_id)

    def kept_calls(self, endpoint: str | None = None) -> list[str]:
        """Task ids of the calls that no worker has accepted yet; of one endpoint, as its callers name it."""
        ids: Any = self.redis.zrange(self.keys.outbox(), 0, -1)
        return list(ids) if endpoint is None else [one for one in ids if self._called(one) == endpoint]

    def count_kept_calls(self, before: float) -> int:
        """How many calls no worker has accepted yet, of those published before this time (s since 1970)."""
        found: Any = self.redis.zcount(self.keys.outbox(), "-inf", before)
        return int(found)

    def _called(self, task_id: str) -> str | None:
        raw: Any = self.redis.hget(self.keys.outbox_messages(), task_id)
        found: Any = None if raw is None else unfolded(json.loads(raw)["body"][1]).get("endpoint")
        return found if isinstance(found, str) else None

    def published_at(self, task_id: str) -> float | None:
        """When a call was published that no worker has accepted yet (s since 1970); None if it is not such a call."""
        found: Any = self.redis.zscore(self.keys.outbox(), task_id)
        return None if found is None else float(found)

    def kept_messages(self, until: float, most: int) -> list[Kept]:
        """The oldest calls published before `until`."""
        found: Any = self.redis.zrangebyscore(self.keys.outbox(), "-inf", until, start=0, num=most, withscores=True)
        if not found:
            return []
        ids = [task_id for task_id, _ in found]
        places: Any = self.redis.hmget(self.keys.outbox_places(), ids)
        seen: Any = self.redis.zmscore(self.keys.outbox_waiting(), ids)
        rows = zip(found, places, seen, strict=True)
        return [
            Kept(task_id, at, max(at, last or 0.0), **json.loads(place)) for (task_id, at), place, last in rows if place
        ]

    def copy_of_message(self, task_id: str) -> dict[str, Any] | None:
        """`body`, `headers` and `properties` of a kept message."""
        text: Any = self.redis.hget(self.keys.outbox_messages(), task_id)
        return None if text is None else dict(loads(text))

    def note_in_queue(self, task_ids: list[str], now: float) -> None:
        """These calls' messages are in their queue now."""
        if task_ids:
            self.scripts.run("note_in_queue", now=now, task_ids=task_ids)
