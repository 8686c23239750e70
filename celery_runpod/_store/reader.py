"""Key names in the store, and what a client process may read or leave there.

Redis holds one hash a job and a few indexes (`docs/path-of-a-job.md`, "What is in Redis"). The worker changes records
through scripts alone (``store.py``); a client reads them, and leaves two notes: a wish to cancel, and a webhook's
hint that a job has ended (``hint.lua``).

Not here: any transition of a job.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from celery import Celery
from redis import Redis
from redis.commands.core import Script

from celery_runpod._connect import READ, client_settings, connect, store_url
from celery_runpod._protocol import DAY_S, EVERY_ENDPOINT, FORMAT, Scope

CANCEL_NOTE_S = int(DAY_S)

HINT = (Path(__file__).with_name("scripts") / "hint.lua").read_text()
MOST_CANDIDATES = 5
"""So many RunPod ids may be named for one attempt: whoever has the URL may name a wrong one first."""
CANDIDATES_S = int(DAY_S)
HINT_EVERY_S = 5.0
"""Between two hints that make one job due, in seconds."""

_KEEP_MESSAGE = """--[[ keep_message: a call was published, and no worker has accepted it yet.
  KEYS  index of the task id; outbox zset (score: published at, s); hash of messages; hash of places
  ARGV  task_id  published at (s)  place (JSON)  message (JSON)
  Returns "kept" | "accepted" (a worker has it: nothing is written)
  A worker writes the index before it drops the copy, so none is left over. ]]
local known = redis.call('GET', KEYS[1])
if known and cjson.decode(known).endpoint ~= cjson.null then return 'accepted' end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 'kept'
"""
"""The script that a caller runs when it publishes: a caller has the wheel alone, without the worker's scripts."""


@dataclass(frozen=True)
class Keys:
    """Every key of one namespace. Keys of one endpoint share a hash tag, so that a script may use them together."""

    namespace: str

    def job(self, endpoint: str, task_id: str) -> str:
        return f"{self._tag(endpoint)}:job:{task_id}"

    def due(self, endpoint: str) -> str:
        """zset: task id -> when to look at it again."""
        return f"{self._tag(endpoint)}:due"

    def undelivered(self, endpoint: str) -> str:
        """zset: task id -> when to publish `runpod.finish` again."""
        return f"{self._tag(endpoint)}:undelivered"

    def cancels(self, endpoint: str) -> str:
        """zset: RunPod job id -> when to POST /cancel again."""
        return f"{self._tag(endpoint)}:cancels"

    def cancel_keys(self, endpoint: str) -> str:
        """hash: RunPod job id -> the name of the API key that its cancel needs."""
        return f"{self._tag(endpoint)}:cancel_keys"

    def inflight(self, endpoint: str) -> str:
        """set: task ids that RunPod may be working on."""
        return f"{self._tag(endpoint)}:inflight"

    def waiting(self, endpoint: str) -> str:
        """zset: task ids that wait for a place of `max_in_flight`, or for the gate, the oldest call first."""
        return f"{self._tag(endpoint)}:waiting"

    def posts(self, endpoint: str) -> str:
        """zset: each POST of a new job that is under way -> from when on it is late."""
        return f"{self._tag(endpoint)}:posts"

    def post_times(self, endpoint: str, operation: str) -> str:
        """list: how long the latest answered POSTs of an operation took."""
        return f"{self._tag(endpoint)}:post_times:{operation}"

    def shared(self, endpoint: str, key_hash: str) -> str:
        """hash: the job that the calls with an idempotency key share, and the hash of its input."""
        return f"{self._tag(endpoint)}:key:{key_hash}"

    def waiters(self, endpoint: str, shared_id: str) -> str:
        """set: the task ids of the calls that wait for a shared job."""
        return f"{self._tag(endpoint)}:waiters:{shared_id}"

    def cancel_refusals(self, endpoint: str) -> str:
        """hash: RunPod job id -> JSON: since when its cancel fails, how often it was tried, and why."""
        return f"{self._tag(endpoint)}:cancel_refusals"

    def next_check_at(self, endpoint: str) -> str:
        return f"{self._tag(endpoint)}:next_check_at"

    def checks(self, endpoint: str) -> str:
        """zset: token of a live check -> when it is given up."""
        return f"{self._tag(endpoint)}:checks"

    def pause(self, endpoint: str, operation: str) -> str:
        """hash: until when an operation is paused; that of "run" is the gate of all submits (``gate.lua``)."""
        return f"{self._tag(endpoint)}:pause:{operation}"

    def candidates(self, endpoint: str, task_id: str, attempt: int) -> str:
        """set: RunPod's job ids that webhooks named for an attempt whose submit went unanswered."""
        return f"{self._tag(endpoint)}:candidates:{task_id}:{attempt}"

    def by_job_id(self, endpoint: str, job_id: str) -> str:
        """index: RunPod's job id -> the task id of the record, or tombstone, that has or had it."""
        return f"{self._tag(endpoint)}:by_job_id:{job_id}"

    def failed(self, endpoint: str, task_id: str) -> str:
        """hash: input and continuation of a job that failed, for a retry by hand; expires."""
        return f"{self._tag(endpoint)}:failed:{task_id}"

    def purged(self, endpoint: str) -> str:
        """When the endpoint's queue at RunPod was purged by us last, in seconds since the epoch."""
        return f"{self._tag(endpoint)}:purged"

    def brake(self) -> str:
        """hash: RunPod's endpoint id, or "*" for all -> since when (s) nothing is submitted, by hand. Never expires."""
        return f"{self.namespace}:brake"

    def input_bytes(self, endpoint: str) -> str:
        """The bytes of input that the open records of this endpoint hold."""
        return f"{self._tag(endpoint)}:input_bytes"

    def totals(self) -> str:
        """hash: jobs and input_bytes of the open records of all endpoints, as the leader counted them last; the
        workers' bounds most_jobs and most_input_bytes."""
        return f"{self.namespace}:totals"

    def health(self, endpoint: str) -> str:
        """hash: why jobs wait by the last look at RunPod's /health, and when the next one may be made."""
        return f"{self._tag(endpoint)}:health"

    def aside(self, endpoint: str) -> str:
        """zset: task id of a record that no worker could read -> since when, or when it was tried last."""
        return f"{self._tag(endpoint)}:aside"

    def aside_looked(self, endpoint: str) -> str:
        """While it exists, the records that were put aside are not tried again."""
        return f"{self._tag(endpoint)}:aside_looked"

    def troubles(self, task_id: str) -> str:
        """How often the task of this id met an error of an unknown kind; expires."""
        return f"{self.namespace}:troubles:{task_id}"

    def aside_messages(self) -> str:
        """zset: entry of a message that no worker could run -> since when."""
        return f"{self.namespace}:aside:messages"

    def aside_entries(self) -> str:
        """hash: entry -> JSON of that message."""
        return f"{self.namespace}:aside:entries"

    def aside_bytes(self) -> str:
        """The size of all entries."""
        return f"{self.namespace}:aside:bytes"

    def task(self, task_id: str) -> str:
        """index: JSON of `{"endpoint", "root"}`; endpoint is None for a step that is no job (yet)."""
        return f"{self.namespace}:task:{task_id}"

    def root(self, root_id: str) -> str:
        """index, set: the task ids under a root task or a group."""
        return f"{self.namespace}:root:{root_id}"

    def endpoints(self) -> str:
        """index, set: endpoints that have, or had, jobs."""
        return f"{self.namespace}:endpoints"

    def cancel_note(self, any_id: str) -> str:
        """one of `contract.Scope`: this id, and so much else, is not wanted."""
        return f"{self.namespace}:cancel:{any_id}"

    def cancel_wishes(self) -> str:
        """zset: "job:" or "tree:" and an id -> since when its cancel is wished and not carried out."""
        return f"{self.namespace}:cancel_wishes"

    def cancel_repeats(self) -> str:
        """hash: a member of `cancel_wishes` -> how often its cancel was published again."""
        return f"{self.namespace}:cancel_repeats"

    def outbox(self) -> str:
        """zset: task id of a message that no worker has accepted yet -> when it was published."""
        return f"{self.namespace}:outbox"

    def outbox_messages(self) -> str:
        """hash: task id -> a copy of that message."""
        return f"{self.namespace}:outbox:messages"

    def outbox_places(self) -> str:
        """hash: task id -> JSON of the message's exchange, routing key and priority."""
        return f"{self.namespace}:outbox:places"

    def outbox_waiting(self) -> str:
        """zset: task id -> when its message was last known to be in its queue."""
        return f"{self.namespace}:outbox:waiting"

    def agreement(self) -> str:
        """JSON of the token by which callers find out whether they share this store (`agreement.py`)."""
        return f"{self.namespace}:agreement"

    def leader(self) -> str:
        return f"{self.namespace}:leader"

    def epoch(self) -> str:
        """hash: which Redis process was vouched for, the workers' latest beat, and until when calls may be lost."""
        return f"{self.namespace}:epoch"

    def identity(self) -> str:
        """Which broker and result backend this namespace was begun with."""
        return f"{self.namespace}:identity"

    def workers(self) -> str:
        """zset: worker's host name -> when its heartbeat is stale."""
        return f"{self.namespace}:workers"

    def _tag(self, endpoint: str) -> str:
        return f"{{{self.namespace}:{endpoint}}}"


@dataclass(frozen=True)
class Place:
    """Where a task id belongs: its endpoint (None: not a job of ours, or not yet) and the root it hangs under."""

    endpoint: str | None
    root: str


@dataclass(frozen=True)
class Totals:
    """Open jobs and bytes of input of a namespace, and how much of each the workers allow."""

    jobs: int
    input_bytes: int
    most_jobs: int
    most_input_bytes: int


class RecordReader:
    """Reads records and leaves notes, for processes that have the wheel but not the worker's code."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis = redis
        self.keys = Keys(namespace)

    def place(self, task_id: str) -> Place | None:
        raw: Any = self.redis.get(self.keys.task(task_id))
        if raw is None:
            return None
        data = json.loads(raw)
        return Place(endpoint=data.get("endpoint"), root=data["root"])

    def is_job(self, any_id: str) -> bool:
        """Whether this is the id of a call that a worker has taken."""
        place = self.place(any_id)
        return place is not None and place.endpoint is not None

    def job(self, task_id: str) -> dict[str, str] | None:
        """A job's record, or its tombstone, as text fields; None where there is none."""
        place = self.place(task_id)
        if place is None or place.endpoint is None:
            return None
        raw: Any = self.redis.hgetall(self.keys.job(place.endpoint, task_id))
        return {_text(name): _text(value) for name, value in raw.items()} or None

    def members(self, any_id: str) -> set[str]:
        """Task ids of the jobs that were accepted under a root or group id."""
        found: Any = self.redis.smembers(self.keys.root(any_id))
        return {_text(member) for member in found}

    def note_cancel(self, ids: Iterable[str], *, scope: Scope) -> None:
        """Remember for a day that these ids are not wanted, for jobs that are not accepted yet (`contract.Scope`)."""
        with self.redis.pipeline(transaction=False) as pipe:
            self._note_cancel(pipe, ids, scope)
            pipe.execute()

    def _note_cancel(self, pipe: Any, ids: Iterable[str], scope: Scope) -> None:
        for any_id in ids:
            # A narrower note never takes the place of a wider one.
            pipe.set(self.keys.cancel_note(any_id), scope, ex=CANCEL_NOTE_S, nx=scope != "tree")

    def wish_cancel(self, ids: Iterable[str], now: float, *, scope: Scope) -> None:
        """As `note_cancel`, and kept until a worker has carried it out: the message that asks for it may be lost."""
        with self.redis.pipeline(transaction=True) as pipe:
            self._note_cancel(pipe, ids, scope)
            for any_id in ids:
                pipe.zadd(self.keys.cancel_wishes(), {f"{scope}:{any_id}": now})
            pipe.execute()

    def keep_message(self, task_id: str, issued_at: float, place: str, text: str) -> None:
        """Keep a copy of a message, and where it went, until a worker has accepted it; nothing where one has already."""
        keys = self.keys
        names = [keys.task(task_id), keys.outbox(), keys.outbox_messages(), keys.outbox_places()]
        self.redis.register_script(_KEEP_MESSAGE)(keys=names, args=[task_id, issued_at, place, text])

    def drop_message(self, task_id: str) -> None:
        """The call needs no copy any more: a worker has accepted it, or it has ended."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self.keys.outbox(), task_id)
            pipe.hdel(self.keys.outbox_messages(), task_id)
            pipe.hdel(self.keys.outbox_places(), task_id)
            pipe.zrem(self.keys.outbox_waiting(), task_id)
            pipe.execute()

    def kept_calls(self, endpoint: str | None = None) -> list[str]:
        """Task ids of the calls that no worker has accepted yet; of one endpoint, as its callers name it."""
        ids = [_text(one) for one in cast("list[Any]", self.redis.zrange(self.keys.outbox(), 0, -1))]
        return ids if endpoint is None else [one for one in ids if self._called(one) == endpoint]

    def count_kept_calls(self, before: float) -> int:
        """How many calls no worker has accepted yet, of those published before this time (s since the epoch)."""
        found: Any = self.redis.zcount(self.keys.outbox(), "-inf", before)
        return int(found)

    def _called(self, task_id: str) -> str | None:
        raw: Any = self.redis.hget(self.keys.outbox_messages(), task_id)
        found: Any = None if raw is None else json.loads(raw)["body"][1].get("endpoint")
        return found if isinstance(found, str) else None

    def published_at(self, task_id: str) -> float | None:
        """When a call was published that no worker has accepted yet, in seconds since the epoch; None: it is no such."""
        found: Any = self.redis.zscore(self.keys.outbox(), task_id)
        return None if found is None else float(found)

    def hint(self, endpoint: str, task_id: str, attempt: int, now: float, job_id: str = "") -> str:
        """A signed webhook says that an attempt has ended; `job_id` is the id that its body names, if it was read.
        Answers in the words of ``hint.lua``."""
        keys = [
            self.keys.job(endpoint, task_id),
            self.keys.due(endpoint),
            self.keys.candidates(endpoint, task_id, attempt),
            self.keys.next_check_at(endpoint),
        ]
        bounds = (FORMAT, MOST_CANDIDATES, CANDIDATES_S, repr(HINT_EVERY_S))
        word: Any = Script(self.redis, HINT)(keys=keys, args=[task_id, attempt, repr(now), job_id, *bounds])
        return _text(word)

    def count_aside(self) -> tuple[int, int]:
        """How many messages and how many records were put aside, because no worker could run or read them."""
        endpoints: Any = self.redis.smembers(self.keys.endpoints())
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.keys.aside_messages())
            for endpoint in endpoints:
                pipe.zcard(self.keys.aside(_text(endpoint)))
            messages, *records = pipe.execute()
        return messages, sum(records)

    def on_hold(self, endpoint: str) -> float | None:
        """Since when submits to this endpoint are paused by hand, in seconds since the epoch; None: they are not."""
        found: Any = self.redis.hmget(self.keys.brake(), [endpoint, EVERY_ENDPOINT])
        return min((float(since) for since in found if since is not None), default=None)

    def brakes(self) -> dict[str, float]:
        """RunPod's endpoint id, or "*" for all -> since when (s) nothing is submitted there, by hand."""
        found: Any = self.redis.hgetall(self.keys.brake())
        return {_text(endpoint): float(since) for endpoint, since in found.items()}

    def totals(self) -> Totals | None:
        """What the namespace holds, calls that no worker has accepted yet among the jobs, and what it may hold; None
        where no worker has counted yet."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self.keys.totals(), ["jobs", "input_bytes", "most_jobs", "most_input_bytes"])
            pipe.zcard(self.keys.outbox())
            counted, waiting = pipe.execute()
        if None in counted:
            return None
        jobs, input_bytes, most_jobs, most_input_bytes = map(int, counted)
        return Totals(jobs + int(waiting), input_bytes, most_jobs, most_input_bytes)

    def worker_up(self, now: float) -> bool:
        """Whether any RunPod worker's heartbeat is fresh."""
        return bool(self.redis.zcount(self.keys.workers(), now, "+inf"))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def reader_for(app: Celery) -> RecordReader:
    """Reads the store of this process's settings."""
    return RecordReader(_redis(store_url(app), os.getpid()), client_settings().namespace)


@functools.lru_cache(maxsize=16)
def _redis(url: str, pid: int) -> Redis:
    return connect(url, READ)
