"""Finds calls whose message was lost before any worker had accepted it, and publishes their copy.

A message is missing if it is neither held by a worker nor in its queue. A queue is first in, first out, so the message is
not in it if the queue is empty, or if its oldest message was published later. A message that is missing at two looks is
published again, with doubling pauses. The first copy that arrives is accepted; the others change nothing.

On a cluster a call that was accepted is looked at once more: its record may be lost with its master.

A queue that was purged looks the same as a Redis that lost it, so its calls are published again too. To get rid of them,
cancel them (`celery-runpod purge --calls`, docs/decisions/0015).

A call that was missing for longer than the unconfirmed window is not submitted: a store that was restored from an old
snapshot holds copies of calls that were paid for long ago. It ends with SubmissionUnconfirmed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from celery_runpod._protocol import ISSUED_AT, LOST, REPUBLISHED, UNCONFIRMED
from celery_runpod._store.kept_calls import Kept
from tasks.services import Services

log = logging.getLogger(__name__)

YOUNG_S = 3.0
"""A younger call is not looked for: most are accepted within milliseconds."""
CONFIRM_S = 1.0
"""The time between the two looks. A message is nowhere for an instant, between its queue and the record of its holder."""
AGAIN_S, AGAIN_CAP_S = 10.0, 600.0
MOST = 500
MANY = 8
PURGE = "if the queue was purged on purpose, cancel its calls: celery-runpod purge --calls"
"""A Redis that lost its data looks the same as a queue that was purged (docs/decisions/0015)."""


@dataclass
class Missing:
    """A message that was not found: since when, and when its copy may be published."""

    since: float
    times: int = 0
    next_at: float = 0.0


class OutboxWatch:
    """One for each worker's watchdog: it remembers what was missing at the last look."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._missing: dict[str, Missing] = {}

    def look(self) -> list[str]:
        """Publish the copies of lost calls; returns their task ids."""
        now = self._services.clock()
        if again := self._services.store.settle_accepted(now - YOUNG_S):
            log.warning("outbox.accepted_in_vain: a master failed before a replica had them", extra={"task_ids": again})
        kept = self._services.store.outbox.kept_messages(now - YOUNG_S, MOST)
        self._missing = {one.task_id: self._missing[one.task_id] for one in kept if one.task_id in self._missing}
        if not kept:
            return []
        published, waiting = [], []
        with self._services.app.connection_for_read() as connection:
            queues = Queues(connection.default_channel)
            for one in kept:
                if not queues.is_missing(one):
                    self._missing.pop(one.task_id, None)
                    waiting.append(one.task_id)
                elif self._is_lost(one.task_id, now):
                    self._publish(connection, one, now)
                    published.append(one.task_id)
        self._services.store.outbox.note_in_queue(waiting, now)
        if len(published) >= MANY:
            log.warning("outbox.many_published_again", extra={"calls": len(published), "hint": PURGE})
        return published

    def _is_lost(self, task_id: str, now: float) -> bool:
        missing = self._missing.setdefault(task_id, Missing(now))
        if now - missing.since < CONFIRM_S or now < missing.next_at:
            return False
        missing.next_at = now + min(AGAIN_S * 2**missing.times, AGAIN_CAP_S)
        missing.times += 1
        return True

    def _publish(self, connection: Any, one: Kept, now: float) -> None:
        copy = self._services.store.outbox.copy_of_message(one.task_id)
        if copy is None:
            return  # accepted meanwhile
        missing_s = now - one.last_seen
        why = LOST if missing_s <= self._services.settings.unconfirmed_window_s else UNCONFIRMED
        log.warning("outbox.published_again", extra={"task_id": one.task_id, "missing_s": missing_s, "why": why})
        properties = {name: value for name, value in copy["properties"].items() if name not in NOT_REPEATED}
        connection.Producer(serializer="json").publish(
            copy["body"],
            exchange=one.exchange,
            routing_key=one.routing_key,
            headers={**copy["headers"], REPUBLISHED: why},
            retry=False,
            **properties,
        )


NOT_REPEATED = frozenset({"delivery_tag", "delivery_info", "body_encoding", "delivery_mode"})
"""Properties that the transport sets itself."""


class Queues:
    """What is in the lists of kombu's Redis transport; each list is read once."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._oldest: dict[str, Any] = {}
        self._held: list[bytes] | None = None

    def is_missing(self, one: Kept) -> bool:
        """Whether a message is neither in its queue nor held by a worker."""
        priority = self._channel._get_message_priority({"properties": {"priority": one.priority}}, reverse=False)
        for queue in self._channel._lookup(one.exchange, one.routing_key):
            oldest = self._oldest_in(self._channel._q_for_pri(queue, priority))
            if oldest is not None and not _was_published_later(oldest, one):
                return False
        return not any(one.task_id.encode() in held for held in self._held_by_workers())

    def _oldest_in(self, key: str) -> Any:
        if key not in self._oldest:
            raw = self._channel.client.lindex(key, -1)
            self._oldest[key] = None if raw is None else json.loads(raw)
        return self._oldest[key]

    def _held_by_workers(self) -> list[bytes]:
        if self._held is None:
            self._held = list(self._channel.client.hvals(self._channel.unacked_key))
        return self._held


def _was_published_later(message: Any, one: Kept) -> bool:
    headers = message.get("headers") or {}
    at = headers.get(ISSUED_AT)
    # A message without that header may be older: then wait until it has left the queue.
    return headers.get("id") != one.task_id and isinstance(at, int | float) and at > one.issued_at
