"""What a job's handler yields, for one reader: from any chunk on. A lost chunk is reported.

A reader of one job, in the thread of its caller. It reads what workers have kept (`celery_runpod/_store/streams.py`); no
reader takes anything from another.

Not here: many readers in one event loop (``chunk_hub.py``), and how the job itself stands (``watching.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from celery import Celery

from celery_runpod import _stand_ins
from celery_runpod._store.store import store_of
from celery_runpod._store.streams import BATCH, START, Entry
from celery_runpod.errors import InvalidOption

CHUNK, GAP, RETRY = "chunk", "gap", "retry"
MOST_HELD_BYTES = 256_000
"""So much a reader holds at most; or one entry, which may be 1 MB."""
FASTER = 8
"""How many times more entries are asked for than the last time."""
_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True)
class Chunk:
    """One thing that a stream says.

    Attributes:
        id: where it stands in the stream: `stream(after=chunk.id)` goes on behind it.
        output: what the handler has yielded: any JSON. None for a "gap" and a "retry".
        attempt: which run of the handler yielded it: 1, and one more after each "retry".
        event: "chunk"; "gap" where chunks are lost; "retry" where the handler begins again from its start, so that
            what came before it is void.
    """

    id: str
    output: Any = field(default=None, repr=False)
    attempt: int = 1
    event: str = CHUNK


class Source(Protocol):
    """Where chunks are read: the job store, or the fakes of a test."""

    def read(
        self, places: Iterable[tuple[str, str, str]], *, count: int = BATCH, block_s: float = 0.0
    ) -> dict[tuple[str, str], list[Entry]]: ...

    def newest(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entry | None]: ...

    def holds(self, endpoint: str, task_id: str, entry_id: str) -> Entry | None: ...

    def noted(self, endpoint: str, task_id: str) -> int: ...


def is_chunk_id(after: Any) -> bool:
    """Whether this may be the id of a chunk."""
    return isinstance(after, str) and _ID.fullmatch(after) is not None


def checked_id(after: str | None) -> str:
    """The id of a chunk, as the store has it; None: the beginning.

    Raises:
        InvalidOption: it cannot be one.
    """
    if after is None:
        return START
    if not is_chunk_id(after):
        given = after if isinstance(after, str) and len(after) <= 80 and after.isprintable() else type(after).__name__
        raise InvalidOption("after", given, "the id of a Chunk, as '1790000000000-0'")
    return after


class Cursor:
    """The place of one reader in a stream, and the chunks that it gets next."""

    def __init__(self, after: str) -> None:
        self.after = after
        self._last: Entry | None = None
        self._attempt = 1
        self._ended = False
        self._count = 1

    def resume(self, source: Source, endpoint: str, task_id: str) -> None:
        """Find the entry behind which the reader goes on. Without it nobody can say what is missing."""
        if self.after != START:
            self._last = source.holds(endpoint, task_id, self.after)

    def read(self, source: Source, endpoint: str, task_id: str, block_s: float = 0.0) -> list[Entry]:
        """The next entries, for `take`: as many as come to `MOST_HELD_BYTES`, one at least. How many to ask for is known
        from the size of those before, so the first time it is one."""
        place, asked = (endpoint, task_id, self.after), self._count
        found = source.read([place], count=asked, block_s=block_s).get((endpoint, task_id), [])
        if found:
            largest = max(len(entry.text) for entry in found) or 1
            self._count = max(1, min(BATCH, asked * FASTER, MOST_HELD_BYTES // largest))
        return _fitting(found)

    def take(self, entries: Iterable[Entry]) -> list[Chunk]:
        """The entries behind the reader's place, as chunks; a gap where others should stand between."""
        found = []
        for entry in entries:
            if not entry.follows(self._last) or (self._last is None and self.after != START and entry.number):
                found.append(Chunk(self.after, None, entry.attempt, GAP))
            output = json.loads(entry.text) if entry.kind == CHUNK else None
            found.append(Chunk(entry.id, output, entry.attempt, entry.kind))
            self._last, self.after, self._attempt = entry, entry.id, entry.attempt
        return found

    def end(self, source: Source, endpoint: str, task_id: str) -> list[Chunk]:
        """What is left to be said of a job that has ended, behind its last entry: a gap, if they are kept no longer."""
        lost = not self._ended and self._last is None and source.noted(endpoint, task_id) > 0
        self._ended = True
        return [Chunk(self.after, None, self._attempt, GAP)] if lost else []


def _fitting(entries: list[Entry]) -> list[Entry]:
    """The first of these that come to `MOST_HELD_BYTES`, one at least; the others are read again."""
    size = 0
    for place, entry in enumerate(entries):
        size += len(entry.text)
        if place and size > MOST_HELD_BYTES:
            return entries[:place]
    return entries


class ChunkReader:
    """Reads the chunks of one job for one thread. `after`: the id behind which it begins."""

    def __init__(self, app: Celery, task_id: str, after: str) -> None:
        self._app, self._task_id = app, task_id
        self._endpoint: str | None = None
        self._cursor = Cursor(after)

    @cached_property
    def _source(self) -> Source:
        return source_of(self._app)

    def read(self, block_s: float = 0.0) -> list[Chunk]:
        """The next chunks; waits up to `block_s` where there is none.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        if self._endpoint is None:
            self._endpoint = endpoint_of(self._app, self._task_id)
            if self._endpoint is None:
                return []
            self._cursor.resume(self._source, self._endpoint, self._task_id)
        return self._cursor.take(self._cursor.read(self._source, self._endpoint, self._task_id, block_s))

    def rest(self) -> list[Chunk]:
        """The next chunks of a job that has ended; empty after the last one."""
        found = self.read()
        if not found and self._endpoint is not None:
            return self._cursor.end(self._source, self._endpoint, self._task_id)
        return found


def source_of(app: Celery) -> Source:
    """Where the chunks of an app's jobs are read."""
    return _OfFakes(app) if _stand_ins.active() else store_of(app).streams


def endpoint_of(app: Celery, task_id: str) -> str | None:
    """RunPod's id of the job's endpoint; None where no worker has accepted the call yet."""
    return "fake" if _stand_ins.active() else store_of(app).ids.endpoint_of(task_id)


class _OfFakes:
    """The chunks of calls that fakes have taken."""

    def __init__(self, app: Celery) -> None:
        self._results = _stand_ins.results_of(app)

    def read(
        self, places: Iterable[tuple[str, str, str]], *, count: int = BATCH, block_s: float = 0.0
    ) -> dict[tuple[str, str], list[Entry]]:
        found = {}
        for endpoint, task_id, after in places:
            known = int(after.partition("-")[0])
            if entries := self._entries(task_id)[known : known + count]:
                found[endpoint, task_id] = entries
        return found

    def newest(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entry | None]:
        return {place: next(reversed(self._entries(place[1])), None) for place in places}

    def holds(self, endpoint: str, task_id: str, entry_id: str) -> Entry | None:
        return next((entry for entry in self._entries(task_id) if entry.id == entry_id), None)

    def noted(self, endpoint: str, task_id: str) -> int:
        return 0

    def _entries(self, task_id: str) -> list[Entry]:
        found: list[Entry] = []
        attempt, number = 1, 0
        for place, text in enumerate(self._results.chunks(task_id) or (), 1):
            attempt, number = (attempt + 1, 0) if text is None else (attempt, number + 1)
            kind = RETRY if text is None else CHUNK
            found.append(Entry(f"{place}-0", str(attempt), attempt, number, kind, text or ""))
        return found
