"""What no worker can run or read, kept where an operator sees it: `celery-runpod jobs --aside`, and `doctor`.

A message is kept as it came, in a list that is bounded: the oldest makes room. A record stays where it is and leaves the
orders of its endpoint, so that it costs nothing; there are never more of those than jobs. A worker that can read it takes
it back, as after a rolling upgrade.

Not here: which message is put aside (`celery_app/overrides/poison.py`, `celery_app/overrides/broken_envelopes.py`), what
the command shows (`celery_runpod/_cli/aside_command.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kombu.utils.json import dumps, loads

from celery_runpod._store.endpoint_index import EndpointIndex
from celery_runpod._store.heartbeats import Heartbeats
from celery_runpod._store.record import JobRecord
from celery_runpod._store.store_part import Part

log = logging.getLogger(__name__)

MOST_MESSAGES = 1000
MOST_BYTES = 32_000_000
MOST_BODY = 1_000_000
"""Characters of one message's body. Of a longer one the beginning is kept, for an operator to look at."""
MOST_WHY = 500
LOOK_AGAIN_S = 60
BATCH = 500


@dataclass(frozen=True)
class AsideMessage:
    """A message as it came. `body` is its text, or the raw text of its envelope where that cannot be read (`readable` is
    False): then it cannot be released. `size` is that of the whole body, in characters."""

    id: str
    name: str
    endpoint: str
    queue: str
    since: float
    why: str
    size: int
    body: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    readable: bool = True

    @property
    def whole(self) -> bool:
        """Whether the whole body was kept."""
        return len(self.body) == self.size


@dataclass(frozen=True)
class AsideRecord:
    """A record that a worker could not read. `fields` is its hash as it is in Redis."""

    endpoint: str
    task_id: str
    since: float
    why: str
    fields: Mapping[str, str]

    @property
    def size(self) -> int:
        return sum(len(value) for value in self.fields.values())


@dataclass(eq=False)
class Aside(Part):
    """Messages and records that were put aside."""

    workers: Heartbeats
    endpoints: EndpointIndex

    def put_message_aside(self, message: AsideMessage) -> None:
        """Keep a message; the oldest is dropped where there are too many."""
        kept = {**asdict(message), "body": message.body[:MOST_BODY], "why": message.why[:MOST_WHY]}
        dropped = self.scripts.run(
            "put_message_aside",
            entry=message.id,
            now=message.since,
            # By kombu, as it was read: a header may be a UUID or a datetime.
            text=dumps(kept),
            most_entries=MOST_MESSAGES,
            most_bytes=MOST_BYTES,
        )
        for entry in dropped:
            log.critical("aside.dropped: too much was put aside", extra={"entry": entry, "most": MOST_MESSAGES})

    def messages_aside(self) -> list[AsideMessage]:
        """The oldest first."""
        listed = self.scanned(self.keys.aside_messages())
        texts: list[str | None] = []
        ids = sorted(listed, key=lambda entry: (listed[entry], entry))
        for start in range(0, len(ids), BATCH):
            found: Any = self.redis.hmget(self.keys.aside_entries(), ids[start : start + BATCH])
            texts += found
        return [AsideMessage(**loads(text)) for text in texts if text]

    def take_message(self, entry: str) -> bool:
        """Remove a message; False where it is gone already."""
        return self.scripts.word("take_message", entry=entry) == "taken"

    def read_or_put_aside(self, endpoint: str, task_id: str, raw: Mapping[str, str]) -> JobRecord | None:
        """The record in a hash. One that cannot be read is put aside, and is None like one that is not open."""
        try:
            return JobRecord.from_fields(endpoint, task_id, raw)
        except Exception as error:
            # A record of another version may be wrong in any way, and must not stop its neighbours.
            why = f"{type(error).__name__}: {error}"[:MOST_WHY]
        if "aside_why" not in raw:
            log.critical("record.put_aside: it cannot be read", extra={"task_id": task_id, "why": why})
        # Callers that read records do not pass the time, and this is rare.
        now = self.workers.server_time()
        self.scripts.run("put_record_aside", endpoint=endpoint, task_id=task_id, now=now, why=why)
        return None

    def records_aside(self) -> Iterator[AsideRecord]:
        for endpoint in self.endpoints.all():
            found = sorted(self.scanned(self.keys.aside(endpoint)).items(), key=lambda one: (one[1], one[0]))
            for task_id, since in found:
                raw: Any = self.redis.hgetall(self.keys.job(endpoint, task_id))
                yield AsideRecord(endpoint, task_id, since, raw.get("aside_why", "the record is gone"), raw)

    def take_back_readable(self, endpoint: str, now: float) -> list[str]:
        """Take back the records that this version can read, once a minute in all workers; answers their task ids."""
        if not self.redis.set(self.keys.aside_looked(endpoint), repr(now), nx=True, ex=LOOK_AGAIN_S):
            return []
        taken = []
        ids: Any = self.redis.zrange(self.keys.aside(endpoint), 0, BATCH - 1)
        for task_id in ids:
            raw: Any = self.redis.hgetall(self.keys.job(endpoint, task_id))
            try:
                readable = not raw or JobRecord.from_fields(endpoint, task_id, raw) is not None
            except Exception as error:
                log.error("record.still_aside", extra={"task_id": task_id, "error": f"{type(error).__name__}: {error}"})
                # The least recently tried goes first, so that none is left out.
                self.redis.zadd(self.keys.aside(endpoint), {task_id: now}, xx=True)
                continue
            if readable and self.take_record_back(endpoint, task_id, now):
                log.warning("record.taken_back", extra={"task_id": task_id})
                taken.append(task_id)
        return taken

    def take_record_back(self, endpoint: str, task_id: str, now: float) -> bool:
        """Make a record due again; False where it is not put aside."""
        taken = self.scripts.word("take_record_back", endpoint=endpoint, task_id=task_id, now=now) == "back"
        if taken:
            self.endpoints.note_due(endpoint, now)
        return taken

    def drop_record(self, endpoint: str, task_id: str, now: float) -> bool:
        """Remove a record that was put aside; its job at RunPod is to be cancelled."""
        return self.scripts.word("drop_record", endpoint=endpoint, task_id=task_id, now=now) == "dropped"

    def count_aside(self) -> tuple[int, int]:
        """How many messages and how many records were put aside, because no worker could run or read them."""
        endpoints = self.endpoints.all()
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.keys.aside_messages())
            for endpoint in endpoints:
                pipe.zcard(self.keys.aside(endpoint))
            messages, *records = pipe.execute()
        return messages, sum(records)
