"""The copies of calls that were published and that no worker has accepted yet.

A copy stands in its lane: where its message went, and with which priority. Redis keeps one list for each, first in, first
out. So what is missing from a list is at the front of its lane, whatever waits in the others.

Not here: who keeps a copy (`celery_runpod/_publish/outbox_copies.py`), who publishes a lost call again
(`celery_app/watchdog/lost_calls.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import loads

from celery_runpod._call_rules import unfolded
from celery_runpod._cluster import ClusterRedis, in_order
from celery_runpod._store.store_part import Part

COPIES_AT_ONCE = 50
"""So many copies are read in one round trip: each may be 10 MB."""


@dataclass(frozen=True)
class Lane:
    """Where messages went that are in one list of the broker. `text` is how the store names it."""

    text: str
    exchange: str
    routing_key: str
    priority: int | None

    @classmethod
    def of(cls, text: str) -> Lane:
        return cls(text, **json.loads(text))


@dataclass(frozen=True)
class Kept:
    """A call in the outbox, and when its message was published (s since 1970)."""

    task_id: str
    issued_at: float


class Outbox(Part):
    """The copies, and where each call went."""

    def keep_message(self, task_id: str, issued_at: float, place: str, text: str) -> None:
        """Keep a copy of a message, and where it went (JSON of exchange, routing key and priority), until a worker has
        accepted it; nothing where one has already."""
        entry = f"{place}\n{_moment(issued_at)}\n{task_id}"

        def build(pipe: Any) -> None:
            self.scripts.run("keep_message", task_id=task_id, published_at=issued_at, entry=entry, text=text, on=pipe)
            # A worker writes the index before it drops the copy: if it is not there now, the worker drops this copy.
            in_order(pipe)
            pipe.get(self.keys.task(task_id))

        _, index = self.scripts.together(build)
        if index and json.loads(index).get("endpoint") is not None:
            self.drop_message(task_id)

    def drop_message(self, task_id: str) -> None:
        """The call needs no copy any more: a worker has accepted it, or it has ended."""
        self.scripts.run("drop_message", task_id=task_id)

    def put_drop(self, pipe: Any, task_id: str) -> None:
        """The same, on a pipeline of `Scripts.together`."""
        self.scripts.run("drop_message", task_id=task_id, on=pipe)

    def put_accepted(self, pipe: Any, task_id: str, now: float) -> None:
        """A worker has accepted the call, on a pipeline. On a cluster the record's master, which is another one than the
        copy's, may fail before a replica has the record: so the copy is kept until `settle_accepted`."""
        if not isinstance(self.redis, ClusterRedis):
            self.put_drop(pipe, task_id)
            return
        self.scripts.run("keep_accepted", task_id=task_id, now=now, on=pipe)

    def accepted(self, task_id: str, now: float) -> None:
        """The same, by itself."""
        self.scripts.together(lambda pipe: self.put_accepted(pipe, task_id, now))

    def accepted_before(self, until: float, most: int) -> dict[str, float]:
        """The calls that were accepted before this time (s since 1970), with their times, whose copies are kept."""
        key = self.keys.outbox_accepted()
        found: Any = self.redis.zrangebyscore(key, "-inf", until, start=0, num=most, withscores=True)
        return dict(found)

    def settle_accepted(self, calls: Mapping[str, float], lost: Collection[str]) -> None:
        """Drop the copies of these calls. Those of the `lost`, whose records are gone, wait for a worker again."""
        entries: Any = self.redis.hmget(self.keys.outbox_places(), list(calls))
        with self.redis.pipeline(transaction=False) as pipe:
            for (task_id, at), entry in zip(calls.items(), entries, strict=True):
                if task_id in lost and entry is not None:
                    pipe.zadd(self.keys.outbox_lanes(), {entry: 0})
                    pipe.zadd(self.keys.outbox(), {task_id: at})
                else:
                    pipe.hdel(self.keys.outbox_messages(), task_id)
                    pipe.hdel(self.keys.outbox_places(), task_id)
                pipe.zrem(self.keys.outbox_accepted(), task_id)
            pipe.execute()

    def calls(self, endpoint: str | None = None) -> list[str]:
        """Task ids of the calls that no worker has accepted yet, the oldest first; of one endpoint, as its callers name
        it."""
        found = self.scanned(self.keys.outbox())
        ids = sorted(found, key=lambda task_id: (found[task_id], task_id))
        return ids if endpoint is None else list(self._of(endpoint, ids))

    def count_calls(self, before: float) -> int:
        """How many calls no worker has accepted yet, of those published before this time (s since 1970)."""
        found: Any = self.redis.zcount(self.keys.outbox(), "-inf", before)
        return int(found)

    def _of(self, endpoint: str, ids: list[str]) -> Iterator[str]:
        for start in range(0, len(ids), COPIES_AT_ONCE):
            some = ids[start : start + COPIES_AT_ONCE]
            copies: Any = self.redis.hmget(self.keys.outbox_messages(), some)
            for task_id, copy in zip(some, copies, strict=True):
                if copy is not None and unfolded(json.loads(copy)["body"][1]).get("endpoint") == endpoint:
                    yield task_id

    def published_at(self, task_id: str) -> float | None:
        """When a call was published that no worker has accepted yet (s since 1970); None if it is not such a call."""
        found: Any = self.redis.zscore(self.keys.outbox(), task_id)
        return None if found is None else float(found)

    def lanes(self) -> list[Lane]:
        """The lanes in which calls are kept."""
        found: list[Lane] = []
        after = "-"
        while entries := self._entries(after, "+", 1):
            found.append(Lane.of(entries[0].partition("\n")[0]))
            after = f"({found[-1].text}\x0b"
        return found

    def oldest(self, lane: Lane, until: float, most: int) -> list[Kept]:
        """The calls of a lane that were published before `until`, the oldest first."""
        entries = self._entries(f"[{lane.text}\n", f"({lane.text}\n{_moment(until)}", most)
        parts = (entry.split("\n") for entry in entries)
        return [Kept(task_id, float(at)) for _, at, task_id in parts]

    def _entries(self, least: str, greatest: str, most: int) -> list[str]:
        found: Any = self.redis.zrangebylex(self.keys.outbox_lanes(), least, greatest, start=0, num=most)
        return list(found)

    def copy_of_message(self, task_id: str) -> dict[str, Any] | None:
        """`body`, `headers` and `properties` of a kept message."""
        text: Any = self.redis.hget(self.keys.outbox_messages(), task_id)
        return None if text is None else dict(loads(text))

    def fronts(self) -> dict[str, list[tuple[float, float]]]:
        """Lane -> (time of a look, when the oldest message of its list had been published), as `note_fronts` wrote it."""
        found: Any = self.redis.hgetall(self.keys.outbox_fronts())
        return {lane: [(at, oldest) for at, oldest in json.loads(text)] for lane, text in found.items()}

    def note_fronts(self, fronts: Mapping[str, list[tuple[float, float]]]) -> None:
        """Replace what the looks have found."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(self.keys.outbox_fronts())
            if fronts:
                pipe.hset(self.keys.outbox_fronts(), mapping={lane: json.dumps(one) for lane, one in fronts.items()})
            pipe.execute()

    def note_held(self, task_ids: list[str], now: float) -> None:
        """Workers hold these calls' messages now."""
        if task_ids:
            self.scripts.run("note_held", now=now, task_ids=task_ids)

    def held_at(self, task_id: str) -> float | None:
        """When a worker was last known to hold this call's message (s since 1970)."""
        found: Any = self.redis.zscore(self.keys.outbox_held(), task_id)
        return None if found is None else float(found)


def _moment(at: float) -> str:
    """A time in seconds since 1970, as a text that sorts like it."""
    return f"{at:020.6f}"
