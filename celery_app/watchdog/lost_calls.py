"""Finds calls whose message was lost before any worker had accepted it, and publishes their copy.

A message is missing if it is neither held by a worker nor in its queue. kombu keeps one list for each queue and priority,
first in, first out: a message is not in its list if the list is empty, or if its oldest message was published later. So a
look reads the front of each such lane, and not what waits behind it. A message that is missing at two looks is published
again, with doubling pauses. The first copy that arrives is accepted; the others change nothing.

On a cluster a call that was accepted is looked at once more: its record may be lost with its master.

A queue that was purged looks the same as a Redis that lost it, so its calls are published again too. To get rid of them,
cancel them (`celery-runpod purge --calls`, docs/decisions/0015).

A store that was restored from an old snapshot holds copies of calls that were paid for long ago. As far back as this
worker's memory reaches, that would have been noticed (`restored_store.py`). Older calls that were missing for longer than
the unconfirmed window are not submitted, and end with SubmissionUnconfirmed. For that each look notes how old the front
of each lane is: what was published after the front was in its list at that time.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery_app.watchdog.restored_store import Memory
from celery_runpod._protocol import ISSUED_AT, LOST, REPUBLISHED, UNCONFIRMED
from celery_runpod._store.outbox import Kept, Lane
from tasks.services import Services

log = logging.getLogger(__name__)

YOUNG_S = 3.0
"""A younger call is not looked for: most are accepted within milliseconds."""
CONFIRM_S = 1.0
"""The time between the two looks. A message is nowhere for an instant, between its queue and the record of its holder."""
AGAIN_S, AGAIN_CAP_S = 10.0, 600.0
MOST = 500
"""So many calls of a lane are found missing at one look, beside those that are known to be."""
MOST_KNOWN = 5000
MANY = 8
PURGE = "if the queue was purged on purpose, cancel its calls: celery-runpod purge --calls"
"""A Redis that lost its data looks the same as a queue that was purged (docs/decisions/0015)."""
FRONTS = 60
"""So many looks at a lane are remembered over the unconfirmed window."""


@dataclass
class Missing:
    """A message that was not found: since when, when its copy may be published, and as what. Each worker decides once: a
    copy that was published as lost may run at any time."""

    since: float
    times: int = 0
    next_at: float = 0.0
    why: str = ""


class OutboxWatch:
    """One for each worker's watchdog: it remembers what was missing at the last look."""

    def __init__(self, services: Services, memory: Memory) -> None:
        self._services = services
        self._memory = memory
        self._missing: dict[str, Missing] = {}
        self._held = HeldMessages()
        self._noted = True

    def look(self) -> list[str]:
        """Publish the copies of lost calls; returns their task ids."""
        outbox, now = self._services.store.outbox, self._services.clock()
        if again := self._services.store.settle_accepted(now - YOUNG_S):
            log.warning("outbox.accepted_in_vain: a master failed before a replica had them", extra={"task_ids": again})
        lanes = outbox.lanes()
        if not lanes:
            self._missing = {}
            if self._noted:
                outbox.note_fronts({})
            self._noted = False
            return []
        published: list[str] = []
        fronts = outbox.fronts()
        with self._services.app.connection_for_read() as connection:
            channel = connection.default_channel
            missing = self._out_of_their_lists(channel, lanes, fronts, now)
            self._missing = {task_id: self._missing.get(task_id, Missing(now)) for task_id in missing}
            lost = [task_id for task_id in missing if self._is_due(task_id, now)]
            held = self._held.among(channel, lost) if lost else set()
            outbox.note_held(sorted(held), now)
            for task_id in lost:
                if task_id in held:
                    del self._missing[task_id]
                else:
                    lane, one = missing[task_id]
                    self._count(task_id, now)
                    self._publish(connection, lane, one, fronts.get(lane.text, []), now)
                    published.append(task_id)
        outbox.note_fronts(fronts)
        self._noted = True
        if len(published) >= MANY:
            log.warning("outbox.many_published_again", extra={"calls": len(published), "hint": PURGE})
        return published

    def _out_of_their_lists(
        self, channel: Any, lanes: list[Lane], fronts: dict[str, list[tuple[float, float]]], now: float
    ) -> dict[str, tuple[Lane, Kept]]:
        """The calls that are not in the list of their lane; `fronts` is brought up to date."""
        window_s = self._services.settings.unconfirmed_window_s
        for gone in fronts.keys() - {lane.text for lane in lanes}:
            del fronts[gone]
        most = min(MOST + len(self._missing), MOST_KNOWN)
        found: dict[str, tuple[Lane, Kept]] = {}
        for lane in lanes:
            front = front_of(channel, lane)
            if front is not None:
                fronts[lane.text] = noted(fronts.get(lane.text, []), (now, front), window_s)
            until = now - YOUNG_S if front is None else min(now - YOUNG_S, front)
            found |= {one.task_id: (lane, one) for one in self._services.store.outbox.oldest(lane, until, most)}
        return found

    def _is_due(self, task_id: str, now: float) -> bool:
        missing = self._missing[task_id]
        return now - missing.since >= CONFIRM_S and now >= missing.next_at

    def _count(self, task_id: str, now: float) -> None:
        missing = self._missing[task_id]
        missing.next_at = now + min(AGAIN_S * 2**missing.times, AGAIN_CAP_S)
        missing.times += 1

    def _publish(self, connection: Any, lane: Lane, one: Kept, fronts: list[tuple[float, float]], now: float) -> None:
        outbox = self._services.store.outbox
        copy = outbox.copy_of_message(one.task_id)
        if copy is None:
            return  # accepted meanwhile
        seen = [at for at, front in fronts if front <= one.issued_at]
        last_seen = max(one.issued_at, outbox.held_at(one.task_id) or 0.0, *seen)
        sure_from = min(now - self._services.settings.unconfirmed_window_s, self._memory.since)
        missing = self._missing[one.task_id]
        why = missing.why = missing.why or (LOST if last_seen >= sure_from else UNCONFIRMED)
        log.warning("outbox.published_again", extra={"task_id": one.task_id, "missing_s": now - last_seen, "why": why})
        properties = {name: value for name, value in copy["properties"].items() if name not in NOT_REPEATED}
        connection.Producer(serializer="json").publish(
            copy["body"],
            exchange=lane.exchange,
            routing_key=lane.routing_key,
            headers={**copy["headers"], REPUBLISHED: why},
            retry=False,
            **properties,
        )


NOT_REPEATED = frozenset({"delivery_tag", "delivery_info", "body_encoding", "delivery_mode"})
"""Properties that the transport sets itself."""


def front_of(channel: Any, lane: Lane) -> float | None:
    """What was published at this time (s since 1970), or after it, may be in the list of its lane; None: the list is
    empty. Where a lane has several queues, a message may be in the one with the oldest front."""
    priority = channel._get_message_priority({"properties": {"priority": lane.priority}}, reverse=False)
    found = []
    for queue in channel._lookup(lane.exchange, lane.routing_key):
        raw = channel.client.lindex(channel._q_for_pri(queue, priority), -1)
        if raw is not None:
            at = (json.loads(raw).get("headers") or {}).get(ISSUED_AT)
            # A message without that header may be older than any other: then wait until it has left the queue.
            # The store keeps microseconds, so the message itself may seem to be older than itself.
            found.append(at - 1e-6 if isinstance(at, int | float) else 0.0)
    return min(found, default=None)


def noted(fronts: list[tuple[float, float]], latest: tuple[float, float], window_s: float) -> list[tuple[float, float]]:
    """These looks at a lane and the latest one, without those before the window: at most `FRONTS` and one."""
    kept = [one for one in fronts if latest[0] - window_s <= one[0] < latest[0]]
    if len(kept) > 1 and kept[-1][0] - kept[-2][0] < window_s / FRONTS:
        del kept[-1]
    return [*kept, latest]


class HeldMessages:
    """Which messages workers hold, by what kombu's Redis transport notes of each. A message may be 10 MB, so each is read
    once, and none before a call is missing."""

    def __init__(self) -> None:
        self._ids: dict[bytes, frozenset[str]] = {}

    def among(self, channel: Any, task_ids: Iterable[str]) -> set[str]:
        """Those of these task ids whose message a worker holds."""
        tags = [tag for tag, _ in channel.client.zscan_iter(channel.unacked_index_key, count=TAGS_AT_ONCE)]
        self._ids = {tag: self._ids[tag] for tag in tags if tag in self._ids}
        new = [tag for tag in dict.fromkeys(tags) if tag not in self._ids]
        for start in range(0, len(new), MESSAGES_AT_ONCE):
            some = new[start : start + MESSAGES_AT_ONCE]
            for tag, message in zip(some, channel.client.hmget(channel.unacked_key, some), strict=True):
                if message is not None:
                    self._ids[tag] = frozenset(json.loads(one) for one in _ID.findall(message))
        held = {one for ids in self._ids.values() for one in ids}
        return held.intersection(task_ids)


TAGS_AT_ONCE, MESSAGES_AT_ONCE = 1000, 20
_ID = re.compile(rb'"id": ?("(?:[^"\\]|\\.)*")')
"""The header `id` in a message's JSON. Its body has no quotes: kombu writes it in base64."""
